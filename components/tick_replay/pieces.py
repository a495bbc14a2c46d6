"""One symbol's session as a piece of work, which may be done in another process or on another machine: read
what is about it, replay it, and leave its fills, its curve and what became of its orders.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import ContractError
from components.contracts.files import atomic_path
from components.contracts.parts import scan_table
from components.contracts.tick_days import TickDay, day_columns, read_instruments
from components.contracts.tick_schemas import TICKS
from components.memory.need import GIB, MIB, table_size
from components.spread.piece import Piece
from components.tick_replay.arrays import NEVER, Rows
from components.tick_replay.config import Settings
from components.tick_replay.day import ROW_COLUMNS, Plan, ages_ns, replay, rows_of, spreads, step_ends
from components.tick_replay.decisions import Task, decisions_of, joined
from components.tick_replay.delays import draw, names, quantiles_by_hour, steadiness

# What a session holds for each of its ticks, and each step of a strategy. Measured on 1 and 3 million ticks
# with 7 and 64 strategies: 396 to 2,098 MiB.
TICK_BYTES, STEP_BYTES = 70, 340
LIBRARIES = 180 * MIB
REPLAY_DAY = "components.tick_replay.pieces:replay_day"
TABLES = ("fills", "curve", "orders", "decisions")
DELAY = "delay_ns"


def piece(day: TickDay, folder: Path, *, key: Sequence[str], arguments: Mapping[str, Any]) -> Piece:
    """The piece of a symbol-session; `key` is what all pieces of the replay depend on."""
    own = {"symbol": day.symbol, "session": day.session, "path": str(day.path.absolute())}
    return Piece(json.dumps([*key, day.symbol, day.session]), folder, {**own, **arguments})


def steps_of(day: TickDay, step_seconds: float) -> int:
    """How many steps the session has."""
    bounds = pl.col("ingest_ts").min().alias("first"), pl.col("ingest_ts").max().alias("last")
    both = pl.scan_parquet(day.path).select(*bounds).collect().drop_nulls()
    return len(step_ends(both.row(0), step_seconds)) if len(both) else 0


def piece_gib(day: TickDay, steps: int, strategies: int) -> float:
    """What a session of so many steps holds, about."""
    ticks, _ = table_size(day.path)
    return (LIBRARIES + ticks * TICK_BYTES + steps * strategies * STEP_BYTES) / GIB


def replay_day(arguments: Mapping[str, Any], folder: Path) -> None:
    """Replay one symbol's session into an empty folder, a Parquet file for each of TABLES.

    arguments : those of `piece`: `symbol`, `session`, `path` of the ticks, `ticks` (their folder), the tables
        by name, `settings` (JSON), `experts`, `target`, `horizon`, `seed`
    """
    settings = Settings.model_validate_json(arguments["settings"])
    day = TickDay(arguments["symbol"], arguments["session"], Path(arguments["path"]))
    instruments = read_instruments(arguments["ticks"]).symbols
    if day.symbol not in instruments:
        raise ContractError(
            f"{arguments['ticks']}: instruments.json knows no {day.symbol}. Validate the ticks again."
        )
    delayed = [DELAY] if DELAY in scan_table(day.path, TICKS).collect_schema() else []
    columns = day_columns(day, (*ROW_COLUMNS, *delayed))
    rows = rows_of(columns)
    delay_ns = columns.get(DELAY, np.zeros(len(rows.time)))
    asked = _known_then(_asked(arguments, day.symbol, rows.time), delay_ns, rows, settings)
    delays = pl.read_parquet(arguments["delays"])
    measured = quantiles_by_hour(delays, day.symbol, needed=settings.latency.measured)
    task = Task.of(arguments["target"], arguments["horizon"], settings)
    decisions = decisions_of(asked, arguments["experts"], settings.sizing, task)
    seed = [arguments["seed"], zlib.crc32(f"{day.symbol} {day.session}".encode())]
    drawn = draw(decisions.at, settings.latency, measured, seed)
    plan = Plan.of(arguments["experts"], names(settings.latency), settings)
    about = {"symbol": day.symbol, "session": day.session}
    made = replay(rows, decisions, drawn, plan, settings, instruments[day.symbol], about)
    told = asked.group_by("expert").agg(decisions=pl.len(), stale=pl.col("stale").sum().cast(pl.Int64))
    acted = {
        name: int((wanted != 0).sum()) for name, wanted in zip(plan.experts, decisions.wanted, strict=True)
    }
    told = told.with_columns(acted=pl.col("expert").replace_strict(acted, return_dtype=pl.Int64))
    for name, table in zip(TABLES, (made.fills, made.curve, made.orders, told), strict=True):
        with atomic_path(folder / f"{name}.parquet") as temporary:
            table.write_parquet(temporary, compression="zstd")


def _known_then(asked: pl.DataFrame, delay_ns: np.ndarray, rows: Rows, settings: Settings) -> pl.DataFrame:
    """Predictions with what the events by their moments say: `spread`, `steadiness`, and whether the book is
    `stale`.
    """
    moments = asked.select(pl.col("timestamp").unique().sort())
    at = moments["timestamp"].dt.epoch("ns").to_numpy().astype(np.int64)
    holds_ns = asked["holds_ns"][0] if len(asked) else NEVER
    steady = steadiness(rows.time, delay_ns, at, settings.sizing.jitter_weight, holds_ns)
    known = moments.with_columns(
        spread=spreads(rows, at),
        steadiness=steady,
        stale=ages_ns(rows.time, at) > round(settings.stale_ms * 1e6),
    )
    return asked.join(known, on="timestamp", how="left", maintain_order="left")


def _asked(arguments: Mapping[str, Any], symbol: str, times: Sequence[int]) -> pl.DataFrame:
    """The predictions about moments of the session, joined with features."""
    first, last = (int(times[0]) // 1_000, int(times[-1]) // 1_000) if len(times) else (0, 0)
    within = (pl.col("symbol") == symbol) & pl.col("timestamp").cast(pl.Int64).is_between(first, last)
    found = {name: pl.scan_parquet(arguments[name]).filter(within) for name in ("predictions", "features")}
    task = (pl.col("target") == arguments["target"]) & (pl.col("horizon") == arguments["horizon"])
    predictions = found["predictions"].filter(task).collect()
    last_event = int(times[-1]) if len(times) else 0
    return joined(predictions, found["features"].collect(), arguments["horizon"], last_event)
