"""Runs schemathesis, as its command line does, over the description of a running service."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.live_service import Live

KEY, KEY_VARIABLE = "fuzz-key", "ALPHALOOP_FUZZ_KEY"
# Not asked: whether all that the description allows is answered. It can't say that no symbol and moment may
# occur twice, or lie in the future.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
LONGEST_ANSWER_S, LONGEST_RUN_S = 10, 900


@dataclass(frozen=True)
class Found:
    """Requests sent, what was found wrong, and all that schemathesis said."""

    requests: int
    failures: list[dict[str, Any]]
    text: str
    seconds: float


def fuzz(live: Live, examples: int) -> Found:
    """At most `examples` drawn requests an operation, besides those that cover each rule of the description.

    The same ones every time.
    """
    before = live.metric("requests_total")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"{live.url}/openapi.json",
            "--header",
            f"Authorization: Bearer {KEY}",
        ]
        command += [
            "--max-examples",
            str(examples),
            "--generation-deterministic",
            "--no-shrink",
            "--continue-on-failure",
            "--suppress-health-check",
            "all",
        ]
        command += [
            "--request-timeout",
            str(LONGEST_ANSWER_S),
            "--max-response-time",
            str(LONGEST_ANSWER_S),
            "--checks",
            ",".join(CHECKS),
        ]
        command += ["--report", "json", "--report-json-path", str(report), "--no-color"]
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_RUN_S, check=False
        )
        assert report.exists(), f"{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        told = json.loads(report.read_text())
    assert told["complete"], ended.stdout[-3000:]
    return Found(
        int(live.metric("requests_total") - before),
        [*told["failures"], *told["errors"]],
        ended.stdout,
        told["running_time"],
    )
