"""A market whose mid walks at random between quotes of equal size, and the tables of a run on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, FACTORS, LABELS, write_table
from components.contracts.documents.instruments import Instruments
from components.contracts.tick_days import INSTRUMENTS, write_day
from components.contracts.tick_schemas import BUY, DELAYS, QUOTE, SELL, TICKS
from components.tick_replay.arrays import Rows
from components.tick_replay.run import Inputs
from tests.tick_replay.small_market import CENTS, MS, START

SAMPLE_MS, HORIZON = 250, 4
ABOUT = {"code_version": "test", "config_hash": "test"}


@dataclass(frozen=True)
class Walk:
    """Quotes of 500 lots at `times` (ns) around `mid` (half ticks), and sample moments."""

    times: np.ndarray
    bids: np.ndarray
    at: np.ndarray

    @property
    def rows(self) -> Rows:
        count = len(self.times)
        prices = np.stack([self.bids, self.bids + 2], axis=1).ravel()
        columns = (
            np.repeat(self.times, 2),
            np.full(2 * count, QUOTE),
            np.tile([BUY, SELL], count),
            prices,
            np.full(2 * count, 500),
            np.zeros(2 * count),
            np.repeat(np.arange(count), 2),
        )
        return Rows(*(np.ascontiguousarray(column.astype(np.int64)) for column in columns))

    def mid_at(self, moments: np.ndarray) -> np.ndarray:
        """Ticks."""
        return self.bids[np.searchsorted(self.times, moments, side="right") - 1] + 1.0

    def moves(self) -> np.ndarray:
        """Log return over the horizon from each moment."""
        later = self.at + HORIZON * SAMPLE_MS * MS
        return np.log(self.mid_at(later) / self.mid_at(self.at))


def walk(seconds: int, seed: int) -> Walk:
    """Twenty quotes a second; the mid moves by a few ticks a second, and goes on for a while as it went."""
    generator = np.random.default_rng(seed)
    gaps = generator.integers(1, 100 * MS, size=seconds * 20)
    times = START + np.cumsum(gaps)
    drift = np.repeat(generator.normal(0, 0.6, size=len(times) // 20 + 1), 20)[: len(times)]
    bids = 10_000 + np.rint(np.cumsum(drift + generator.normal(0, 0.5, size=len(times)))).astype(np.int64)
    step = SAMPLE_MS * MS
    first, last = times[0] // step + 1, (times[-1] - HORIZON * step) // step
    return Walk(times, bids, np.arange(first, last) * step)


def write_run(folder: Path, walks: dict[str, Walk], scores: dict[str, dict[str, np.ndarray]]) -> Inputs:
    """The tables of a run: `scores` by expert and symbol, one a moment; classes `trade_class`."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"features": [], "labels": [], "predictions": []}
    for symbol, market in walks.items():
        write_day(_ticks(market, symbol), folder / "ticks", symbol, "day", **ABOUT)
        key = {"timestamp": pl.Series(market.at // 1_000).cast(pl.Datetime("us", "UTC"))}
        moments = pl.DataFrame(key).with_columns(symbol=pl.lit(symbol))
        regime = pl.Series(np.where(np.arange(len(moments)) % 80 < 40, 0.0, 2.0)).cast(pl.Float32)
        parts["features"].append(
            moments.with_columns(
                pl.col("timestamp").alias("known_time"),
                pl.lit(2e-4, pl.Float32).alias("volatility_20"),
                regime.alias("regime_state"),
            )
        )
        parts["labels"].append(_labels(market, moments))
        for expert, by_symbol in scores.items():
            parts["predictions"].append(_predictions(moments, expert, by_symbol[symbol]))
    Instruments(symbols=dict.fromkeys(walks, CENTS)).write(folder / "ticks" / INSTRUMENTS)
    features, labels = (pl.concat(parts[name]) for name in ("features", "labels"))
    write_table(features.sort(FACTORS.key), folder / "features.parquet", FACTORS, **ABOUT)
    stamp = write_table(labels.sort(LABELS.key), folder / "labels.parquet", LABELS, **ABOUT)
    predictions = pl.concat(parts["predictions"]).sort(ALL_PREDICTIONS.key)
    made_from = {"labels": stamp.content_sha256}
    path = folder / "predictions.parquet"
    write_table(predictions, path, ALL_PREDICTIONS, inputs=made_from, **ABOUT)
    write_table(_delays(walks), folder / "delays.parquet", DELAYS, **ABOUT)
    names = ("predictions", "labels", "features", "delays")
    return Inputs(folder / "ticks", *(folder / f"{name}.parquet" for name in names))


def _ticks(market: Walk, symbol: str) -> pl.DataFrame:
    rows = market.rows
    known = {
        "ingest_ts": rows.time,
        "exchange_ts": rows.time,
        "kind": rows.kind.astype(np.int8),
        "side": rows.side.astype(np.int8),
        "price": rows.price,
        "quantity": rows.quantity,
        "order_id": rows.order_id,
        "message": rows.message,
        "sequence": np.arange(len(rows.time)),
    }
    frame = pl.DataFrame(known).with_columns(
        symbol=pl.lit(symbol), session=pl.lit("day"), update_id=pl.lit(0), previous_update_id=pl.lit(0)
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in TICKS.columns.items())


def _labels(market: Walk, moments: pl.DataFrame) -> pl.DataFrame:
    moves = market.moves()
    end = pl.col("timestamp") + pl.duration(milliseconds=HORIZON * SAMPLE_MS)
    frame = moments.with_columns(
        horizon=pl.lit(HORIZON, pl.Int32),
        label_end=end,
        log_return=moves,
        direction=np.sign(moves).astype(np.int8),
        sector_neutral_return=pl.lit(None, pl.Float64),
        trade_class=np.sign(moves).astype(np.int8),
    )
    return frame.select(*LABELS.columns, "trade_class")


def _predictions(moments: pl.DataFrame, expert: str, scores: np.ndarray) -> pl.DataFrame:
    up, down = np.clip(scores, 0, 1), np.clip(-scores, 0, 1)
    given = {
        "period": pl.lit("250ms"),
        "horizon": pl.lit(HORIZON, pl.Int32),
        "target": pl.lit("trade_class"),
        "expert": pl.lit(expert),
        "fold": pl.lit("1"),
        "train_window": pl.lit(""),
        "score": scores,
        "uncertainty": np.sqrt(up + down - scores**2 + 1e-6),
        "p_down": down,
        "p_none": 1 - up - down,
        "p_up": up,
    }
    zeros = [name for name in ALL_PREDICTIONS.columns if name not in given and name not in moments.columns]
    frame = moments.with_columns(**given, **dict.fromkeys(zeros, pl.lit(0.0)))
    return frame.select(*ALL_PREDICTIONS.columns, "p_down", "p_none", "p_up")


def _delays(walks: dict[str, Walk]) -> pl.DataFrame:
    rows = [
        (symbol, hour, share, delay)
        for symbol in walks
        for hour in range(24)
        for share, delay in ((0.0, 0), (0.5, 5 * MS), (0.95, 25 * MS), (1.0, 200 * MS))
    ]
    frame = pl.DataFrame(rows, schema=dict(DELAYS.columns), orient="row")
    return frame.sort(DELAYS.key)
