"""Starts the real service, `bentoml serve` on a free loopback port, over a run of `small_champion`, and stops it again."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from serving.plan import PLAN_VARIABLE

START_S = 120.0


@contextlib.contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[tuple[subprocess.Popen, int]]:
    """A Redis server of our own on a loopback port, without persistence."""
    port = port or free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
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
        samples = re.findall(rf"^alphaloop_{name}(\{{[^}}]*\}})? (\S+)$", self.client.get("/metrics").text, flags=re.MULTILINE)
        return sum(float(value) for found, value in samples if all(label in found for label in wanted))

    def status(self) -> dict[str, Any]:
        """GET /status."""
        return self.client.get("/status").json()

    def check(self, name: str) -> dict[str, Any]:
        """One check of /status."""
        return next((check for check in self.status()["checks"] if check["name"] == name), {"ok": None, "reason": ""})

    def ready(self) -> bool:
        """GET /readyz."""
        return self.client.get("/readyz").status_code == 200


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], *, seconds: float = 20.0, what: str = "the condition") -> Any:
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
def live_service(plan: Path, *, environment: Mapping[str, str] | None = None, ready: bool = True, headers: Mapping[str, str] | None = None) -> Iterator[Live]:
    """The service of a plan, ready unless `ready` is False; then only alive."""
    port = free_port()
    log = plan.parent / f"service-{port}.log"
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:SignalService", "--host", "127.0.0.1", "--port", str(port)]
    variables = {**os.environ, PLAN_VARIABLE: str(plan), "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(plan.parent / "bentoml"), **(environment or {})}
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=variables, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=20, headers=dict(headers or {})) as client:
        live = Live(client, process, log, url)
        try:
            until(lambda: process.poll() is not None or client.get("/readyz" if ready else "/livez").status_code == 200, seconds=START_S, what=f"the service (log {log})")
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
