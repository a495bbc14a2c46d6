"""Labels far beyond what is usual for their symbol, as missed splits and false prices leave them behind.

A split in unadjusted prices and a crash can be as large as each other. What tells them apart is that a market
in which such moves happen moves much around them, too: a label is measured in the usual size of its symbol's
labels before and after it, whichever is larger, and against the median of its bar.
"""

import numpy as np
import polars as pl

# Usual sizes beyond which a label over FAR_BARS or more counts as far. In adjusted daily stocks one label in
# 250,000 over five bars is farther, in daily coins one in 8,000.
FAR_SIZES = 20.0
# News is as large over one bar as over five, while the usual size grows with the root of the horizon.
FAR_BARS = 5
# Labels on each side from which the usual size is taken, and the fewest that will do.
AROUND_BARS = 60
FEWEST_AROUND = 20
# The market's own usual size, times this, is the least that counts: a peg that breaks is no false price.
LEAST_SHARE = 0.5
# Bars with fewer symbols have no market to be held against.
FEWEST_SYMBOLS = 5
# The median of absolute values times this is the standard deviation of a normal distribution.
MEDIAN_TO_DEVIATION = 1.4826


def in_usual_sizes(labels: pl.DataFrame) -> pl.DataFrame:
    """How far each label lies from the median of its bar.

    Parameters
    ----------
    labels : columns `timestamp`, `symbol`, `horizon`, `log_return`; in any order

    Returns
    -------
    Columns `excess` (log return), `sizes` (in usual sizes of the symbol's labels of the horizon) and whether
    that is `far`, in the order of `labels`; null where there is no label, `sizes` also where nothing moves.
    """
    ordered = labels.select("timestamp", "symbol", "horizon", "log_return").with_row_index("row")
    known = ordered.drop_nulls("log_return").sort("horizon", "symbol", "timestamp")
    bar, own = ["horizon", "timestamp"], ["horizon", "symbol"]
    market = pl.when(pl.len().over(bar) >= FEWEST_SYMBOLS).then(pl.col("log_return").median().over(bar))
    known = known.with_columns((pl.col("log_return") - market.fill_null(0.0)).alias("excess"))
    size = pl.col("excess").abs()
    rolling = size.rolling_median(AROUND_BARS, min_samples=FEWEST_AROUND).over(own)
    parts = []
    for (horizon,), part in known.with_columns(rolling.alias("usual")).group_by("horizon"):
        # Labels that share a bar with this one say the same as it does.
        before = pl.col("usual").shift(horizon + 1).over("symbol")
        after = pl.col("usual").shift(-(AROUND_BARS + horizon)).over("symbol")
        whole = size.median()
        around = pl.max_horizontal(before, after).fill_null(whole)
        usual = pl.max_horizontal(around, whole * LEAST_SHARE)
        sizes = pl.when(usual > 0).then(size / (usual * MEDIAN_TO_DEVIATION))
        far = (sizes > far_sizes(horizon)).fill_null(False)
        parts.append(part.select("row", "excess", sizes.alias("sizes"), far.alias("far")))
    schema = {"row": pl.UInt32, "excess": pl.Float64, "sizes": pl.Float64, "far": pl.Boolean}
    found = pl.concat([pl.DataFrame(schema=schema), *parts])
    return ordered.select("row").join(found, on="row", how="left", maintain_order="left").drop("row")


def far_sizes(horizon: int) -> float:
    """Usual sizes beyond which a label over `horizon` bars is far."""
    return FAR_SIZES * max(np.sqrt(FAR_BARS / max(horizon, 1)), 1.0)  # none below 1 is right: judged apart


def far_labels(labels: pl.DataFrame) -> pl.DataFrame:
    """What the far labels amount to, one row a horizon that has any.

    Returns
    -------
    Columns `horizon`, `labels` (their number), `moments` (stretches of time apart from each other that they
    span), `share` (of the sum of all squared excesses), and of the farthest: `symbol`, `timestamp`,
    `log_return`, `sizes`; sorted by horizon.
    """
    table = pl.concat([labels, in_usual_sizes(labels)], how="horizontal").drop_nulls("sizes")
    bars = table["timestamp"].unique().sort()
    square, far = pl.col("excess") ** 2, pl.col("far")
    farthest = pl.col("sizes").filter(far).arg_max()
    table = table.with_columns(bars.search_sorted(table["timestamp"]).cast(pl.Int64).alias("bar"))
    found = table.group_by("horizon").agg(
        far.sum().alias("labels"),
        pl.col("bar").filter(far).alias("far_bars"),
        (square.filter(far).sum() / square.sum()).alias("share"),
        *(pl.col(name).filter(far).get(farthest) for name in ("symbol", "timestamp", "log_return", "sizes")),
    )
    found = found.filter(pl.col("labels") > 0).sort("horizon")
    moments = [_moments(row["far_bars"], row["horizon"]) for row in found.iter_rows(named=True)]
    return found.with_columns(pl.Series("moments", moments, dtype=pl.Int64)).drop("far_bars")


def _moments(bars: list[int], horizon: int) -> int:
    """Groups of bars with more than a horizon between them."""
    return int((np.diff(np.unique(bars)) > horizon).sum()) + 1
