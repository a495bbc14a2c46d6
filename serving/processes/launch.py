"""`alphaloop serve`: starts the BentoML service, the champion watcher, the log writer and, where what lasts
lies at an address, the store mirror; starts again what dies, and stops all in order.

They are separate processes so that a slow registry or store, a full disk or a killed writer never touches an
answer.
"""

import contextlib
import math
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from components.contracts import AlphaloopError, OutputError
from components.processes.endings import KILL, adopt_orphans, ending_signals
from components.processes.imports import HOUSE, own_modules_only, python_module
from components.processes.locks import LockHeld, take_lock
from serving.api.auth import require_safe_binding
from serving.processes.kept_alive import KeptAlive, reap_orphans
from serving.processes.killed import MemoryWatch, WorkerWatch
from serving.processes.plan import LAUNCHER_VARIABLE, PLAN_VARIABLE, ServingPlan, write_plan
from serving.processes.readiness import address, readiness

# BentoML, MLflow and ONNX Runtime phone home by default; threads that wait must not spin on shared cores.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "FEAST_USAGE": "False",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONWARNINGS": "ignore",
}
_POLL_S = 0.1
_LOOK_S = 0.5
_STOP_S = {"service": 8.0, "champion watcher": 3.0, "log writer": 15.0, "store mirror": 30.0}
# Longer than proxies keep theirs (nginx: 60 s), so that none sends a request into a connection that we close.
_KEEP_ALIVE_S = 75
_WAIT_FOR_REASON_S = 10.0


class LaunchError(AlphaloopError):
    """The service can't be started as asked."""


