"""How many bars each symbol has had, so that what a factor can't know yet of a young symbol is not called
missing.
"""

import numpy as np
import polars as pl

from components.contracts.documents.drift_reference import DriftReference
from components.drift.tables import SYMBOL, TIMESTAMP

OWN_BARS = "own_bars"


def with_own_bars(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the order of time with the column `own_bars`: 1 in a symbol's first row."""
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(SYMBOL)
    return rows.with_columns(number.alias(OWN_BARS))


def bars_by_symbol(rows: pl.DataFrame) -> dict[str, int]:
    """The most that `own_bars` reaches, by symbol."""
    most = rows.group_by(SYMBOL).agg(pl.col(OWN_BARS).max()).sort(SYMBOL)
    return dict(most.iter_rows())


def own_bars(table: pl.DataFrame, about: DriftReference) -> np.ndarray:
    """Bars that the symbol of each row has had with it, (N,); those of the reference count.

    Between the reference and the table lie as many bars as the time has room for; a symbol that the reference
    does not know begins in the table. Where rows have no time or symbol, or the reference counted none,
    nothing is young.

    Parameters
    ----------
    table : rows by (timestamp, symbol), some of which may lie in the reference
    """
    if not {TIMESTAMP, SYMBOL} <= set(table.columns) or not about.symbol_bars:
        return np.full(len(table), np.iinfo(np.int32).max)
    known = pl.DataFrame(
        {SYMBOL: list(about.symbol_bars), "before": list(about.symbol_bars.values())},
        schema={SYMBOL: pl.String, "before": pl.Int64},
    )
    counted = (pl.col(TIMESTAMP) <= about.last).sum().over(SYMBOL)
    rows = with_own_bars(table.select(TIMESTAMP, SYMBOL)).with_columns(counted.alias("counted"))
    rows = rows.join(known, on=SYMBOL, how="left", maintain_order="left")
    before = (pl.col("before") - pl.col("counted")).clip(lower_bound=0) + _bars_between(table, about)
    return rows.select(pl.col(OWN_BARS) + before.fill_null(0)).to_series().to_numpy()


def _bars_between(table: pl.DataFrame, about: DriftReference) -> int:
    step = (about.last - about.first) / max(about.bars - 1, 1)
    gap = table[TIMESTAMP].min() - about.last
    return max(round(gap / step) - 1, 0) if step else 0
