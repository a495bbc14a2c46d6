"""Ray on this machine with three raylets, as three machines would be, and how one of them is killed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from components.spread.attempts import LOGS, read_attempts

STORE_BYTES = 80 * 2**20
TRIES = 4
# For machines whose cores others have: Ray gives up on a process that takes its time, and has its workers
# wait for all others. A raylet that is killed is noticed all the same, by connections that are refused.
PATIENCE = {
    "worker_niceness": "0",
    "agent_register_timeout_ms": "300000",
    "worker_register_timeout_seconds": "300",
    "gcs_server_request_timeout_seconds": "300",
    "health_check_timeout_ms": "60000",
}


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Killed:
    """The folder's name of the piece that was under way."""

    piece = ""


class Raylets:
    """Three raylets of a core each while entered."""

    def __init__(self, folder: Path, setenv: Callable[[str, str], None]):
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.write_text("5eed" * 16)
        setenv("RAY_AUTH_TOKEN_PATH", str(token))
        setenv("RAY_AUTH_MODE", "token")
        setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in PATIENCE.items():
            setenv(f"RAY_{name}", value)

    def __enter__(self) -> "Raylets":
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._nodes = [self._node() for _ in range(3)]
        return self

    def _node(self, tries: int = TRIES):
        """A raylet; Ray gives up on one that does not answer within 30 s, as where others have the cores."""
        try:
            return self._cluster.add_node(
                num_cpus=1, object_store_memory=STORE_BYTES, include_dashboard=False
            )
        except Exception:
            if tries == 1:
                raise
            return self._node(tries - 1)

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return self._cluster.address

    @contextmanager
    def killing_one_at_work(self, out: Path, gate: Path) -> Iterator[Killed]:
        """Kill -9 the raylet of an attempt that the log shows under way in `out`, not that of the head, once
        three are; then take the gate away, which all attempts wait at.
        """
        killed = Killed()
        killer = threading.Thread(target=self._kill, args=(out, gate, killed))
        killer.start()
        yield killed
        killer.join()

    def _kill(self, out: Path, gate: Path, killed: Killed) -> None:
        until(lambda: len(_under_way(out)) == 3)
        mine = {_raylet(node) for node in self._nodes[1:]}
        for name, worker in _under_way(out).items():
            raylet = psutil.Process(worker).ppid()
            if raylet in mine and not killed.piece:
                killed.piece = name
                os.kill(raylet, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(_under_way(out)[killed.piece]))
        gate.unlink()


def _under_way(out: Path) -> dict[str, int]:
    """The process by the name of each piece whose last attempt did not end."""
    logs = sorted((out / LOGS).glob("*.jsonl"))
    last = {log.stem: (read_attempts(out / log.stem) or [{"event": ""}])[-1] for log in logs}
    return {name: line["process"] for name, line in last.items() if line["event"] == "began"}


def _raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid
