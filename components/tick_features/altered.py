"""Ticks with another future: what the leak audit makes features of again."""

import numpy as np
import polars as pl

# By how much prices and quantities grow at most, and gaps between messages in the mean.
LARGEST_FACTOR, MEAN_GAP_NS = 50, 1_000_000
# What a row says, dealt out anew together.
SAID = ("kind", "side", "price", "quantity", "order_id")


def other_future(ticks: pl.DataFrame, cut: int, rng: np.random.Generator) -> pl.DataFrame:
    """The ticks, all that came after `cut` (ns) changed by large numbers: other rows, prices, quantities,
    sides, delays, messages and times, each after the cut still. Rows up to it keep every byte.
    """
    past = ticks.filter(pl.col("ingest_ts") <= cut)
    future = ticks.filter(pl.col("ingest_ts") > cut)
    rows = len(future)
    if not rows:
        return past
    dealt = future.select(SAID)[rng.permutation(rows)]
    larger = rng.integers(2, LARGEST_FACTOR, (2, rows))
    # The first message after the cut comes at once: nothing may be seen of it.
    gaps = rng.exponential(MEAN_GAP_NS, rows).astype(np.int64)
    gaps[0] = 0
    changed = future.with_columns(
        dealt["kind"],
        pl.Series("side", rng.choice(np.array([-1, 1], np.int8), rows)),
        dealt["price"] * pl.Series(larger[0]),
        dealt["quantity"] * pl.Series(larger[1]) + 1,
        dealt["order_id"] + 1,
        pl.Series("ingest_ts", cut + 1 + np.cumsum(gaps)),
        pl.Series("message", future["message"][0] + np.cumsum(rng.integers(0, 2, rows))),
    )
    if "delay_ns" in changed.columns:
        changed = changed.with_columns(pl.col("delay_ns").fill_null(0) * 1_000 + 1)
    return pl.concat([past, changed.select(past.columns).cast(past.schema)])


def cut_off(ticks: pl.DataFrame, cut: int) -> pl.DataFrame:
    """The ticks up to `cut` (ns)."""
    return ticks.filter(pl.col("ingest_ts") <= cut)
