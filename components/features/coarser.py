"""Factors of coarser periods as columns of the panel's own bars: bars gathered from these, and which of them
each row sees.

A bar of a coarser period gathers a symbol's bars that end within one stretch of it, counted from midnight UTC
(a day is 00:00 to 24:00, four hours begin at 00, 04, ...), whichever there are: sessions and half days give
the bars they have. It is complete when the stretch is over, not earlier: only a calendar of the future could
tell that no further bar comes. A row sees the newest bar of its symbol that was complete at the row's
timestamp and known at the row's known_time.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from components.contracts import PANEL
from components.features.catalog import STALE_BARS, named_after
from components.features.support import known_numbers
from components.timeline.periods import stretch_end

# How the bars of a stretch become one; of every other number the last stands, as known by then.
HIGHEST, LOWEST, SUMMED, MEAN = ("high",), ("low",), ("volume", "trades"), ("funding_rate",)
NAMES = ("sector", "industry")


def gathered(
    panel: pl.DataFrame, period: str, read: Iterable[str], begin: datetime | None = None
) -> pl.DataFrame:
    """The bars of a coarser period, as a PANEL table sorted by its key, with the numbers in `read` that the
    panel has.

    Volume and trades are summed where those of all bars are known, else null; vwap is weighted by volume, the
    funding rate is a mean. The panel's first stretch is left out, because it may have begun before the panel.

    Parameters
    ----------
    panel : a PANEL table of a finer period, sorted by its key
    begin : the first timestamp, where the panel is a part of one that begins earlier
    """
    numbers = known_numbers(panel.schema, {*read, "volume"})
    names = [name for name in NAMES if name in panel.columns]
    rows = panel.select(*PANEL.key, "event_time", "known_time", *names, *numbers).with_columns(
        stretch_end(pl.col("timestamp"), period).alias("end")
    )
    first = rows["end"].min() if begin is None else pl.select(stretch_end(pl.lit(begin), period)).item()
    kept = [name for name in rows.columns if name not in {*PANEL.key, "event_time", "known_time", "end"}]
    found = (
        rows.filter(pl.col("end") > first)
        .group_by("symbol", "end", maintain_order=True)
        .agg(
            pl.col("event_time").min(),
            pl.col("known_time").max(),
            *(_gathered(name) for name in kept),
        )
    )
    return (
        found.rename({"end": "timestamp"})
        .with_columns(
            pl.max_horizontal("known_time", "timestamp").alias("known_time"), pl.lit(period).alias("period")
        )
        .sort(PANEL.key)
    )


def _gathered(name: str) -> pl.Expr:
    """One column of the gathered bars, of the bars of a stretch in their order."""
    column = pl.col(name)
    if name in SUMMED:
        return pl.when(column.null_count() == 0).then(column.sum()).alias(name)
    if name == "vwap":
        weight = pl.when(column.is_not_null()).then("volume")
        return pl.when(weight.sum() > 0).then((column * weight).sum() / weight.sum()).alias(name)
    if name == "open":
        return column.first()
    if name in HIGHEST:
        return column.max()
    if name in LOWEST:
        return column.min()
    return column.mean() if name in MEAN else column.last()


def seen_bars(rows: pl.DataFrame, bars: pl.DataFrame) -> pl.Series:
    """Which of the coarser `bars` each of `rows` sees: its position there, null for none; UInt32.

    It is the symbol's newest one that ended at the row's timestamp or before and was known at its known_time,
    unless the market has had more than STALE_BARS bars since.

    Parameters
    ----------
    rows : columns `timestamp`, `symbol`, `known_time`
    bars : the same columns, in any order
    """
    symbols, ends = bars["symbol"].unique().sort(), bars["timestamp"].unique().sort()
    order = np.argsort(_places(bars, symbols, ends), kind="stable")
    place = _places(bars, symbols, ends)[order]
    known = bars["known_time"].to_physical().to_numpy()[order]
    wanted, asked = _places(rows, symbols, ends), rows["known_time"].to_physical().to_numpy()
    oldest = wanted - STALE_BARS
    # The first end of a symbol has no place before it, so a symbol's oldest bar is never another's newest.
    oldest = np.maximum(oldest, wanted // (len(ends) + 1) * (len(ends) + 1) + 1)
    at = np.searchsorted(place, wanted, side="right") - 1
    for _ in range(STALE_BARS):
        late = (at >= 0) & (place[at] >= oldest) & (known[at] > asked)
        at = at - late
    seen = (wanted >= 0) & (at >= 0) & (place[at] >= oldest) & (known[at] <= asked)
    return pl.select(
        pl.when(pl.Series(seen)).then(pl.Series(order[np.where(seen, at, 0)].astype(np.uint32)))
    ).to_series()


def _places(rows: pl.DataFrame, symbols: pl.Series, ends: pl.Series) -> np.ndarray:
    """Number of the symbol, times one more than there are ends, plus the ends up to the row's timestamp;
    below 0 for a symbol that is none of `symbols`; (rows,), int64.
    """
    number = rows["symbol"].replace_strict(
        symbols, pl.int_range(len(symbols), eager=True), default=None, return_dtype=pl.Int64
    )
    passed = ends.search_sorted(rows["timestamp"], side="right").to_numpy().astype(np.int64)
    place = number.fill_null(-1).to_numpy() * (len(ends) + 1) + passed
    return np.where(number.is_null().to_numpy(), -1, place)


def joined(values: pl.DataFrame, columns: Sequence[str], seen: pl.Series, period: str) -> pl.DataFrame:
    """The `columns` of the coarser bars as the rows see them, named after the period."""
    return pl.DataFrame([values[name].gather(seen).alias(named_after(name, period)) for name in columns])
