"""The book of one symbol over a minute as a heat map, with the touch and the judged strategy's fills."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.tick_days import TickDay, read_day, read_instruments, tick_days
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT
from components.page import Picture
from components.report.picture import LIMITS, picture

WINDOW_NS = 60 * 10**9
COLUMNS = 300
# What is shown beyond the touch: so many ticks, or this share of how far it went.
BEYOND_TICKS = 8
BEYOND_SHARE = 0.2
# Rows at most: where the touch goes further, a row holds the levels of several ticks together.
MOST_ROWS = 120


@dataclass(frozen=True)
class Rows:
    """The rows of the heat map: `count` of `width` ticks each, from the price `low` (ticks) on."""

    low: int
    width: int
    count: int

    @property
    def high(self) -> int:
        """The highest price, in ticks."""
        return self.low + self.width * self.count - 1

    def prices(self, tick_size: float) -> list[float]:
        """The middle of each row."""
        ticks = self.low + self.width * np.arange(self.count) + (self.width - 1) / 2
        return np.round(ticks * tick_size, 10).tolist()


def book_picture(folder: Path, fills: pl.DataFrame) -> Picture | None:
    """The symbol-session with most fills, over the minute with most of them; None where the source tells no
    quotes.

    folder : validated ticks
    fills : FILLS of one strategy
    """
    day, middle = _where(tick_days(folder), fills)
    ticks = read_day(day)
    middle = int(ticks["ingest_ts"].median()) if middle is None else middle
    start, end = middle - WINDOW_NS // 2, middle + WINDOW_NS // 2
    ticks = ticks.filter(pl.col("ingest_ts") <= end)
    first, last = max(start, int(ticks["ingest_ts"][0])), int(ticks["ingest_ts"][-1])
    moments = np.linspace(first, last, COLUMNS).astype(np.int64)
    quotes = _quotes(ticks, moments)
    if quotes is None:
        return None
    size, rows = read_instruments(folder).symbols[day.symbol].tick_size, _rows(*quotes)
    is_here = (pl.col("symbol") == day.symbol) & (pl.col("session") == day.session)
    own = fills.filter(is_here & pl.col("filled_ts").is_between(start, end))
    times = _shown(moments)
    lots = _resting(ticks, moments, rows)
    heat = _heat(times, rows.prices(size), lots)
    together = f" A row is {rows.width} ticks." if rows.width > 1 else ""
    rest = f"Lots that rest, logarithmic: bids blue, asks red.{together} " if lots.any() else ""
    return picture(
        f"{day.symbol}, {day.session}: {round((last - first) / 1e9)} s"
        + (" with most fills" if len(fills) else " in the middle, for there are no fills"),
        [heat, *_touches(times, quotes, size), *_fill_marks(own)],
        {"yaxis": {"title": "price"}, "xaxis": {"title": "collector's clock, UTC"}},
        note=f"{rest}Lines: best bid and ask. Filled triangles open a position, hollow ones close it.",
        tall=True,
        wide=True,
    )


def _where(days: list[TickDay], fills: pl.DataFrame) -> tuple[TickDay, int | None]:
    """The day with most fills, and the middle of its fullest minute."""
    if fills.is_empty():
        return days[0], None
    minute = (pl.col("filled_ts") // WINDOW_NS).alias("minute")
    counted = fills.group_by("symbol", "session", minute).len().sort("symbol", "session", "minute")
    symbol, session, _, _ = (
        counted.group_by("symbol", "session")
        .agg(pl.col("len").sum())
        .sort("len", "symbol", "session", descending=[True, False, False])
        .with_columns(minute=0)
        .row(0)
    )
    own = counted.filter((pl.col("symbol") == symbol) & (pl.col("session") == session))
    fullest = own.sort("len", "minute", descending=[True, False])["minute"][0]
    there = [day for day in days if (day.symbol, day.session) == (symbol, session)]
    return there[0], fullest * WINDOW_NS + WINDOW_NS // 2


def _last(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The number of the last time at or before each moment, -1 for none."""
    return np.searchsorted(times, moments, side="right") - 1


