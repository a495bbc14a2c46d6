"""Sources of bars behind one protocol, found by name:

CSV and Parquet files, a Qlib folder, what was fetched from Yahoo, an exchange or Wind, the simulator.
"""

from pathlib import Path
from typing import Protocol

import polars as pl

from components.market.bars import FILE, Bars
from components.market.config import SPARE_COLUMNS, Settings
from components.market.errors import MarketError
from components.market.fetched import read_fetched
from components.market.files import SourceFiles, find_files, refuse_twins, split_notes, symbols_of_files
from components.market.found import found_settings
from components.market.qlib_folder import read_qlib
from components.market.read_file import read_file
from components.market.simulator import simulate

MOST_NOTES = 5


class Source(Protocol):
    """Anything that gives bars."""

    def __call__(self, settings: Settings, data_folder: Path, seed: int) -> Bars:
        """The bars in the source's order, with `timestamp, symbol, event_time, known_time`, prices, volume
        and, where known, `sector`.
        """
        ...


def read_files(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of CSV or Parquet files; MarketError for files that can't be used.

    Among many files, one without a column of symbols holds the symbol that its name says.
    """
    files = find_files(settings, data_folder)
    symbols = symbols_of_files(files, settings)
    read = [read_file(path, settings, symbols.get(path)) for path in files.paths]
    frames = [one.rows.with_columns(pl.lit(number, pl.UInt32).alias(FILE)) for number, one in enumerate(read)]
    named = {path: symbols[path] for path, one in zip(files.paths, read, strict=True) if one.named_by_file}
    _require_same_columns(files, frames, named)
    refuse_twins(named, settings)
    notes = tuple(dict.fromkeys(note for one in read for note in one.notes))
    return Bars(
        pl.concat(frames, how="diagonal"),
        notes=(*_few(notes), *_split(frames, settings)) if named else _few(notes),
        files=tuple(map(str, files.paths)),
        found=found_settings([one.read_as for one in read if len(one.rows)], settings),
    )


def _require_same_columns(files: SourceFiles, frames: list[pl.DataFrame], named: dict) -> None:
    if 0 < len(named) < len(files.paths):
        raise MarketError(
            f"{next(iter(named))}: column 'symbol' is missing, but {len(files.paths) - len(named)} of"
            f" {len(files.paths)} files of market.path have it. Map it with market.columns.symbol, export the"
            " file again, or load the files as panels of their own."
        )
    for column in SPARE_COLUMNS:
        having = [column in frame.columns for frame in frames]
        if any(having) and not all(having):
            without = files.paths[having.index(False)]
            raise MarketError(
                f"{without}: column {column!r} is missing, but {sum(having)} of {len(frames)} files of"
                f" market.path have it. Export the file again, map its column with market.columns.{column},"
                " or load the files as panels of their own."
            )


def _split(frames: list[pl.DataFrame], settings: Settings) -> tuple[str, ...]:
    if settings.symbol_pattern is not None:
        return ()
    spans = {
        frame["symbol"][0]: (frame["timestamp"].min(), frame["timestamp"].max())
        for frame in frames
        if frame["timestamp"].count()
    }
    return split_notes(spans)


def _few(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Notes on many files, cut to one screen."""
    more = len(notes) - MOST_NOTES
    return notes if more <= 0 else (*notes[:MOST_NOTES], f"The same holds for {more:,} more files.")


def read_simulator(settings: Settings, data_folder: Path, seed: int) -> Bars:
    """Bars of the simulated market, without the columns that `market.columns` leaves out."""
    market = simulate(settings, seed)
    rows = (
        market.panel
        if settings.symbols is None
        else market.panel.filter(pl.col("symbol").is_in(settings.symbols))
    )
    left_out = [column for column, name in settings.columns.items() if not name]
    return Bars(rows.drop("period", *left_out), market.truth, market.faults)


SOURCES: dict[str, Source] = {
    "csv": read_files,
    "parquet": read_files,
    "simulator": read_simulator,
    "qlib": read_qlib,
    "yahoo": read_fetched,
    "ccxt": read_fetched,
    "wind": read_fetched,
}
