"""Ray on this machine with three raylets, as three machines would be, and how one of them is killed."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from components.spread.attempts import LOGS, read_attempts
from components.spread.on_ray import STARTS, TOO_SLOW
from tests.serving.live_service import free_port

STORE_BYTES = 80 * 2**20
# For machines whose cores others have: Ray gives up on a process that takes its time, and has its workers
# wait for all others. A raylet that is killed is noticed all the same, by connections that are refused.
PATIENCE = {
    "worker_niceness": "0",
    "agent_register_timeout_ms": "300000",
    "worker_register_timeout_seconds": "300",
    "gcs_server_request_timeout_seconds": "300",
    "health_check_timeout_ms": "60000",
}


def until(true: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Killed:
    """The folder's name of the piece that was under way."""

    piece = ""


class Raylets:
    """Three raylets of so many cores each while entered."""

    def __init__(self, folder: Path, setenv: Callable[[str, str], None], cores: int = 1):
        self._cores = cores
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
        self._port = free_port()
        self._nodes = [self._node({"ray_client_server_port": self._port}), self._node({}), self._node({})]
        return self

    def _node(self, more: Mapping[str, int], tries: int = STARTS):
        """A raylet; another try where it is too slow for Ray, as where others have the cores."""
        before = set(psutil.Process().children())
        try:
            return self._cluster.add_node(
                num_cpus=self._cores, object_store_memory=STORE_BYTES, include_dashboard=False, **more
            )
        except Exception as error:
            if TOO_SLOW not in str(error) or tries == 1:
                raise
            # It must not join later, as a fourth one. Its own processes alone: a raylet that loses one of its
            # agents, which it starts by and by, ends as well.
            for late in set(psutil.Process().children()) - before:
                gone = [late, *late.children(recursive=True)]
                for process in gone:
                    process.kill()
                psutil.wait_procs(gone)
            return self._node(more, tries - 1)

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return self._cluster.address

    @property
    def address_from_outside(self) -> str:
        """For a driver that is no node of the cluster."""
        return f"ray://127.0.0.1:{self._port}"

    @contextmanager
    def killing_one_at_work(self, out: Path, gate: Path) -> Iterator[Killed]:
        """Kill -9 the raylet of an attempt that the log shows under way in `out`, not that of the head, once
        three are; then take the gate away, which all attempts wait at.
        """
        killed = Killed()
        with ThreadPoolExecutor(1) as other:
            killing = other.submit(self._kill, out, gate, killed)
            yield killed
            killing.result()

    def kill_raylet_of(self, workers: Sequence[psutil.Process]) -> None:
        """Kill -9 the raylet of one of these workers, not that of the head."""
        raylets = {raylet.pid: raylet for raylet in map(_raylet, self._nodes[1:])}
        raylet = next(raylets[worker.ppid()] for worker in workers if worker.ppid() in raylets)
        raylet.kill()
        raylet.wait()

    def _kill(self, out: Path, gate: Path, killed: Killed) -> None:
        try:
            until(lambda: len(_under_way(out)) == 3)
            raylets = {raylet.pid: raylet for raylet in map(_raylet, self._nodes[1:])}
            workers = {name: psutil.Process(number) for name, number in _under_way(out).items()}
            killed.piece, worker = next(one for one in workers.items() if one[1].ppid() in raylets)
            raylet = raylets[worker.ppid()]
            raylet.kill()
            # As long as nobody has asked how it ended, its workers believe that it lives.
            raylet.wait()
            until(lambda: not worker.is_running())
        finally:
            gate.unlink()


def _under_way(out: Path) -> dict[str, int]:
    """The process by the name of each piece whose last attempt did not end."""
    logs = sorted((out / LOGS).glob("*.jsonl"))
    last = {log.stem: (read_attempts(out / log.stem) or [{"event": ""}])[-1] for log in logs}
    return {name: line["process"] for name, line in last.items() if line["event"] == "began"}


def _raylet(node) -> subprocess.Popen:
    return node.all_processes["raylet"][0].process