def serve(plan: ServingPlan, *, say: Callable[[str], None] = print) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP.

    Parameters
    ----------
    plan : what to serve; its folder is made absolute and it is written to `serving/plan.json`
    say : takes each line that is for the person at the terminal

    Raises
    ------
    LaunchError
        If the run folder has no registry, the port is or gets taken by another, or another `serve` runs on
        the same folder.
    UnsafeBinding
        If the host is not a loopback address and no API key is set.
    """
    host = "127.0.0.1" if plan.serving.host == "localhost" else plan.serving.host
    plan = replace(
        plan,
        folder=plan.folder.absolute(),
        serving=plan.serving.model_copy(update={"host": host}),
        instance=secrets.token_hex(8),
    )
    require_safe_binding(plan.serving)
    _require_registry(plan)
    with _only_serve(plan), _stop_signals() as stop:
        _require_free_port(plan.serving.host, plan.serving.port)
        path = write_plan(plan)
        # Workers whose BentoML parent was killed would go on to hold the port.
        adopt_orphans()
        children = _children(plan, path)
        say(f"Starting on {address(plan)}; the service's log is {children[0].log}")
        say(_who_may_ask(plan))
        try:
            for child in children:
                child.start()
            _attend(plan, children, stop, say)
        finally:
            _stop(plan, children, stop, say)


def _children(plan: ServingPlan, path: Path) -> list[KeptAlive]:
    # BentoML empties the metrics folder in its home at each start: two services of one user would wipe each
    # other's.
    environment = {
        **own_modules_only(),
        **_ENVIRONMENT,
        PLAN_VARIABLE: str(path),
        LAUNCHER_VARIABLE: str(os.getpid()),
        "BENTOML_HOME": str(plan.serving_folder / "bentoml"),
    }
    # BentoML puts its working folder before all others on the path of its workers.
    where = ["--working-dir", str(HOUSE), "--host", plan.serving.host, "--port", str(plan.serving.port)]
    waits = ["--timeout-keep-alive", str(_KEEP_ALIVE_S)]
    waits += ["--timeout-graceful-shutdown", str(_last_answers_s(plan))]
    service = python_module("bentoml", "serve", "serving.service:SignalService", *where, *waits)
    log = plan.serving_folder / "service.log"
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.1"))
    mirror = KeptAlive(
        "store mirror", python_module("serving.processes.store_mirror", str(path)), environment
    )
    return [
        # BentoML loses a SIGTERM that comes while it starts; its workers end with it (serving/service.py).
        KeptAlive("service", service, environment, log, ends_by=KILL),
        KeptAlive(
            "champion watcher",
            python_module("serving.processes.registry_follower", str(path)),
            environment,
        ),
        KeptAlive("log writer", python_module("serving.processes.log_writer", str(path)), environment),
        *([mirror] if plan.mirrored else []),
    ]


def _attend(
    plan: ServingPlan, children: Sequence[KeptAlive], stop: threading.Event, say: Callable[[str], None]
) -> None:
    """Start again what ends, and tell when the service becomes ready or stops being so."""
    told, looked, began = None, 0.0, time.monotonic()
    service, workers, memory = children[0], WorkerWatch(), MemoryWatch()
    while not stop.wait(_POLL_S):
        now = time.monotonic()
        if service.waits_to_start(now):
            # Whoever took it while no service of ours held it keeps it.
            _require_free_port(plan.serving.host, plan.serving.port)
        for child in children:
            child.keep(now, say)
        reap_orphans(children)
        if now - looked >= (_LOOK_S if told is None else 2 * _LOOK_S):
            looked = now
            for worker in workers.vanished(service.process.pid if service.process else None):
                say(f"A worker of the service (process {worker}) ended; another one starts. {memory.words()}")
            ready, words = readiness(plan)
            # Before the first answer everything is not ready; say so only where it lasts.
            if (ready, words) != told and (ready or told is not None or now - began > _WAIT_FOR_REASON_S):
                told = (ready, words)
                say(f"{'Ready' if ready else 'Not ready'}: {words}")


def _stop(
    plan: ServingPlan, children: Sequence[KeptAlive], stop: threading.Event, say: Callable[[str], None]
) -> None:
    """End the service first, so that the log writer finds all that it wrote, and the store mirror last."""
    stop.clear()
    answering = (
        f": not ready any more, but answering for {plan.serving.drain_seconds:g} s (serving.drain_seconds)"
        if children[0].process is not None
        else ""
    )
    say(f"Stopping{answering}; Ctrl-C once more to stop at once")
    longest_s = _STOP_S | {"service": plan.serving.drain_seconds + _last_answers_s(plan) + _STOP_S["service"]}
    service, watcher, writer, *mirror = children
    for group in ((service, watcher), (writer,), mirror):
        for child in group:
            child.signal(signal.SIGTERM)
        for child in group:
            child.wait(longest_s[child.name], stop)
        reap_orphans(children)
    spool = service.log.parent / "spool" if service.log else None
    left = sum(1 for _ in spool.glob("*.segment")) if spool else 0
    say(
        f"Stopped; {left} segments of the answer log wait in {spool} for the next start"
        if left
        else "Stopped"
    )


def _who_may_ask(plan: ServingPlan) -> str:
    variable = plan.serving.api_key_variable
    if plan.serving.api_keys():
        return f"Clients send a key of {variable} as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    return (
        "Programs on this machine may ask without a key (serving.keyless); behind a proxy, or for others, set"
        f" {variable}"
    )


def _last_answers_s(plan: ServingPlan) -> int:
    """How long answers under way may take once no more are begun."""
    return math.ceil(plan.serving.request_timeout_ms / 1000) + 1


def _require_registry(plan: ServingPlan) -> None:
    if not plan.registry.tracking_uri and not (plan.folder / "registry" / "mlflow.db").is_file():
        raise LaunchError(
            f"There is no registry in {plan.folder / 'registry'}, so no model can be served. Train one with"
            " `alphaloop run` and the same config, or set registry.tracking_uri to your MLflow server."
        )


def _require_free_port(host: str, port: int) -> None:
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as error:
        raise LaunchError(
            f"Can't listen on {host}:{port}: {error.strerror or error}. Stop what listens there, or choose"
            " another: --set serving.port=3001."
        ) from None


@contextlib.contextmanager
def _only_serve(plan: ServingPlan) -> Iterator[None]:
    try:
        plan.serving_folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(plan.serving_folder / ".lock")
    except LockHeld:
        raise LaunchError(
            f"Another `alphaloop serve` runs on {plan.folder}. Stop it first, or serve another run folder"
            " (run.folder) on another port (serving.port)."
        ) from None
    except OSError as error:
        raise OutputError(
            f"{plan.serving_folder} can't be written: {error.strerror}. Set run.folder to a folder that you"
            " may write."
        ) from error
    with lock:
        yield


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP set the event; what they did before is put back afterwards."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in ending_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
