"""What `alphaloop ticks collect` recorded: the sessions of an embedded store of ticks that are over."""

from collections.abc import Iterator
from pathlib import Path

from components.contracts.documents.instruments import Instruments
from components.contracts.tick_days import INSTRUMENTS
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources.instruments import wanted
from components.ticks.sources.protocol import RecordedDay, Recording

SETTING = "ticks.recorded.folder"
DAYS, LOG = "days/*/*/*.parquet", "log/*/*.arrows"


def read(settings: Settings, data_folder: Path, seed: int) -> Recording:
    """The sealed sessions of each symbol; `seed` is not used. What is still being recorded is left out, and
    said.

    Raises
    ------
    TicksError
        If the folder is none of a recording, or a file in it is broken.
    """
    folder = Path(data_folder) / settings.recorded.folder
    known = Instruments.read(recorded_files(settings, data_folder)[0]).symbols
    logged = {(path.parent.name, path.stem) for path in folder.glob(LOG)}
    there = sorted({(path.parent.name, path.stem) for path in folder.glob(DAYS)} - logged)
    symbols = wanted(sorted({symbol for symbol, _ in there}), settings.symbols, str(folder), "ticks.symbols")
    sessions = wanted(
        sorted({session for _, session in there}), settings.sessions, str(folder), "ticks.sessions"
    )
    named = {symbol: known[symbol] for symbol in symbols if symbol in known}
    if len(named) < len(symbols):
        missing = next(symbol for symbol in symbols if symbol not in known)
        raise TicksError(
            f"{folder / INSTRUMENTS} knows no {missing} ({SETTING}). Record it into a folder of its own."
        )
    days = [(symbol, session) for symbol, session in there if symbol in symbols and session in sessions]
    notes = [
        f"{symbol} {session} is still being recorded, or its recording was killed: left out. It is"
        " packed when the recording ends, or another one into the same folder begins."
        for symbol, session in sorted(logged)
    ]
    return Recording(Instruments(symbols=named), _days(folder, days), tuple(notes))


def recorded_files(settings: Settings, data_folder: Path) -> list[Path]:
    """The instruments and all files of sessions that are over; TicksError where there are none."""
    folder = Path(data_folder) / settings.recorded.folder
    instruments, days = folder / INSTRUMENTS, sorted(folder.glob(DAYS))
    if not instruments.exists() or not days:
        raise TicksError(
            f"{folder} ({SETTING}) holds no recording that is over: expected {INSTRUMENTS} and"
            " days/DAY/SYMBOL/SESSION.parquet, as alphaloop ticks collect leaves them."
        )
    return [instruments, *days]


def _days(folder: Path, days: list[tuple[str, str]]) -> Iterator[RecordedDay]:
    store = EmbeddedStore(folder)
    for symbol, session in days:
        try:
            yield RecordedDay(symbol, session, store.read(symbol, session))
        except TickStoreError as error:
            raise TicksError(str(error)) from error
