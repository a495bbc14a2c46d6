"""Processes of one group on the nodes of Ray, all at once: each on a node of its own as far as there are
enough, and told its number and where the first one is, as torchrun tells those of one machine. Where one
fails, all are ended.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from components.processes.sources import task_sources
from components.progress import EVENTS_VARIABLE
from components.spread.attempt import environment_of_attempts
from components.spread.member import log_of, member
from components.spread.needs import Needs
from components.spread.on_ray import POLL_S, RayError, cannot_begin, connected, require_ray

# Where the first process says how far it is, beside the argument.
EVENTS = "events"
# How often a group that waits for room looks whether the nodes could still hold it.
LOOK_S = 10.0


@dataclass(frozen=True)
class Failed:
    """The first process of a group that failed: how it ended, and the file of what it printed."""

    how: str
    log: Path


def run_together(
    command: str,
    argument: Path,
    count: int,
    *,
    cpus: int,
    hear: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> Failed | None:
    """Run the module `command` with the path `argument` in `count` processes; returns which failed first, all
    others ended then, or None.

    Each has `cpus` cores, and a GPU where Ray's nodes have any. What they print comes to lie beside the
    argument, whose folder all nodes must see at the same path. `say` is told where the group has to wait.

    Raises
    ------
    RayError
        If Ray does not answer, its nodes have no room for all at once, or one of them can't begin.
    """
    ray, folder = require_ray(), argument.parent
    with connected(ray):
        needs = Needs(cpus, int(any(node.get("GPU") for node in _resources(ray))))
        _require_room_for_all(ray, count, needs)
        with _places(ray, count, needs, say) as place:
            meeting = ray.get(place(0, _meeting_place).remote())
            told = environment_of_attempts() | {EVENTS_VARIABLE: str(folder / EVENTS)}
            told.setdefault("OMP_NUM_THREADS", "1")  # as torchrun has it
            under_way = {
                place(rank, member).remote(
                    command, str(argument), told | _group(rank, count, meeting), task_sources()
                ): rank
                for rank in range(count)
            }
            failed = _first_failed(ray, under_way, _listening(folder / EVENTS, hear))
    return failed and Failed(f"process {failed[0]} ended {failed[1]}", log_of(folder, failed[0]))


def _resources(ray: ModuleType) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _require_room_for_all(ray: ModuleType, count: int, needs: Needs) -> None:
    """Refuse what the nodes could never hold at once: it would wait without end."""
    asked = {"CPU": needs.cpus, "GPU": needs.gpus}
    nodes = _resources(ray)
    fit = [min(int(node.get(name, 0) / amount) for name, amount in asked.items() if amount) for node in nodes]
    if sum(fit) < count:
        raise RayError(
            f"The leaf asks for processes: {count}, each with {needs.cpus} cores and {needs.gpus} GPUs, and"
            f" the {len(nodes)} nodes of Ray hold {sum(fit)} of them. Add nodes, set processes to {sum(fit)}"
            " or less, or lower `threads` of the leaf."
        )


@contextmanager
def _places(
    ray: ModuleType, count: int, needs: Needs, say: Callable[[str], None]
) -> Iterator[Callable[[int, Callable], Any]]:
    """Room for all, held together; yields what makes a function a task in the place of a number."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    one = {"CPU": needs.cpus, **({"GPU": needs.gpus} if needs.gpus else {})}
    group = placement_group([one] * count, "SPREAD")
    try:
        _wait_for_room(ray, group.ready(), count, needs, say)
        yield lambda number, function: ray.remote(function).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_retries=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, number),
        )
    finally:
        remove_placement_group(group)


def _wait_for_room(ray: ModuleType, ready: Any, count: int, needs: Needs, say: Callable[[str], None]) -> None:
    """Wait until the room of all is held, which others may have, as long as there are nodes for it."""
    told = False
    while not ray.wait([ready], timeout=LOOK_S)[0]:
        _require_room_for_all(ray, count, needs)
        if not told:
            say(
                f"waits until Ray's nodes have room for processes: {count}, each with {needs.cpus} cores and"
                f" {needs.gpus} GPUs, all at once"
            )
            told = True
    ray.get(ready)


def _meeting_place() -> tuple[str, int]:
    """Address of this node, and a port of it that is free."""
    import ray

    address = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind((address, 0))
        return address, probe.getsockname()[1]


def _group(rank: int, count: int, meeting: tuple[str, int]) -> dict[str, str]:
    """What torchrun would tell a process that is alone on its machine; Ray shows it its own GPU only."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": meeting[0],
        "MASTER_PORT": str(meeting[1]),
    }


def _first_failed(
    ray: ModuleType, under_way: dict[Any, int], listen: Callable[[], None]
) -> tuple[int, str] | None:
    """The number of the first process that failed, and with what; the others are ended."""
    try:
        while under_way:
            ready, _ = ray.wait(list(under_way), num_returns=1, timeout=POLL_S)
            listen()
            for reference in ready:
                rank = under_way.pop(reference)
                try:
                    code = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise cannot_begin(error.cause) from error
                except ray.exceptions.RayError as error:
                    return rank, f"with its node, as Ray tells ({type(error).__name__})"
                if code:
                    return rank, f"with {code}"
        return None
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def _listening(path: Path, hear: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """What hands on the events of a file that came since the last time."""
    heard = 0

    def listen() -> None:
        nonlocal heard
        if path.exists():
            with path.open("rb") as handle:
                handle.seek(heard)
                for line in handle:
                    if line.endswith(b"\n"):
                        heard += len(line)
                        hear(json.loads(line))

    return listen
