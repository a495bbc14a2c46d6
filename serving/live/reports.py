"""What the processes beside the service report of themselves, as far as it can be read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.contracts import AlphaloopError
from serving.processes.documents import FOLLOWER_FILE, WRITER_FILE, FollowerReport, WriterReport

# A process that says nothing for so long counts as gone.
_RECENT_S = 30.0


@dataclass(frozen=True)
class Reports:
    """The reports of a run's serving folder; each is read anew."""

    folder: Path
    now: Callable[[], float] = time.time

    def writer(self) -> WriterReport | None:
        """Of the log writer; None where there is none that can be read."""
        try:
            return WriterReport.read(self.folder / WRITER_FILE)
        except AlphaloopError:
            return None

    def follower(self) -> FollowerReport | None:
        """Of the registry follower; None where there is none that can be read."""
        try:
            return FollowerReport.read(self.folder / FOLLOWER_FILE)
        except AlphaloopError:
            return None

    def is_recent(self, moment: datetime | None) -> bool:
        """Whether a report of this moment is at most half a minute old."""
        return moment is not None and self.now() - moment.timestamp() <= _RECENT_S
