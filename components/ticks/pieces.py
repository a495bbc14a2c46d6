"""One symbol's session as a piece of work, which may be done in another process or on another machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import map_table
from components.contracts.documents import Document
from components.contracts.documents.tick_quality import DayQuality
from components.contracts.schemas import Table
from components.contracts.tables import read_stamp, read_table, write_table
from components.contracts.tick_days import TickDay
from components.contracts.tick_schemas import RAW_TICKS, TICKS
from components.memory.need import MIB, Need
from components.spread.piece import Piece
from components.ticks.config import Settings
from components.ticks.examine import examine
from components.ticks.quality import day_quality

# The libraries, and for each row its message, the places of what stays, and the clock: raw rows and ticks lie
# in mapped files. Measured on simulated sessions, tests/memory/test_stages_refuse.py.
NEED = Need("validate ticks", base=116 * MIB, row=81, cell=0)
VALIDATE_DAY = "components.ticks.pieces:validate_day"
TICKS_FILE, QUARANTINE_FILE, QUALITY_FILE = "ticks.parquet", "quarantine.parquet", "quality.json"

# Raw rows that were set aside, and why.
QUARANTINE = Table(
    name="tick_quarantine",
    version=1,
    columns={**TICKS.columns, "reason": pl.String()},
    key=TICKS.key,
)


class ExaminedDay(Document):
    """What was found in one symbol's session."""

    found: DayQuality


def piece(day: TickDay, folder: Path, *, settings: str, about: Mapping[str, str]) -> Piece:
    """The piece of a raw symbol-session; `about` holds `code_version` and `config_hash`."""
    key = json.dumps([read_stamp(day.path).content_sha256, settings, dict(about)])
    arguments = {
        "symbol": day.symbol,
        "session": day.session,
        "path": str(day.path.absolute()),
        "settings": settings,
        **about,
    }
    return Piece(key, folder, arguments)


def validate_day(arguments: Mapping[str, Any], folder: Path) -> None:
    """Examine one symbol's session into an empty folder: its ticks, its quarantine, and what was found."""
    day = TickDay(arguments["symbol"], arguments["session"], Path(arguments["path"]))
    NEED.require(day.path)
    raw = map_table(day.path, RAW_TICKS)
    found = examine(raw, Settings.model_validate_json(arguments["settings"]))
    about = {
        "code_version": arguments["code_version"],
        "config_hash": arguments["config_hash"],
        "inputs": {"raw_ticks": read_stamp(day.path).content_sha256},
    }
    write_table(found.ticks, folder / TICKS_FILE, TICKS, **about)
    write_table(found.quarantine, folder / QUARANTINE_FILE, QUARANTINE, **about)
    ExaminedDay(found=day_quality(raw, found)).write(folder / QUALITY_FILE)


def read_quarantine(folder: Path) -> pl.DataFrame:
    """The quarantine of a piece that is done."""
    return read_table(folder / QUARANTINE_FILE, QUARANTINE)
