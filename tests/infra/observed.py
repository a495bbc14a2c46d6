"""A real Prometheus on loopback that scrapes the service's own metrics from a small process and evaluates the
project's rules.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "prometheus"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
WAIT_S = 300
# What Prometheus answers while it starts.
NOT_READY = 503
# What the service declares, with some traffic; nothing of the service runs.
ENDPOINT = """
import sys, threading, time
from prometheus_client import start_http_server
from serving.live.metrics import make_metrics
m = make_metrics()
m.champion_version.set(3); m.ready.set(1); m.queue.set(2)
m.log_queued.set(1); m.log_writer_up.set(1); m.champion_watch_up.set(1)
m.feature_age_seconds.set(3600); m.snapshot_age_seconds.set(2); m.symbols_behind.set(1)
m.feature_shift_ks.labels("largest").set(0.12); m.feature_shift_ks.labels("mean").set(0.03)
start_http_server(int(sys.argv[1]), "127.0.0.1")
rows = 0
while True:
    for endpoint in ("signals", "score"):
        m.infer_seconds.labels(endpoint).observe(0.0012)
        m.request_seconds.labels(endpoint).observe(0.0024)
        m.requests.labels(endpoint, "ok").inc()
    m.requests.labels("score", "unknown_symbol").inc(); m.store_reads.labels("ok").inc()
    rows += 2; m.log_rows_written.set(rows)
    time.sleep(0.1)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """Asks a running server over its HTTP interface."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer; an error of the server is an assertion with its words."""
        try:
            with urllib.request.urlopen(
                f"{self.address}{path}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            words = error.read().decode()
            if error.code == NOT_READY:
                raise ConnectionError(words) from None
            raise AssertionError(f"{parameters}: {words}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return self.get("/api/v1/query", query=expression)["result"]

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Ask until there is an answer."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                found = self.query(expression)
                if found:
                    return found
            time.sleep(0.2)
        raise AssertionError(f"no answer within {WAIT_S} s: {expression}")


@contextmanager
def observed_service(folder: Path) -> Iterator[Prometheus]:
    """Prometheus with the project's config, only target and pace changed, after it has seen some traffic."""
    target, port = free_port(), free_port()
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(FOLDER / "rules.yml", folder)
    server = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    started = []
    try:
        with (folder / "log").open("w") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", ENDPOINT, str(target)], cwd=ROOT, stdout=log, stderr=log
                )
            )
            started.append(subprocess.Popen(server, stdout=log, stderr=log))
        prometheus = Prometheus(port)
        prometheus.wait_for("infer_p95_ms and on (job) (count_over_time(alphaloop_ready[1m]) > 3)")
        prometheus.wait_for("refused_share")
        prometheus.wait_for("swaps_per_hour")
        yield prometheus
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(15)
