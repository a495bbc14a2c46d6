"""What the processes beside the service report of themselves, as far as it can be read, and whether they
live.

A process lives whose report moves. The time that a report names is another process's time of day, and may be
set back or ahead between two of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from components.contracts import AlphaloopError
from serving.processes.documents import (
    FOLLOWER_FILE,
    MIRROR_FILE,
    WRITER_FILE,
    FollowerReport,
    MirrorReport,
    WriterReport,
)

# A process whose report does not move for so long counts as gone.
_RECENT_S = 30.0


@dataclass
class _Seen:
    """The time that a report named last, and when it was seen to change; None before it first did."""

    named: datetime | None
    moved_at: float | None = None


@dataclass(frozen=True)
class Reports:
    """The reports of a run's serving folder; each is read anew. `now`: seconds that never step back."""

    folder: Path
    now: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def writer(self) -> WriterReport | None:
        """Of the log writer; None where there is none that can be read."""
        try:
            report = WriterReport.read(self.folder / WRITER_FILE)
        except AlphaloopError:
            report = None
        self._watch(WRITER_FILE, report.at if report else None)
        return report

    def follower(self) -> FollowerReport | None:
        """Of the registry follower; None where there is none that can be read."""
        try:
            report = FollowerReport.read(self.folder / FOLLOWER_FILE)
        except AlphaloopError:
            report = None
        self._watch(FOLLOWER_FILE, report.checked_at if report else None)
        return report

    def mirror(self) -> MirrorReport | None:
        """Of the store mirror; None where there is none that can be read."""
        try:
            report = MirrorReport.read(self.folder / MIRROR_FILE)
        except AlphaloopError:
            report = None
        self._watch(MIRROR_FILE, report.at if report else None)
        return report

    def mirror_lives(self) -> bool:
        """Whether the store mirror's report has moved in the last half minute."""
        return self._lives(MIRROR_FILE)

    def writer_lives(self) -> bool:
        """Whether the log writer's report has moved in the last half minute."""
        return self._lives(WRITER_FILE)

    def follower_lives(self) -> bool:
        """Whether the registry follower's report has moved in the last half minute."""
        return self._lives(FOLLOWER_FILE)

    def _watch(self, file: str, named: datetime | None) -> None:
        seen = self._seen.get(file)
        if seen is None:
            self._seen[file] = _Seen(named)
        elif named is not None and named != seen.named:
            self._seen[file] = _Seen(named, self.now())

    def _lives(self, file: str) -> bool:
        seen = self._seen.get(file)
        return seen is not None and seen.moved_at is not None and self.now() - seen.moved_at <= _RECENT_S
