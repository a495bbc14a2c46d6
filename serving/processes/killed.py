"""Says of processes that were killed whether memory ran out, and sees workers of the service that vanish:
BentoML starts others without a word.
"""

import re
from contextlib import suppress
from pathlib import Path

import psutil

_REMEDY = "fewer workers (serving.workers), smaller batches (serving.max_rows), or more memory would help"


class MemoryWatch:
    """Counts what the kernel kills because memory runs out."""

    def __init__(self, counters: Path = Path("/proc/vmstat")) -> None:
        self._counters = counters
        self._seen = self._kills()

    def words(self) -> str:
        """Why something that nobody here killed may have been killed since this was asked last."""
        before, self._seen = self._seen, self._kills()
        if self._seen > before:
            return f"The kernel killed a process because memory ran out; {_REMEDY}."
        return f"Where nobody did that, memory ran out; {_REMEDY}."

    def _kills(self) -> int:
        with suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", self._counters.read_text(), re.MULTILINE)
            return int(found[1]) if found else 0
        return 0


class WorkerWatch:
    """The workers of BentoML's process, looked at again and again."""

    def __init__(self) -> None:
        self._parent: int | None = None
        self._workers: set[int] = set()

    def vanished(self, parent: int | None) -> list[int]:
        """Workers of this process that were there at the last look and are no more; None: it does not run."""
        before = self._workers if parent == self._parent else set()
        self._parent, self._workers = parent, _children(parent)
        return sorted(before - self._workers)


def _children(parent: int | None) -> set[int]:
    if parent is None:
        return set()
    with suppress(psutil.Error):
        found = psutil.Process(parent).children()
        return {child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE}
    return set()
