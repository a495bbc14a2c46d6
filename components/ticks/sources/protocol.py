"""What a source of events is asked, and what it answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from components.contracts.documents.instruments import Instruments
from components.contracts.documents.tick_truth import TickTruth
from components.ticks.config import Settings


@dataclass(frozen=True)
class RecordedDay:
    """One symbol's session as its source has it: `ticks` is a RAW_TICKS frame, faults and all."""

    symbol: str
    session: str
    ticks: pl.DataFrame


@dataclass(frozen=True)
class Recording:
    """What a source holds: the instruments of all symbols, and their sessions, made or read one at a time.

    `notes` are what the reader of the run should know. `truth` tells what a simulated market really is, once
    all days were taken; none where nobody knows.
    """

    instruments: Instruments
    days: Iterator[RecordedDay]
    notes: tuple[str, ...] = ()
    truth: Callable[[], TickTruth] | None = None


class Source(Protocol):
    """Anything that gives events."""

    def __call__(self, settings: Settings, data_folder: Path, seed: int) -> Recording:
        """The events of `settings.symbols` and `settings.sessions` (all where these are none).

        Raises
        ------
        TicksError
            Where there is nothing, or what is there can't be understood.
        """
        ...
