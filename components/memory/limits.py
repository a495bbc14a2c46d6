"""What this process may use of memory: the least of what its control groups, its own limits and the machine
allow, read anew at each call.

Control groups are read in both versions (Linux documentation, admin-guide/cgroup-v2 and cgroup-v1/memory), at
every level that this process can see.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Imported before memory is short.
import psutil

from components.memory.share import CEILING, memory_share

ROOT = Path("/")
KIB = 1024
# Who is over memory.high is slowed down, and goes on.
WITHOUT_END = 2**63


@dataclass(frozen=True)
class Limit:
    """One bound on memory.

    `where` is what sets it, in a person's words; `used` what is held below it by anyone, without what the
    kernel can take back; `swap` what may be put out beyond it: slower, and no reason to end.
    """

    where: str
    bytes: int
    used: int
    swap: int = 0


def limit(root: Path = ROOT) -> Limit | None:
    """The bound that is met first: the one below which least is free. None where this system tells of
    none.
    """
    return min(limits(root), key=lambda one: one.bytes - one.used, default=None)


def end(root: Path = ROOT) -> Limit | None:
    """The bound over which no process gets, whatever others give back: the least, swap included."""
    return min(limits(root), key=lambda one: one.bytes + one.swap, default=None)


def target(root: Path = ROOT) -> int | None:
    """Bytes that work which can be cut should be cut to: what is free of `compute.memory_share` of every
    bound, 0 where that is in use already. None where this system tells of no bound.
    """
    share = memory_share()
    return min((max(0, int(share * one.bytes) - one.used) for one in limits(root)), default=None)


def room(root: Path = ROOT) -> int | None:
    """Bytes up to which such work need not be cut: what is free below CEILING of every bound, whoever holds
    the rest, and no more than `compute.memory_share` of it. None where this system tells of no bound.
    """
    share = memory_share()
    return min(
        (max(0, min(int(share * one.bytes), int(CEILING * one.bytes) - one.used)) for one in limits(root)),
        default=None,
    )


def limits(root: Path = ROOT) -> list[Limit]:
    """Every bound that this process is under; `root` is where /proc and /sys are looked for."""
    machine = _machine(root)
    swap = machine.swap if machine else 0
    found = [*_of_groups(root, swap), *_of_process(root)]
    return [*found, machine] if machine else found


def _machine(root: Path) -> Limit | None:
    """All of the machine, or of a virtual one."""
    if not sys.platform.startswith("linux"):
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Limit("memory of the machine", memory.total, memory.total - memory.available, swap.free)
    lines = _fields(root / "proc/meminfo")
    if "MemTotal" not in lines:
        return None
    total = KIB * lines["MemTotal"]
    used = total - KIB * lines.get("MemAvailable", lines["MemTotal"])
    return Limit("memory of the machine", total, used, KIB * lines.get("SwapFree", 0))


def _of_process(root: Path) -> Iterator[Limit]:
    """`ulimit -v` and `ulimit -d`: of what is mapped, which is always more than what is held."""
    if not hasattr(psutil, "RLIMIT_AS"):  # only Linux can be asked
        return
    status = _fields(root / "proc/self/status")
    for name, number, held in (
        ("ulimit -v (RLIMIT_AS)", psutil.RLIMIT_AS, "VmSize"),
        ("ulimit -d (RLIMIT_DATA)", psutil.RLIMIT_DATA, "VmData"),
    ):
        allowed = psutil.Process().rlimit(number)[0]
        if allowed != psutil.RLIM_INFINITY:
            yield Limit(name, allowed, KIB * status.get(held, 0))


def _of_groups(root: Path, swap: int) -> Iterator[Limit]:
    """The memory of each control group from this process's own to the outermost that can be seen; `swap` is
    what the machine has free of it.
    """
    for version, mount, group in _hierarchies(root):
        place = mount / group
        while True:
            yield from _of_second(place, swap) if version == 2 else _of_first(place, swap)
            if place == mount:
                break
            place = place.parent


def _of_second(place: Path, swap: int) -> Iterator[Limit]:
    stat = _fields(place / "memory.stat")
    # Pages of files go when room is short; those of shared memory are counted among them and do not.
    given_back = stat.get("file", 0) - stat.get("shmem", 0) + stat.get("slab_reclaimable", 0)
    used = max(0, _number(place / "memory.current", 0) - given_back)
    swap = min(swap, _number(place / "memory.swap.max", swap))
    for name, beyond in (("memory.max", swap), ("memory.high", WITHOUT_END)):
        allowed = _number(place / name)
        if allowed is not None:
            yield Limit(f"control group {place / name}", allowed, used, beyond)


def _of_first(place: Path, swap: int) -> Iterator[Limit]:
    stat = _fields(place / "memory.stat")
    given_back = stat.get("total_cache", 0) - stat.get("total_shmem", 0)
    used = max(0, _number(place / "memory.usage_in_bytes", 0) - given_back)
    allowed = _number(place / "memory.limit_in_bytes")
    if allowed is None:
        return
    both = _number(place / "memory.memsw.limit_in_bytes", allowed + swap)
    yield Limit(f"control group {place / 'memory.limit_in_bytes'}", allowed, used, min(swap, both - allowed))
    # The kernel says here what outer groups allow, which a container does not see.
    outer = stat.get("hierarchical_memory_limit", allowed)
    if outer < allowed:
        yield Limit(f"control group around {place}", outer, used, swap)


def _hierarchies(root: Path) -> Iterator[tuple[int, Path, str]]:
    """Of each hierarchy of control groups that counts memory: its version, where it is mounted, and the way
    from there to the group of this process; empty where that lies outside of what a container sees.
    """
    groups = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            groups[1 if controllers else 2] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mounted, _, kind = line.partition(" - ")
        top, place = (_unescaped(one) for one in mounted.split()[3:5])
        name, _, options = kind.split(" ", 2)
        version = {"cgroup2": 2, "cgroup": 1 if "memory" in options.split(",") else 0}.get(name, 0)
        if version in groups:
            yield version, root / place.lstrip("/"), _way(top, groups[version])


def _way(top: str, group: str) -> str:
    """From the folder of the hierarchy that is mounted to the group."""
    inside = Path(group)
    if ".." in inside.parts or not inside.is_relative_to(top):
        return ""
    return str(inside.relative_to(top))


def _unescaped(path: str) -> str:
    """A path of mountinfo, which writes blanks in octal."""
    return path.replace("\\040", " ").replace("\\134", "\\")


def _fields(path: Path) -> dict[str, int]:
    """The lines `name number` or `name: number kB` of a file; none where it can't be read."""
    pairs = (line.replace(":", " ").split()[:2] for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path, otherwise: int | None = None) -> int | None:
    """The number in a file; `otherwise` where it says `max` or can't be read."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else otherwise


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
