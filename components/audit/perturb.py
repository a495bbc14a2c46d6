"""Changed copies of a panel: another future, other values, holes. What the audit compares against the panel as it is."""

from datetime import datetime

import numpy as np
import polars as pl
import polars.selectors as cs

PRICES = ("open", "high", "low", "close")
LOG_FACTOR = 4.0
DROPPED_SHARE = 0.1
LEAVING_SHARE = 0.05
HOLED_SHARE = 0.3
GAP_SHARE = 0.15


def other_values(panel: pl.DataFrame, chosen: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Multiply every number of the chosen rows by its own random factor between 1/55 and 55 (exp of -4 to 4).

    Each column has its own factors, so ranges, gaps and ranks change too; high and low stay the extremes of the bar.
    """
    columns = panel.select(cs.numeric()).columns
    factors = {name: np.where(chosen, np.exp(rng.uniform(-LOG_FACTOR, LOG_FACTOR, len(panel))), 1.0) for name in columns}
    changed = panel.with_columns((pl.col(name) * pl.Series(factor)).cast(panel.schema[name]) for name, factor in factors.items())
    prices = [name for name in PRICES if name in columns]
    if len(prices) < len(PRICES):
        return changed
    rows = pl.Series(chosen)
    high = pl.when(rows).then(pl.max_horizontal(*prices)).otherwise("high")
    low = pl.when(rows).then(pl.min_horizontal(*prices)).otherwise("low")
    return changed.with_columns(high.alias("high"), low.alias("low"))


def other_future(panel: pl.DataFrame, cut: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Everything after the cut becomes another world; rows up to the cut keep every byte and their place.

    After it all numbers change, sectors are dealt out anew, some rows are missing, some symbols leave at once and one is
    listed that never was.
    """
    head, tail = panel.filter(pl.col("timestamp") <= cut), panel.filter(pl.col("timestamp") > cut)
    if tail.is_empty():
        return head
    tail = other_values(tail, np.ones(len(tail), dtype=bool), rng)
    if "sector" in tail.columns:
        dealt = tail["sector"].sample(fraction=1.0, shuffle=True, seed=int(rng.integers(2**31)))
        tail = tail.with_columns(pl.when(pl.Series(rng.random(len(tail)) < 0.5)).then(pl.lit("unheard-of sector")).otherwise(dealt).alias("sector"))
    symbols = tail["symbol"].unique().sort()
    listed = tail.filter(pl.col("symbol") == symbols[0]).with_columns(pl.lit(f"{symbols[0]} new listing").alias("symbol"))
    leaving = rng.choice(symbols.to_numpy(), size=int(len(symbols) * LEAVING_SHARE), replace=False)
    kept = tail.filter(pl.Series(rng.random(len(tail)) >= DROPPED_SHARE) & ~pl.col("symbol").is_in(leaving.tolist()))
    return pl.concat([head, pl.concat([kept, listed]).sort("timestamp", "symbol")])


def with_holes(panel: pl.DataFrame, cut: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Holes that reach up to the cut: some symbols lose all numbers of their last 1 to 3 bars, others lose the rows.

    A backward fill or an interpolation puts into them what came after the cut.
    """
    symbols = panel["symbol"].unique().sort().to_numpy()
    shuffled = rng.permutation(symbols)
    n_holed = max(1, int(len(symbols) * HOLED_SHARE))
    n_gaps = int(len(symbols) * GAP_SHARE)
    depth = pl.DataFrame({"symbol": shuffled, "__depth": rng.integers(1, 4, len(symbols))}).with_columns(pl.int_range(pl.len()).alias("__order"))
    past = panel.filter(pl.col("timestamp") <= cut).join(depth, on="symbol", how="left", maintain_order="left")
    last_bars = past["timestamp"].unique().sort(descending=True).head(3)
    bars_ago = pl.col("timestamp").replace_strict(last_bars, pl.Series(range(len(last_bars))), default=99, return_dtype=pl.Int64)
    hit = bars_ago < pl.col("__depth")
    holed = hit & (pl.col("__order") < n_holed)
    gap = hit & (pl.col("__order") >= n_holed) & (pl.col("__order") < n_holed + n_gaps)
    numbers = panel.select(cs.numeric()).columns
    past = past.filter(~gap).with_columns(pl.when(holed).then(None).otherwise(pl.col(name)).alias(name) for name in numbers)
    return pl.concat([past.select(panel.columns), panel.filter(pl.col("timestamp") > cut)])