def _quotes(ticks: pl.DataFrame, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Best bid and ask in ticks at each moment, NaN where a side is empty or unknown."""
    found = []
    for side in (BUY, SELL):
        rows = ticks.filter((pl.col("kind") == QUOTE) & (pl.col("side") == side))
        if rows.is_empty():
            return None
        at = _last(rows["ingest_ts"].to_numpy(), moments)
        known = (at >= 0) & (rows["quantity"].to_numpy()[np.maximum(at, 0)] > 0)
        found.append(np.where(known, rows["price"].to_numpy()[np.maximum(at, 0)].astype(float), np.nan))
    return None if any(np.isnan(side).all() for side in found) else (found[0], found[1])


def _rows(bid: np.ndarray, ask: np.ndarray) -> Rows:
    """The rows in which the touch lies, with some beyond it."""
    low, high = int(np.nanmin(bid)), int(np.nanmax(ask))
    beyond = max(BEYOND_TICKS, int(BEYOND_SHARE * (high - low)))
    low, ticks = low - beyond, high - low + 2 * beyond + 1
    width = -(-ticks // MOST_ROWS)
    return Rows(low, width, -(-ticks // width))


def _resting(ticks: pl.DataFrame, moments: np.ndarray, rows: Rows) -> np.ndarray:
    """Lots in each row and at each moment, below 0 on the ask's side. What was told before the last snapshot
    is no longer known.
    """
    lots = np.zeros((rows.count, len(moments)))
    snapshots = ticks.filter(pl.col("kind") == SNAPSHOT)["ingest_ts"].to_numpy()
    place = _last(snapshots, moments)
    anew = np.where(place >= 0, snapshots[np.maximum(place, 0)] if len(snapshots) else 0, 0)
    shown = ticks.filter(
        pl.col("kind").is_in([SNAPSHOT, DEPTH]) & pl.col("price").is_between(rows.low, rows.high)
    )
    for (price, side), level in shown.group_by("price", "side", maintain_order=True):
        times = level["ingest_ts"].to_numpy()
        at = _last(times, moments)
        known = (at >= 0) & (times[np.maximum(at, 0)] >= anew)
        quantity = level["quantity"].to_numpy()[np.maximum(at, 0)]
        lots[(price - rows.low) // rows.width] += np.where(known, side * quantity, 0)
    return lots


def _heat(times: list[str], prices: list[float], lots: np.ndarray) -> dict:
    shade = np.sign(lots) * np.log10(1 + np.abs(lots))
    limit = max(float(np.abs(shade).max()), 1.0)
    return {
        "type": "heatmap",
        "x": times,
        "y": prices,
        "z": np.round(shade, 3).tolist(),
        "customdata": np.abs(lots).astype(int).tolist(),
        "hovertemplate": "%{x}<br>%{y}: %{customdata} lots<extra></extra>",
        "zmin": -limit,
        "zmax": limit,
        "colorscale": LIMITS,
        "showscale": False,
    }


def _touches(times: list[str], quotes: tuple[np.ndarray, np.ndarray], size: float) -> Iterator[dict]:
    for name, side in zip(("best bid", "best ask"), quotes, strict=True):
        yield {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": times,
            "y": np.round(side * size, 10).tolist(),
            "line": {"shape": "hv", "width": 1.4},
        }


def _fill_marks(fills: pl.DataFrame) -> Iterator[dict]:
    for side, name, shape in ((BUY, "bought", "triangle-up"), (SELL, "sold", "triangle-down")):
        rows = fills.filter(pl.col("side") == side)
        shapes = [shape if entry else f"{shape}-open" for entry in rows["entry"]]
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": _shown(rows["filled_ts"].to_numpy()),
            "y": rows["price"].to_list(),
            "marker": {"symbol": shapes, "size": 11, "line": {"width": 1.5}},
        }


def _shown(moments: np.ndarray) -> list[str]:
    """Nanoseconds since 1970 as Plotly reads a moment, to the millisecond."""
    return [str(moment)[:23].replace("T", " ") for moment in moments.astype("datetime64[ns]")]
