"""`alphaloop serve`: starts the BentoML service, the champion watcher and the log writer, starts again what
dies, and stops all in order.

The three are separate processes so that a slow registry, a full disk or a killed writer never touches an
answer.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, OutputError
from serving.api.auth import require_safe_binding
from serving.processes.child import die_with_parent
from serving.processes.plan import LAUNCHER_VARIABLE, PLAN_VARIABLE, Plan, write_plan

# BentoML and MLflow phone home by default; threads that wait must not spin on shared cores.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONWARNINGS": "ignore",
}
_POLL_S = 0.1
_LOOK_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SOUND_AFTER_S = 30.0
_STOP_S = {"service": 8.0, "champion watcher": 3.0, "log writer": 15.0}
_WAIT_FOR_REASON_S = 10.0
_LAST_WORDS = 6


class LaunchError(AlphaloopError):
    """The service can't be started as asked."""


@dataclass
class _Child:
    """One process that is kept alive.

    `log` takes its output; None: it writes to our own. `ends_by`: the signal that it gets when we die.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    ends_by: int = signal.SIGTERM
    process: subprocess.Popen | None = None
    began: float = 0.0
    pause_s: float = field(default=_FIRST_PAUSE_S)
    start_at: float = 0.0

    def start(self) -> None:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output or sys.stderr.fileno(),
                stderr=output or sys.stderr.fileno(),
                start_new_session=True,
                preexec_fn=partial(die_with_parent, self.ends_by),  # noqa: PLW1509 (this process starts no threads)
            )
        self.began = time.monotonic()

    def signal(self, number: int, *, group: bool = False) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, number)


def serve(plan: Plan, *, say: Callable[[str], None] = print) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Parameters
    ----------
    plan : what to serve; its folder is made absolute and it is written to `serving/plan.json`
    say : takes each line that is for the person at the terminal

    Raises
    ------
    LaunchError
        If the run folder has no registry, the port is taken, or another `serve` runs on the same folder.
    UnsafeBinding
        If the host is not a loopback address and no API key is set.
    """
    host = "127.0.0.1" if plan.serving.host == "localhost" else plan.serving.host
    plan = replace(
        plan, folder=plan.folder.absolute(), serving=plan.serving.model_copy(update={"host": host})
    )
    require_safe_binding(plan.serving)
    _require_registry(plan)
    with _only_serve(plan), _stop_signals() as stop:
        _require_free_port(plan.serving.host, plan.serving.port)
        path = write_plan(plan)
        _adopt_orphans()
        children = _children(plan, path)
        say(f"Starting on {address(plan)}; the service's log is {children[0].log}")
        try:
            for child in children:
                child.start()
            _attend(plan, children, stop, say)
        finally:
            _stop(children, stop, say)


