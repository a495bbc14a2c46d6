"""Starts the real service on a free loopback port over a run of `small_champion`, as `bentoml serve` or whole
as `alphaloop serve` does, and stops it again.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from serving.processes.plan import PLAN_VARIABLE
from tests.serving.small_champion import SmallRun

START_S = 240.0
ROOT = Path(__file__).parents[2]
_SERVE = """
import sys
from components.contracts import AlphaloopError
from serving.processes.launch import serve
from serving.processes.plan import read_plan
try:
    serve(read_plan(sys.argv[1]), say=lambda text: print(text, flush=True))
except AlphaloopError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""
_TRIAL = {
    "period": "1d",
    "target": "log_return",
    "test_start": "2024-01-01T00:00:00Z",
    "test_end": "2024-02-01T00:00:00Z",
}


@contextlib.contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[tuple[subprocess.Popen, int]]:
    """A Redis server of our own on a loopback port, without persistence."""
    port = port or free_port()
    command = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port), what="the Redis server")
        yield server, port
    finally:
        server.kill()
        server.wait(timeout=20)


def listens(port: int) -> bool:
    """Whether somebody takes connections on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Live:
    """A running service: a client on its address, its process, and the file with all that it printed."""

    client: httpx.Client
    process: subprocess.Popen
    log: Path
    url: str

    def signals(self, *symbols: str) -> httpx.Response:
        """POST /signals."""
        return self.client.post("/signals", json={"symbols": list(symbols)})

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels; 0 where there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = re.findall(
            rf"^alphaloop_{name}(\{{[^}}]*\}})? (\S+)$", self.client.get("/metrics").text, flags=re.MULTILINE
        )
        return sum(float(value) for found, value in samples if all(label in found for label in wanted))

    def status(self) -> dict[str, Any]:
        """GET /status."""
        return self.client.get("/status").json()

    def check(self, name: str) -> dict[str, Any]:
        """One check of /status."""
        return next(
            (check for check in self.status()["checks"] if check["name"] == name), {"ok": None, "reason": ""}
        )

    def ready(self) -> bool:
        """GET /readyz."""
        return self.client.get("/readyz").status_code == 200


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], *, seconds: float = 120.0, what: str = "the condition") -> Any:
    """Wait until the condition is true and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            value = condition()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds:.0f} s")


@contextlib.contextmanager
def live_service(
    plan: Path,
    *,
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """The service of a plan, ready unless `ready` is False; then only alive."""
    port = free_port()
    log = plan.parent / f"service-{port}.log"
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "serving.service:SignalService",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    variables = {
        **os.environ,
        PLAN_VARIABLE: str(plan),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(plan.parent / "bentoml"),
        **(environment or {}),
    }
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=120, headers=dict(headers or {})) as client:
        live = Live(client, process, log, url)
        try:
            until(
                lambda: (
                    process.poll() is not None
                    or client.get("/readyz" if ready else "/livez").status_code == 200
                ),
                seconds=START_S,
                what=f"the service (log {log})",
            )
            assert process.poll() is None, log.read_text()
            yield live
        finally:
            stop(process)


def stop(process: subprocess.Popen) -> None:
    """End the service and its workers, which are in process groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        workers = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([psutil.Process(process.pid), *workers], timeout=15)
        for left in alive:
            left.kill()
    process.wait(timeout=15)


class Served:
    """`serve` of a plan as a process: service, champion watcher and log writer.

    `lines` is what it has said so far.
    """

    def __init__(
        self,
        plan: Path,
        environment: Mapping[str, str] | None = None,
        working_folder: Path = ROOT,
        first: str = "",
    ) -> None:
        """`first`: a statement that the process runs before it serves."""
        safe = [] if working_folder == ROOT else ["-P"]
        command = [sys.executable, *safe, "-c", f"{first}\n{_SERVE}", str(plan)]
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(
            command,
            cwd=working_folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=variables,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def said(self, pattern: str, since: int = 0) -> bool:
        """Whether a line matches, of those after the first `since`."""
        return any(re.search(pattern, line) for line in self.lines[since:])

    def wait_for(self, pattern: str, since: int = 0) -> None:
        """Wait until such a line was said."""
        until(
            lambda: self.said(pattern, since) or self.process.poll() is not None,
            seconds=START_S,
            what=f"the line {pattern!r}",
        )
        assert self.said(pattern, since), self.lines

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(120)
            finally:
                self.process.kill()
        self.reader.join(10)


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines of the live processes that were started for a run folder, by their environment."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (
                f"{PLAN_VARIABLE}={folder}/".encode() in (place / "environ").read_bytes()
                and (place / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            ):
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def pid_of(folder: Path, word: str) -> int:
    """The oldest process of a run folder with this word in its command line."""
    return min(pid for pid, command in processes_of(folder).items() if word in command)


def register(run: SmallRun, bundle: Path, *, beats: bool = True, server: str = "") -> int:
    """Register a bundle in the run's registry, or in the MLflow `server`, as champion where it `beats` the
    present one; returns its version.
    """
    from components.contracts.documents.verdict import Verdict, VerdictStamp
    from components.registry.config import Settings as RegistrySettings
    from components.registry.register import register_model
    from components.registry.trials import Trial
    from tests.registry.made_documents import nothing_scored

    verdict = Verdict(
        candidate="stack",
        champion_version=None,
        approved=True,
        beats_champion=beats,
        reason="first",
        gates=(),
        stamp=VerdictStamp(code_version="c", config_hash="h"),
    )
    return register_model(
        RegistrySettings(tracking_uri=server),
        "small",
        run.folder / "registry",
        bundle=bundle,
        verdict=verdict,
        trial=Trial(**_TRIAL),
        scored=nothing_scored(),
    ).version
