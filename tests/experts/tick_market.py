"""Samples of a few made-up order books on one grid of moments, in two sessions, with a planted alpha, in the
form that the trainer takes.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import LABELS, TRAINING_SET, CatalogEntry, write_catalog, write_table
from components.experts.training.inputs import Inputs
from components.timeline.periods import TICK_LENGTHS
from tests.experts.market import TIME

INPUTS = {"imbalance_1": "book", "flow_a": "flow", "flow_b": "flow", "spread_a": "book"}
# Samples over which the planted product looks back, and what one sample's return varies by.
PATTERN_SAMPLES, STEP = 8, 5e-5
# A return that pays, in standard deviations of a label.
PAYS = 0.8


def moments(samples: int, period: str, sessions: int = 2) -> pl.Series:
    """The grid: sessions of equal length that begin on two days."""
    length, each = TICK_LENGTHS[period], samples // sessions
    begins = [datetime(2026, 3, 2 + session, 14, 30, tzinfo=UTC) for session in range(sessions)]
    return pl.Series([begin + number * length for begin in begins for number in range(each)], dtype=TIME)


def samples(
    count: int = 400,
    symbols: int = 4,
    *,
    seed: int = 0,
    strength: float = 0.5,
    product: bool = False,
    period: str = "250ms",
) -> pl.DataFrame:
    """Rows of `timestamp, symbol, sector`, the inputs, context, `signal` and `label`, sorted.

    label = unit * (strength * signal + sqrt(1 - strength^2) * noise). The signal is the imbalance at the
    touch; or, of a `product`, mean of the last 8 samples of `flow_a` times that of `flow_b`, which no line
    can tell.
    """
    random = np.random.default_rng(seed)
    parts = []
    for number in range(symbols):
        values = {name: random.standard_normal(count) for name in INPUTS}
        kernel = np.ones(PATTERN_SAMPLES) / np.sqrt(PATTERN_SAMPLES)
        recent = [np.convolve(values[name], kernel)[:count] for name in ("flow_a", "flow_b")]
        signal = recent[0] * recent[1] if product else values["imbalance_1"]
        noise = random.standard_normal(count)
        label = STEP * np.sqrt(2) * (strength * signal + np.sqrt(1 - strength**2) * noise)
        parts.append(
            pl.DataFrame(
                {"timestamp": moments(count, period), "symbol": f"T{number}", "sector": f"T{number}"}
            )
            .with_columns(pl.Series(name, value, pl.Float32) for name, value in values.items())
            .with_columns(
                pl.lit(1.0, pl.Float32).alias("regime_state"),
                pl.lit(STEP, pl.Float32).alias("volatility_20"),
                pl.lit(float(number), pl.Float32).alias("sector_code"),
                pl.Series("signal", signal),
                pl.Series("label", label),
            )
        )
    return pl.concat(parts).sort("timestamp", "symbol")


def tables(rows: pl.DataFrame, *, horizon: int = 2) -> tuple[pl.DataFrame, pl.DataFrame, list[CatalogEntry]]:
    """Training set, labels of one horizon and catalog; the last samples of each session have no label."""
    times = rows["timestamp"].unique().sort()
    place = times.search_sorted(rows["timestamp"])
    ends = times.gather((place + 1 + horizon).clip(0, len(times) - 1))
    inside = (place + 1 + horizon < len(times)) & (ends - rows["timestamp"] < timedelta(hours=1))
    label = pl.when(pl.Series(inside)).then(rows["label"])
    pays = PAYS * rows["label"].std()
    labels = rows.select(
        "timestamp",
        "symbol",
        pl.lit(horizon, dtype=pl.Int32).alias("horizon"),
        pl.when(pl.Series(inside)).then(ends).alias("label_end"),
        label.alias("log_return"),
        label.sign().cast(pl.Int8).alias("direction"),
        label.alias("sector_neutral_return"),
        pl.when(label.abs() > pays)
        .then(label.sign())
        .otherwise(label * 0)
        .cast(pl.Int8)
        .alias("trade_class"),
    )
    context = ("regime_state", "volatility_20", "sector_code")
    roles = {**dict.fromkeys(INPUTS, "input"), **dict.fromkeys(context, "context")}
    catalog = [
        CatalogEntry(name, name, INPUTS.get(name, "regime"), role, "none", 0, "", "ticks")
        for name, role in roles.items()
    ]
    return rows.select("timestamp", "symbol", "sector", *roles), labels, catalog


def write_tables(folder: Path, rows: pl.DataFrame, *, horizon: int = 2) -> Inputs:
    """The tables as stamped files below an existing folder."""
    training_set, labels, catalog = tables(rows, horizon=horizon)
    about = {"code_version": "v1", "config_hash": ""}
    paths = [str(folder / name) for name in ("training_set.parquet", "labels.parquet", "catalog.json")]
    write_table(training_set, paths[0], TRAINING_SET, **about)
    write_table(labels, paths[1], LABELS, **about)
    write_catalog(catalog, paths[2])
    return Inputs(*paths)
