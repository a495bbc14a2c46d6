"""Whether two windows are of the same market, by the prices alone: names of runs, symbols and files can be
changed, what prices did can't.
"""

import numpy as np
import polars as pl

from components.contracts.documents.market_sketch import MarketSketch

# Kept of a window. Of two windows that share a twentieth of their bars some 50 can still be compared.
SIZE = 1024
# Steps of a log return: finer than what prices of another market have in common by chance, coarser than what
# rounding or another adjustment for dividends leaves different in most bars.
STEPS = 1e6
# Below so many changes in common bars nothing can be told.
FEWEST = 5
# Of the changes in common bars so many must be the same. A market of which some names are left out has all of
# them, one whose prices were loaded anew most, another market none.
SAME = 0.3


def market_sketch(panel: pl.DataFrame) -> MarketSketch:
    """A bottom-k sketch (Cohen and Kaplan 2007, *Summarizing data using bottom-k sketches*) of the pairs of
    log returns that each symbol's bar and the bar before it have; bars without a change are left out.

    Parameters
    ----------
    panel : columns `timestamp`, `symbol`, `close`, in any order
    """
    step = (pl.col("close").log().diff().over("symbol", order_by="timestamp") * STEPS).round()
    steps = panel.select("timestamp", "symbol", now=step).with_columns(
        before=pl.col("now").shift(1).over("symbol", order_by="timestamp")
    )
    changed = [pl.col(name).is_finite() & (pl.col(name) != 0) for name in ("now", "before")]
    rows = steps.filter(*changed).select(
        pl.col("timestamp").dt.epoch("us"), pl.col("now", "before").cast(pl.Int64)
    )
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.iter_columns():
        mixed = _mixed(mixed ^ column.to_numpy().astype(np.uint64))
    # A JSON reader that knows signed numbers alone can hold them.
    hashes, first = np.unique((mixed >> np.uint64(1)).astype(np.int64), return_index=True)
    seconds = rows["timestamp"].to_numpy()[first[:SIZE]] // 1_000_000
    return MarketSketch(
        hashes=tuple(hashes[:SIZE].tolist()), seconds=tuple(seconds.tolist()), whole=len(hashes) <= SIZE
    )


def same_market(one: MarketSketch, other: MarketSketch) -> bool | None:
    """Whether at least SAME of the changes in common bars, of the market that has fewer, are the other's too;
    None where too few can be compared to tell.
    """
    if not one.hashes or not other.hashes:
        return None
    begin = max(min(one.seconds), min(other.seconds))
    end = min(max(one.seconds), max(other.seconds))
    # Up to here both sketches hold every hash.
    largest = min(_reach(one), _reach(other))
    kept = [
        {
            value
            for value, second in zip(sketch.hashes, sketch.seconds, strict=True)
            if begin <= second <= end and value <= largest
        }
        for sketch in (one, other)
    ]
    fewer = min(map(len, kept))
    return None if fewer < FEWEST else len(kept[0] & kept[1]) >= SAME * fewer


def _reach(sketch: MarketSketch) -> float:
    return np.inf if sketch.whole else sketch.hashes[-1]


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves every bit of the output."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
