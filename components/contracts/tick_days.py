"""A folder of ticks: a Parquet file for each symbol and session, and the instruments beside them. A symbol's
session (a day, or one recording) is the piece by which everything of the tick lane is worked on.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instruments
from components.contracts.errors import ContractError
from components.contracts.parts import scan_table
from components.contracts.row_limit import table_rows
from components.contracts.schemas import Table
from components.contracts.tables import ROW_GROUP_ROWS, Stamp, read_stamp, read_table, write_table
from components.contracts.tick_schemas import TICKS

INSTRUMENTS = "instruments.json"


@dataclass(frozen=True)
class TickDay:
    """One symbol's session, and the file in which its ticks are."""

    symbol: str
    session: str
    path: Path


def tick_days(folder: str | os.PathLike) -> list[TickDay]:
    """The symbol-sessions of a folder, by symbol and session; ContractError where there are none."""
    found = sorted(Path(folder).glob("*/*.parquet"))
    if not found:
        raise ContractError(f"{folder} holds no ticks: expected a file SYMBOL/SESSION.parquet in it.")
    return [TickDay(path.parent.name, path.stem, path) for path in found]


def days_sha256(days: Sequence[TickDay]) -> str:
    """One hash of the contents of all files of ticks, as stamps name it."""
    told = (f"{day.symbol}/{day.session} {read_stamp(day.path).content_sha256}" for day in days)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def write_day(
    frame: pl.DataFrame,
    folder: str | os.PathLike,
    symbol: str,
    session: str,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str] | None = None,
    table: Table = TICKS,
) -> Stamp:
    """Write the ticks of one symbol and session into `folder`, atomically."""
    path = Path(folder) / symbol / f"{session}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"code_version": code_version, "config_hash": config_hash, "inputs": inputs}
    return write_table(frame, path, table, **about)


def read_day(day: TickDay, table: Table = TICKS) -> pl.DataFrame:
    """The ticks of one symbol and session."""
    return read_table(day.path, table)


def day_columns(day: TickDay, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of numbers of one symbol and session's ticks as arrays, checked as `read_table` does. A part of
    the rows is read at a time: the whole table would hold three times as much.
    """
    whole, rows = scan_table(day.path, TICKS).select(names), table_rows(day.path)
    types = {
        name: pl.Series([], dtype=kind).to_numpy().dtype for name, kind in whole.collect_schema().items()
    }
    columns = {name: np.empty(rows, kind) for name, kind in types.items()}
    for start in range(0, rows, ROW_GROUP_ROWS):
        part = whole.slice(start, ROW_GROUP_ROWS).collect()
        for name, column in columns.items():
            column[start : start + len(part)] = part[name].to_numpy()
    return columns


def read_instruments(folder: str | os.PathLike) -> Instruments:
    """What ticks and lots of a folder's symbols are worth."""
    return Instruments.read(Path(folder) / INSTRUMENTS)
