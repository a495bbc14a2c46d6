"""Symbols that trade rarely: on most exchanges many names have days without a single trade."""

import numpy as np
import polars as pl

from components.market.faults import FAULTS_SCHEMA
from components.market.simulator_config import RareSettings

EMPTY = ("open", "high", "low")


def without_trades(
    panel: pl.DataFrame, faults: pl.DataFrame, settings: RareSettings, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`panel` with bars of rarely traded symbols in which nothing was traded, and the table of these bars:
    `symbol, timestamp, kind`, kind `no_trade`.

    A symbol's first bar always has a trade, and so has one of `faults`. The price that a later trade meets
    has moved on meanwhile.

    Parameters
    ----------
    panel : RAW_PANEL, sorted by (timestamp, symbol)
    faults : columns `symbol`, `timestamp` of rows that stay as they are
    """
    names = panel["symbol"].unique().sort().to_numpy()
    rare = pl.Series(rng.permutation(names)[: round(settings.share * len(names))])
    traded = pl.Series(rng.random(len(panel)) < settings.traded_share)
    first = pl.int_range(pl.len()).over("symbol") == 0
    keys = faults.select("symbol", "timestamp", pl.lit(True).alias("faulty")).unique()
    panel = panel.join(keys, on=["symbol", "timestamp"], how="left", maintain_order="left")
    idle = pl.col("symbol").is_in(rare.implode()) & ~traded & ~first & pl.col("faulty").is_null()
    panel = panel.with_columns(idle.alias("idle")).drop("faulty")
    bars = panel.filter("idle").select("symbol", "timestamp", pl.lit("no_trade").alias("kind"))
    return _shown(panel, settings).drop("idle"), bars.sort("symbol", "timestamp").cast(FAULTS_SCHEMA)


def _shown(panel: pl.DataFrame, settings: RareSettings) -> pl.DataFrame:
    """The panel as the source gives it: `idle` bars left out, or with what stands for prices there."""
    if settings.untraded == "missing":
        return panel.filter(~pl.col("idle"))
    last = pl.when(~pl.col("idle")).then("close").forward_fill().over("symbol")
    nothing = pl.lit(0.0 if settings.untraded == "zeros" else None, dtype=pl.Float64)
    values = {"close": last if settings.untraded == "zeros" else nothing, "volume": pl.lit(0.0)}
    values |= dict.fromkeys(EMPTY, nothing)
    return panel.with_columns(
        pl.when("idle").then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )
