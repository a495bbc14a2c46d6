"""Chooses where the audit cuts history, and which bars and symbols stand around a cut."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl

from components.audit.columns import Table, columns_at, numbered_keys

LAST_SHARE = 0.95
MIN_CROSS_SECTION = 8
GUIDE_SYMBOLS = 120


@dataclass(frozen=True)
class Cut:
    """A bar position in the calendar, its timestamp, and how it was chosen (`sampled`, `guided`
    or `late`).
    """

    position: int
    timestamp: datetime
    kind: str


def sample_cuts(calendar: pl.Series, count: int, first: int, rng: np.random.Generator) -> list[Cut]:
    """`count` cuts, one at random in each equal stretch from bar `first` on, the last within the newest 5 %
    of the bars.

    One of them is moved to the nearest bar before the first one of a new day (UTC): whoever sees a day's bar
    before the day is over sees it there. At least one bar remains after each. With as many cuts as there are
    bars, every bar but the last is one.
    """
    n_bars = len(calendar)
    if count >= n_bars - 1:
        positions = list(range(n_bars - 1))
    else:
        newest = min(max(int(n_bars * LAST_SHARE), 0), n_bars - 2)
        edges = np.linspace(min(first, newest), newest, count).astype(int)
        earlier = [int(rng.integers(low, max(high, low + 1))) for low, high in pairwise(edges)]
        drawn = [*earlier, int(rng.integers(newest, n_bars - 1))]
        middle = len(drawn) // 2
        drawn[middle] = _before_a_day(calendar, drawn[middle])
        positions = sorted(set(drawn))
    return [Cut(position, calendar[position], "sampled") for position in positions]


def _before_a_day(calendar: pl.Series, position: int) -> int:
    """The bar nearest to `position` whose next bar is the first of another day."""
    days = calendar.dt.truncate("1d")
    last = (days != days.shift(-1)).fill_null(False).arg_true().to_numpy()
    return int(last[np.abs(last - position).argmin()]) if len(last) else position


def guided_cuts(
    panel: pl.DataFrame, factors: Table, columns: list[str], calendar: pl.Series, count: int
) -> list[Cut]:
    """Cuts at the bars where some factor correlates most, across symbols, with the return from that close to
    the next.

    A leak of one single date shows there and at no sampled cut. Bars with fewer than 8 symbols are passed
    over.
    """
    symbols = spread_symbols(panel, GUIDE_SYMBOLS, np.random.default_rng(0))
    closes = panel.filter(pl.col("symbol").is_in(symbols)).select("timestamp", "symbol", "close")
    next_return = (pl.col("close").shift(-1).over("symbol") / pl.col("close")).log()
    rows = closes.with_columns(next_return.alias("__next")).join(
        numbered_keys(factors, ("timestamp", "symbol")),
        on=["timestamp", "symbol"],
        how="left",
        maintain_order="left",
    )
    target = rows["__next"].to_numpy()
    bars = calendar.search_sorted(rows["timestamp"]).to_numpy().astype(np.int64)
    best = np.zeros(len(calendar))
    for column in columns_at(factors, columns, rows["__row"]):
        values = column.cast(pl.Float64, strict=False).to_numpy()
        best = np.fmax(best, _absolute_correlation(values, target, bars, len(calendar)))
    best[-1] = 0.0
    chosen = np.argsort(best)[::-1][:count]
    return [
        Cut(int(position), calendar[int(position)], "guided")
        for position in sorted(chosen)
        if best[position] > 0
    ]


def _absolute_correlation(x: np.ndarray, y: np.ndarray, bars: np.ndarray, n_bars: int) -> np.ndarray:
    """|Pearson correlation| within each bar; 0 where fewer than 8 symbols have both or one does not vary."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y, bars = x[both], y[both], bars[both]
    members = np.bincount(bars, minlength=n_bars)
    with np.errstate(all="ignore"):
        x = x - (np.bincount(bars, x, n_bars) / members)[bars]
        y = y - (np.bincount(bars, y, n_bars) / members)[bars]
        spread = np.bincount(bars, x * x, n_bars) * np.bincount(bars, y * y, n_bars)
        found = np.abs(np.bincount(bars, x * y, n_bars)) / np.sqrt(spread)
    return np.where((members >= MIN_CROSS_SECTION) & np.isfinite(found) & (spread > 1e-30), found, 0.0)


def window(
    panel: pl.DataFrame, calendar: pl.Series, position: int, lookback: int, future: int
) -> pl.DataFrame:
    """The bars from `lookback` before to `future` after a position, in the panel's order of rows."""
    start, end = max(position - lookback, 0), min(position + future, len(calendar) - 1)
    return panel.filter(pl.col("timestamp").is_between(calendar[start], calendar[end]))


def spread_symbols(
    panel: pl.DataFrame, count: int, rng: np.random.Generator, *, always: tuple[str, ...] = ()
) -> list[str]:
    """At most `count` symbols of the panel, drawn evenly over sectors; those in `always` come first."""
    known = (
        panel.group_by("symbol").agg(pl.col("sector").drop_nulls().last())
        if "sector" in panel.columns
        else panel.select("symbol").unique().with_columns(sector=None)
    )
    known = known.sort("symbol")
    if len(known) <= count:
        return known["symbol"].to_list()
    ordered = (
        known.with_columns(pl.Series("__draw", rng.random(len(known))))
        .sort("sector", "__draw")["symbol"]
        .to_list()
    )
    picked = [ordered[i] for i in np.linspace(0, len(ordered) - 1, count).astype(int)]
    return sorted(dict.fromkeys([*always, *picked]))