def address(plan: Plan) -> str:
    """Where the service answers, as a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plan.serving.host, plan.serving.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{plan.serving.port}"


def _children(plan: Plan, path: Path) -> list[_Child]:
    # BentoML empties the metrics folder in its home at each start: two services of one user would wipe each
    # other's.
    environment = {
        **os.environ,
        **_ENVIRONMENT,
        PLAN_VARIABLE: str(path),
        LAUNCHER_VARIABLE: str(os.getpid()),
        "BENTOML_HOME": str(plan.serving_folder / "bentoml"),
    }
    service = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "serving.service:SignalService",
        "--host",
        plan.serving.host,
        "--port",
        str(plan.serving.port),
    ]
    log = plan.serving_folder / "service.log"
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.1"))
    return [
        # BentoML loses a SIGTERM that comes while it starts; its workers end with it (serving/service.py).
        _Child("service", service, environment, log, ends_by=signal.SIGKILL),
        _Child(
            "champion watcher",
            [sys.executable, "-m", "serving.processes.registry_follower", str(path)],
            environment,
        ),
        _Child("log writer", [sys.executable, "-m", "serving.processes.log_writer", str(path)], environment),
    ]


def _attend(
    plan: Plan, children: Sequence[_Child], stop: threading.Event, say: Callable[[str], None]
) -> None:
    """Start again what ends, and tell when the service becomes ready or stops being so."""
    told, looked, began = None, 0.0, time.monotonic()
    while not stop.wait(_POLL_S):
        now = time.monotonic()
        for child in children:
            _keep_alive(child, now, say)
        _reap_orphans(children)
        if now - looked >= (_LOOK_S if told is None else 2 * _LOOK_S):
            looked = now
            ready, words = readiness(plan)
            # Before the first answer everything is not ready; say so only where it lasts.
            if (ready, words) != told and (ready or told is not None or now - began > _WAIT_FOR_REASON_S):
                told = (ready, words)
                say(f"{'Ready' if ready else 'Not ready'}: {words}")


def _keep_alive(child: _Child, now: float, say: Callable[[str], None]) -> None:
    if child.process is not None:
        code = child.process.poll()
        if code is None:
            return
        if now - child.began > _SOUND_AFTER_S:
            child.pause_s = _FIRST_PAUSE_S
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        words = _last_words(child.log) if code > 0 else ""
        say(f"The {child.name} {ended}; starting it again in {child.pause_s:g} s{words}")
        child.process, child.start_at = None, now + child.pause_s
        child.pause_s = min(child.pause_s * 2, _LONGEST_PAUSE_S)
    elif now >= child.start_at:
        child.start()


def readiness(plan: Plan) -> tuple[bool, str]:
    """Whether the service is ready, and in one line what it serves or why it is not."""
    status = _ask(plan, "/status")
    if status is None:
        return False, f"{address(plan)} does not answer yet; see {plan.serving_folder / 'service.log'}"
    model = _ask(plan, "/model") if status.get("ready") else None
    if model is not None:
        return (
            True,
            (
                f"{address(plan)}  champion {model['name']} version {model['version']}"
                f" ({str(model['bundle_sha256'])[:12]})"
            ),
        )
    return False, "; ".join(_reasons(status)) or "GET /status says why"


def _reasons(status: Mapping[str, Any]) -> list[str]:
    """What each check of GET /status that does not hold says."""
    checks = status.get("checks") or []
    return [
        str(check.get("reason") or check.get("name"))
        for check in checks
        if isinstance(check, dict) and not check.get("ok")
    ]


def _ask(plan: Plan, path: str) -> dict[str, Any] | None:
    keys = plan.serving.api_keys()
    host = address(plan).removeprefix("http://").rsplit(":", 1)[0].strip("[]")
    connection = http.client.HTTPConnection(host, plan.serving.port, timeout=2)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {keys[0]}"} if keys else {})
        value = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return value if isinstance(value, dict) and "error" not in value else None


def _stop(children: Sequence[_Child], stop: threading.Event, say: Callable[[str], None]) -> None:
    """End the service first, so that the log writer finds all that it wrote."""
    stop.clear()
    say("Stopping; Ctrl-C once more to stop at once")
    service, watcher, writer = children
    for group in ((service, watcher), (writer,)):
        for child in group:
            child.signal(signal.SIGTERM)
        for child in group:
            _wait(child, _STOP_S[child.name], stop)
        _reap_orphans(children)
    spool = service.log.parent / "spool" if service.log else None
    left = sum(1 for _ in spool.glob("*.segment")) if spool else 0
    say(
        f"Stopped; {left} segments of the answer log wait in {spool} for the next start"
        if left
        else "Stopped"
    )


def _wait(child: _Child, seconds: float, hurry: threading.Event) -> None:
    deadline = time.monotonic() + seconds
    while child.process is not None and child.process.poll() is None:
        if time.monotonic() > deadline or hurry.is_set():
            child.signal(signal.SIGKILL, group=True)
            child.process.wait()
            return
        time.sleep(0.02)


def _last_words(log: Path | None) -> str:
    if log is None:
        return ""
    with log.open("rb") as handle:
        handle.seek(max(handle.seek(0, os.SEEK_END) - 4096, 0))
        lines = handle.read().decode("utf-8", errors="replace").splitlines()
    return f". Its last words ({log}):\n" + "\n".join(lines[-_LAST_WORDS:])


def _require_registry(plan: Plan) -> None:
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
def _only_serve(plan: Plan) -> Iterator[None]:
    try:
        plan.serving_folder.mkdir(parents=True, exist_ok=True)
        handle = (plan.serving_folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(
            f"{plan.serving_folder} can't be written: {error.strerror}. Set run.folder to a folder that you"
            " may write."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"Another `alphaloop serve` runs on {plan.folder}. Stop it first, or serve another run folder"
                " (run.folder) on another port (serving.port)."
            ) from None
        yield


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; what they did before is put back afterwards."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_SET_CHILD_SUBREAPER = 36


def _adopt_orphans() -> None:
    """Become the parent of workers whose BentoML parent was killed: they would go on to hold the port."""
    if _LIBC is not None:
        _LIBC.prctl(_SET_CHILD_SUBREAPER, 1)


def _reap_orphans(children: Sequence[_Child]) -> None:
    """Kill processes that have become ours but are none of the children."""
    if _LIBC is None:
        return
    known = {child.process.pid for child in children if child.process is not None}
    with contextlib.suppress(OSError):
        pids = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        for pid in (int(text) for text in pids):
            if pid not in known:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
