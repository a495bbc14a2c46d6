"""What processes hold of memory at this moment, as Linux tells it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")


def memory_held(process: int, limit: int) -> int:
    """Bytes that a process and all below it hold of their own: what they share with each other counts once,
    where the sum is near enough to the limit to matter.
    """
    below = list(descendants(process))
    quick = sum(_own_memory(one) for one in below)
    return quick if quick <= limit else sum(_proportional_memory(one) for one in below)


def most_held(processes: Iterable[int]) -> int:
    """The most that any of some processes has held up to now, pages of files included; 0 where Linux does not
    say. Unlike what a parent is told of a child that ended (`ru_maxrss`) it leaves out what the parent held
    when it started the child.
    """
    return max((_kilobytes(_read(PROC / str(one) / "status"), "VmHWM") for one in processes), default=0)


def descendants(process: int) -> Iterator[int]:
    """Processes that a process started, and that those started; ones that end meanwhile may be missing."""
    for listed in PROC.glob(f"{process}/task/*/children"):
        for child in map(int, _read(listed).split()):
            yield child
            yield from descendants(child)


def _own_memory(process: int) -> int:
    """Resident bytes that no file holds; shared pages count in full."""
    return _kilobytes(_read(PROC / str(process) / "status"), "RssAnon", "RssShmem")


def _proportional_memory(process: int) -> int:
    return _kilobytes(_read(PROC / str(process) / "smaps_rollup"), "Pss_Anon", "Pss_Shmem")


def _kilobytes(text: str, *names: str) -> int:
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(1024 * int(lines[name].split()[0]) for name in names if name in lines)


def _read(path: Path) -> str:
    """A file of a process; empty where the process has ended."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
