"""What a run leaves behind when it ends: after a failure a page that says where, why and what to do; after a
success none.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.page import write_page

FAILURE = "failure.html"


@dataclass(frozen=True)
class Said:
    """What a stage said when it failed or warned."""

    stage: str
    message: str


def close_run(folder: Path, *, failed: bool, message: str, events: Path | None) -> Path | None:
    """Write `failure.html` into `folder` if the run failed, remove an old one if it did not.

    Parameters
    ----------
    message : what the orchestrator says of the failure, used where there are no events
    events : the run's event lines, or None on a cluster
    """
    target = folder / FAILURE
    if not failed:
        target.unlink(missing_ok=True)
        return None
    lines = _read(events)
    failures = _said(lines, "failed") or [Said("unknown", message or "no reason was given")]
    done = [
        (event["stage"], f"{event['seconds']:.1f}")
        for event in lines
        if event["event"] == "finished" and event["stage"] != "close"
    ]
    warnings = _said(lines, "warned")
    return write_page(target, "report/closing.html", failure=failures[0], warnings=warnings, done=done)


def _read(events: Path | None) -> list[dict[str, Any]]:
    if events is None or not events.exists():
        return []
    return [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]


def _said(lines: list[dict[str, Any]], kind: str) -> list[Said]:
    return [Said(event["stage"], event["message"]) for event in lines if event["event"] == kind]
