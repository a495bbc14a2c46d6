"""Labels far beyond what is usual for their symbol, as missed splits and false prices leave them behind.

A split in unadjusted prices and a crash can be as large as each other. What tells them apart is that a market
in which such moves happen moves much around them, too: a label is measured in the usual size of its symbol's
labels before and after it, whichever is larger, and against the median of its bar.
"""

from collections.abc import Iterable

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
    ordered = with_excess(labels.select("timestamp", "symbol", "horizon", "log_return")).with_row_index("row")
    known = ordered.drop_nulls("log_return").sort("horizon", "symbol", "timestamp")
    schema = {"row": pl.UInt32, "sizes": pl.Float64, "far": pl.Boolean}
    parts = [
        _with_sizes(part, horizon, part["excess"].abs().median()).select(list(schema))
        for (horizon,), part in known.group_by("horizon")
    ]
    found = pl.concat([pl.DataFrame(schema=schema), *parts])
    return (
        ordered.select("row", "excess").join(found, on="row", how="left", maintain_order="left").drop("row")
    )


def with_excess(labels: pl.DataFrame) -> pl.DataFrame:
    """Add how far each label lies from the median of its bar: `excess`, null where there is no label.

    `labels` may be some bars of all, each as a whole.
    """
    bar, size = ["horizon", "timestamp"], pl.col("log_return")
    market = pl.when(size.count().over(bar) >= FEWEST_SYMBOLS).then(size.median().over(bar))
    return labels.with_columns((size - market.fill_null(0.0)).alias("excess"))


def _with_sizes(known: pl.DataFrame, horizon: int, whole: float | None) -> pl.DataFrame:
    """Add `sizes` and `far` to the labels of one horizon that are known, in the order of symbol and time.

    They may be some symbols of all, each as a whole; `whole` is the median size of all of them.
    """
    size = pl.col("excess").abs()
    rolling = size.rolling_median(AROUND_BARS, min_samples=FEWEST_AROUND).over("symbol")
    # Labels that share a bar with this one say the same as it does.
    before = pl.col("usual").shift(horizon + 1).over("symbol")
    after = pl.col("usual").shift(-(AROUND_BARS + horizon)).over("symbol")
    around = pl.max_horizontal(before, after).fill_null(pl.lit(whole, pl.Float64))
    usual = pl.max_horizontal(around, pl.lit(whole, pl.Float64) * LEAST_SHARE)
    sizes = pl.when(usual > 0).then(size / (usual * MEDIAN_TO_DEVIATION))
    sized = known.with_columns(rolling.alias("usual")).with_columns(sizes.alias("sizes"))
    far = (pl.col("sizes") > far_sizes(horizon)).fill_null(False)
    return sized.with_columns(far.alias("far"))


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
    table = pl.concat([labels, in_usual_sizes(labels)], how="horizontal").drop_nulls("log_return")
    return _together([_found(table, table["timestamp"].unique().sort())])


def far_labels_in_parts(
    parts: Iterable[pl.DataFrame], horizon: int, whole: float | None, bars: pl.Series
) -> pl.DataFrame:
    """`far_labels` of one horizon, of labels that are not all at hand at once.

    Parameters
    ----------
    parts : all labels of some symbols each, with their `excess` (`with_excess`), in the order of symbol and
        time
    whole : median size of all excesses; None where there is none
    bars : the timestamps at which there is any label, in order
    """
    return _together(
        [_found(_with_sizes(part.drop_nulls("log_return"), horizon, whole), bars) for part in parts]
    )


def _found(sized: pl.DataFrame, bars: pl.Series) -> pl.DataFrame:
    """What far labels amount to among some, one row a horizon."""
    square, far = pl.col("excess") ** 2, pl.col("far")
    farthest = pl.col("sizes").filter(far).arg_max()
    table = sized.drop_nulls("sizes")
    table = table.with_columns(bars.search_sorted(table["timestamp"]).cast(pl.Int64).alias("bar"))
    return table.group_by("horizon").agg(
        far.sum().alias("labels"),
        pl.col("bar").filter(far).alias("far_bars"),
        square.filter(far).sum().alias("far_squares"),
        square.sum().alias("squares"),
        *(pl.col(name).filter(far).get(farthest) for name in ("symbol", "timestamp", "log_return", "sizes")),
    )


def _together(found: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The `far_labels` of what was found among some labels and among others."""
    farthest = pl.col("sizes").arg_max()
    all_found = (
        pl.concat(found)
        .group_by("horizon")
        .agg(
            pl.col("labels").sum(),
            pl.col("far_bars").explode(),
            (pl.col("far_squares").sum() / pl.col("squares").sum()).alias("share"),
            *(pl.col(name).get(farthest) for name in ("symbol", "timestamp", "log_return", "sizes")),
        )
        .filter(pl.col("labels") > 0)
        .sort("horizon")
    )
    moments = [_moments(row["far_bars"], row["horizon"]) for row in all_found.iter_rows(named=True)]
    return all_found.with_columns(pl.Series("moments", moments, dtype=pl.Int64)).drop("far_bars")


def _moments(bars: list[int], horizon: int) -> int:
    """Groups of bars with more than a horizon between them."""
    return int((np.diff(np.unique(bars)) > horizon).sum()) + 1
