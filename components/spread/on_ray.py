"""Pieces as tasks of Ray (https://docs.ray.io/en/latest/ray-core/tasks.html), on a cluster by its address or
on one that is started here. Only names, paths and numbers travel; where a node died, another tries again.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType

from components.contracts.errors import AlphaloopError
from components.processes.locks import LockHeld, take_lock
from components.processes.sources import task_sources
from components.spread.attempt import attempt, environment_of_attempts
from components.spread.choice import ADDRESS_VARIABLE, ray_address
from components.spread.failures import lost, raise_failure
from components.spread.local import cores
from components.spread.needs import Needs
from components.spread.piece import Piece

GIB = 2**30
POLL_S = 0.5
# Where Ray finds its cluster's token. Clusters that this process starts get one of its own: Ray would leave
# it in the home folder. It is never changed again, because Ray reads it once.
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# Ray sends figures of its use home by default.
NO_FIGURES_HOME = "RAY_USAGE_STATS_ENABLED"
# How often Ray asks an address that does not answer, 40 s each time; else 20 times.
TRIES_VARIABLE, TRIES = "RAY_gcs_server_port_wait_time_s", "1"
# What Ray says, by an Exception of no class of its own, of a start that took more than 30 s, as where others
# have the cores; and how often a start is tried, there and where the cluster's process for a driver from
# outside died at its start (ConnectionAbortedError).
TOO_SLOW, STARTS = "timed out during startup", 4
# What goes into Ray's store of objects is a name and a few paths; the least that Ray takes.
STORE_BYTES = 80 * 2**20
# The folder of a driver's own cluster, and the lock in it that the driver holds as long as it lives.
SHORT, PREFIX, LOCK = "/tmp", "ray-", "driver.lock"


class RayError(AlphaloopError):
    """Ray is not installed, does not answer, or has no node for what is asked."""


def require_ray() -> ModuleType:
    """The module `ray`.

    Raises
    ------
    RayError
        If it is not installed.
    """
    os.environ.setdefault(NO_FIGURES_HOME, "0")
    try:
        import ray
    except ImportError:
        raise RayError(
            "compute.engine=ray, but Ray is not installed here. Install it with pip install 'alphaloop[ray]',"
            " or set compute.engine to local."
        ) from None
    return ray


def results(function: str, pieces: Sequence[Piece], needs: Needs, retries: int) -> Iterator[Piece | None]:
    """Each piece as it is finished, and None from time to time.

    Raises
    ------
    RayError
        If Ray does not answer, or none of its nodes is large enough.
    LostPiece
        If whatever worked on a piece died more than `retries` times. What a piece itself raises is raised on.
    """
    ray = require_ray()
    with connected(ray):
        _require_room(ray, needs)
        task = ray.remote(attempt).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=int(needs.memory_gib * GIB) or None,
            max_retries=retries,
        )
        told = environment_of_attempts(), task_sources()
        under_way = {task.remote(function, piece.to_json(), *told): piece for piece in pieces}
        while under_way:
            ready, _ = ray.wait(list(under_way), num_returns=1, timeout=POLL_S)
            for reference in ready:
                piece = under_way.pop(reference)
                if failure := _answer(ray, reference, piece, retries):
                    raise_failure(failure, piece)
                yield piece
            if not ready:
                yield None


def _answer(ray: ModuleType, reference: object, piece: Piece, retries: int) -> dict[str, str] | None:
    """What the attempt returned."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise cannot_begin(error.cause) from error
    except ray.exceptions.RayError as error:
        raise lost(piece, retries + 1, f"as Ray tells: {type(error).__name__}") from error


def cannot_begin(cause: BaseException) -> RayError:
    """The error of a node that raised before an attempt began, which returns what goes wrong in it."""
    return RayError(
        f"A node of Ray can't begin an attempt ({type(cause).__name__}: {cause}). Each node must have"
        " Alphaloop installed as it is here: start the cluster from the run's own image."
    )


@contextmanager
def connected(ray: ModuleType) -> Iterator[None]:
    address = ray_address()
    with nullcontext("") if address else _scratch() as scratch:
        try:
            _connect(ray, address, scratch)
        except Exception as error:  # Ray raises what it likes, plain exceptions among them
            place = f"at {address}" if address else "here"
            raise RayError(
                f"No Ray answers {place} ({type(error).__name__}: {error}). Check compute.address, that the"
                f" cluster runs, and its token in {TOKENS[0]} or {TOKENS[1]}; or set compute.engine to local."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _scratch() -> Iterator[str]:
    """Where Ray's sockets go: their paths may have 107 bytes, which those below a run's own scratch folder,
    the TMPDIR of its tasks, soon have. What drivers that were killed left there goes first.
    """
    place = Path(SHORT if os.path.isdir(SHORT) else tempfile.gettempdir())
    for lock in place.glob(f"{PREFIX}*/{LOCK}"):
        _remove_left(lock)
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=place, ignore_cleanup_errors=True) as folder,
        take_lock(Path(folder, LOCK), wait=True),
    ):
        yield folder


def _remove_left(lock: Path) -> None:
    """Remove a driver's folder if it is this user's, and nobody holds its lock."""
    with suppress(OSError, LockHeld):
        # Where several users share the folder, a link of somebody else's may lead anywhere.
        if os.name != "posix" or lock.parent.lstat().st_uid == os.getuid():
            with take_lock(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)


def _connect(ray: ModuleType, address: str, scratch: str) -> None:
    from ray.job_config import JobConfig

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address.startswith("ray://"):
        # As a client has it: else workers look into this working folder for imports before all else.
        quiet["job_config"] = JobConfig(_client_job=True)
    if address:
        os.environ.setdefault(TRIES_VARIABLE, TRIES)
        place = {"address": address}
    else:
        if not any(name in os.environ for name in TOKENS):
            os.environ[TOKENS[0]] = uuid.uuid4().hex
        # `local`: never one that happens to run on this machine.
        place = {"address": "local", "_temp_dir": scratch, "num_cpus": max(1, int(cores()))}
        place |= {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    for left in reversed(range(STARTS)):
        try:
            ray.init(**place, **quiet)
            return
        except Exception as error:
            # Whatever half of it stands: the next one would trip over it.
            ray.shutdown()
            if not left or not (TOO_SLOW in str(error) or isinstance(error, ConnectionAbortedError)):
                raise


def _require_room(ray: ModuleType, needs: Needs) -> None:
    """Refuse what no node could ever hold: its tasks would wait without end."""
    asked = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_gib * GIB}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
        return
    largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in asked}
    raise RayError(
        f"One piece needs {needs.cpus} cores, {needs.gpus} GPUs and {needs.memory_gib:.1f} GiB, and none of"
        f" the {len(nodes)} nodes of Ray has all of it (most: {largest['CPU']:.0f} cores,"
        f" {largest['GPU']:.0f} GPUs, {largest['memory'] / GIB:.1f} GiB). Add a larger node, or lower"
        f" `threads` of the leaf. (Address: {ray_address() or 'here'}, by {ADDRESS_VARIABLE}.)"
    )
