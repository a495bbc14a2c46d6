"""The memory of a pod: how much a limit of Kubernetes is in bytes, and how much the processes of a pod hold.

A limit is kept by looking, some twenty times a second, and killing as the kernel would: that needs no control
groups, which are out of reach in most containers and for most users.
"""

import re
from collections.abc import Iterator
from pathlib import Path

LOOK_EVERY_S = 0.05
SUFFIXES = {"": 1} | {
    f"{letter}{binary}": (1024 if binary else 1000) ** power
    for power, letter in enumerate("KMGTPE", start=1)
    for binary in ("", "i")
}
# Kubernetes writes a thousand with a small letter.
SUFFIXES["k"] = 1000
PROC = Path("/proc")


def in_bytes(quantity: str) -> int:
    """A quantity of Kubernetes, such as 8G, 256Mi or a number of bytes.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", quantity)
    if not found or found[2] not in SUFFIXES:
        raise ValueError(
            f"{quantity!r} is no amount of memory: write bytes, or a number with K, M, G, Ki, Mi, Gi"
        )
    return int(float(found[1]) * SUFFIXES[found[2]])


def memory_held(process: int, limit: int) -> int:
    """Bytes that a process and all below it hold of their own: what they share with each other counts once,
    where the sum is near enough to the limit to matter.
    """
    below = list(descendants(process))
    quick = sum(_own_memory(one) for one in below)
    return quick if quick <= limit else sum(_proportional_memory(one) for one in below)


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
