"""A limit that the kernel itself keeps: a control group of memory, made for a test or a measurement where
this machine lets us make one (root, and a hierarchy that may be written), in both versions.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FIRST, SECOND = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
# The end of a wait for processes that were killed.
PATIENCE_S = 10


@dataclass(frozen=True)
class Group:
    """A group of processes that together hold no more than it was made for: pages of files count too, but the
    kernel takes those back.
    """

    place: Path

    def command(self, words: Sequence[str]) -> list[str]:
        """A command that runs this one in the group, with all that it starts."""
        return ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self.place / "cgroup.procs"), *words]

    def processes(self) -> list[int]:
        """Those that are in it now."""
        return [int(line) for line in (self.place / "cgroup.procs").read_text().split()]

    def end(self) -> None:
        """Kill what is still in it, and remove it."""
        end = time.monotonic() + PATIENCE_S
        while self.processes() and time.monotonic() < end:
            for one in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.02)
        self.place.rmdir()


def can_limit() -> bool:
    """Whether such groups can be made here."""
    return _parent() is not None


@contextmanager
def limited(most_bytes: int) -> Iterator[Group]:
    """A group that may hold so many bytes, swap with them; it and what is in it end with the block."""
    parent, limit = _parent()
    group = Group(parent / f"alphaloop-{os.getpid()}-{time.monotonic_ns()}")
    group.place.mkdir()
    try:
        (group.place / limit).write_text(str(most_bytes))
        both = group.place / "memory.memsw.limit_in_bytes"
        swap, value = (both, most_bytes) if parent == FIRST else (group.place / "memory.swap.max", 0)
        if swap.exists():  # or the kernel counts no swap
            swap.write_text(str(value))
        yield group
    finally:
        group.end()


def _parent() -> tuple[Path, str] | None:
    """Where groups are made, and the file that holds their limit."""
    if (FIRST / "memory.limit_in_bytes").exists():
        found = FIRST, "memory.limit_in_bytes"
    elif "memory" in _words(SECOND / "cgroup.subtree_control"):
        found = SECOND, "memory.max"
    else:
        return None
    return found if os.access(found[0], os.W_OK) and os.geteuid() == 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
