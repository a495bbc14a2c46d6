"""Changed copies of a panel: another future, a shuffled one, other values, holes.

What the audit compares against the panel as it is.

Rows up to the cut keep every byte and their order, whether the panel is sorted by time or by symbol.
"""

from datetime import date, datetime

import numpy as np
import polars as pl
import polars.selectors as cs

from components.audit.compare import ascends
from components.timeline import bar_index

PRICES = ("open", "high", "low", "close")
KEYS = ("timestamp", "symbol")
ORDERS = (("timestamp", "symbol"), ("symbol", "timestamp"))
LOG_FACTOR = 4.0
DROPPED_SHARE = 0.1
LEAVING_SHARE = 0.05
HOLED_SHARE = 0.3
GAP_SHARE = 0.15
UNHEARD_OF = "unheard-of"

Moment = datetime | date


def other_values(panel: pl.DataFrame, chosen: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Multiply every number of the chosen rows by its own random factor between 1/55 and 55 (exp of -4 to 4).

    Each column has its own factors, so ranges, gaps and ranks change too; high and low stay the extremes of
    the bar. Columns that hold negative numbers change signs too, whole numbers stay whole, true and false are
    drawn anew.
    """
    changed = panel.with_columns(*(_other_column(panel[name], chosen, rng) for name in _numbers(panel)))
    prices = [name for name in PRICES if name in panel.columns]
    if len(prices) < len(PRICES):
        return changed
    rows = pl.Series(chosen)
    high = pl.when(rows).then(pl.max_horizontal(*prices)).otherwise("high")
    low = pl.when(rows).then(pl.min_horizontal(*prices)).otherwise("low")
    return changed.with_columns(high.alias("high"), low.alias("low"))


def _numbers(panel: pl.DataFrame) -> list[str]:
    return [
        name for name in panel.select(cs.float() | cs.integer() | cs.boolean()).columns if name not in KEYS
    ]


def _other_column(series: pl.Series, chosen: np.ndarray, rng: np.random.Generator) -> pl.Series:
    mask = pl.Series(chosen)
    if series.dtype == pl.Boolean:
        return (
            pl.select(pl.when(mask).then(pl.Series(rng.random(len(series)) < 0.5)).otherwise(series))
            .to_series()
            .alias(series.name)
        )
    factor = np.where(chosen, np.exp(rng.uniform(-LOG_FACTOR, LOG_FACTOR, len(series))), 1.0)
    if (series.min() or 0) < 0:
        factor = np.where(chosen & (rng.random(len(series)) < 0.5), -factor, factor)
    if series.dtype.is_float():
        return (series * pl.Series(factor)).cast(series.dtype).alias(series.name)
    scaled = (series.cast(pl.Float64) * pl.Series(factor)).round().cast(series.dtype, strict=False)
    return pl.select(pl.when(mask).then(scaled).otherwise(series)).to_series().alias(series.name)


def other_future(panel: pl.DataFrame, cut: Moment, rng: np.random.Generator) -> pl.DataFrame:
    """Everything after the cut becomes another world; rows up to the cut keep every byte and their place.

    After it all numbers change, sectors and other names are dealt out anew, some rows are missing, some
    symbols leave at once and one is listed that never was.
    """
    after = (panel["timestamp"] > cut).to_numpy()
    if not after.any():
        return panel
    world = _other_names(other_values(panel, after, rng), after, rng)
    symbols = panel["symbol"].filter(pl.Series(after)).unique().sort()
    leaving = pl.Series(
        rng.choice(symbols.to_numpy(), size=int(len(symbols) * LEAVING_SHARE), replace=False),
        dtype=symbols.dtype,
    )
    gone = after & (
        (rng.random(len(panel)) < DROPPED_SHARE) | panel["symbol"].is_in(leaving.implode()).to_numpy()
    )
    kept = world.filter(pl.Series(~gone))
    if panel.schema["symbol"] != pl.String:
        return kept
    first = pl.Series(after) & (world["symbol"] == symbols[0])
    listed = world.filter(first).with_columns(pl.lit(f"{symbols[0]} new listing").alias("symbol"))
    order = file_order(panel)
    both = pl.concat([kept, listed])
    return both.sort(order, maintain_order=True) if order else both


def _other_names(panel: pl.DataFrame, after: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """The text columns dealt out anew among the rows after the cut; half of them get a name that never
    occurred.
    """
    rows = np.flatnonzero(after)
    columns = []
    for name in panel.select(cs.string() | cs.categorical() | cs.enum()).columns:
        if name in (*KEYS, "period"):
            continue
        position = np.arange(len(panel))
        position[rows] = rng.permutation(rows)
        dealt = panel[name].gather(position)
        if panel.schema[name] == pl.String:
            strange = pl.Series(after & (rng.random(len(panel)) < 0.5))
            dealt = pl.select(
                pl.when(strange).then(pl.lit(f"{UNHEARD_OF} {name}")).otherwise(dealt)
            ).to_series()
        columns.append(dealt.alias(name))
    return panel.with_columns(columns)


def file_order(panel: pl.DataFrame) -> tuple[str, str] | None:
    """The order in which the rows stand: by time, by symbol, or None for neither."""
    return next((order for order in ORDERS if panel.select(ascends(order)).item()), None)


def shuffled_future(
    panel: pl.DataFrame, cut: Moment, rng: np.random.Generator, *, among_symbols: bool
) -> pl.DataFrame:
    """The same bars after the cut dealt out in another order: among the times of each symbol, or among the
    symbols of each time.

    Every value is one that occurred, so a function that refuses or clips strange ones works as usual.
    """
    rows = np.flatnonzero((panel["timestamp"] > cut).to_numpy())
    within = panel["timestamp" if among_symbols else "symbol"].gather(rows).rank("dense").to_numpy()
    source = np.arange(len(panel))
    source[rows[np.argsort(within, kind="stable")]] = rows[np.lexsort((rng.random(len(rows)), within))]
    moved = [
        name
        for name in panel.columns
        if name not in KEYS and panel.schema[name].base_type() not in (pl.Datetime, pl.Date)
    ]
    return panel.with_columns(panel[name].gather(source).alias(name) for name in moved)


def staggered_future(panel: pl.DataFrame, rng: np.random.Generator) -> tuple[pl.DataFrame, np.ndarray]:
    """Another future for each symbol after a moment of its own; also the mask of the rows that stayed, shape
    (rows,).

    The moments are spread evenly over the bars, so a build tests as many dates as there are symbols.
    """
    calendar, bars = bar_index(panel["timestamp"])
    symbol = panel["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    count = int(symbol.max()) + 1
    cuts = ((np.arange(count) + rng.random(count)) / count * (len(calendar) - 1)).astype(np.int64)
    stays = bars <= rng.permutation(cuts)[symbol]
    return other_values(panel, ~stays, rng), stays


def with_holes(panel: pl.DataFrame, cut: Moment, rng: np.random.Generator) -> pl.DataFrame:
    """Holes that reach up to the cut: some symbols lose all numbers of their last 1 to 3 bars, others lose
    the rows.

    A backward fill or an interpolation puts into them what came after the cut.
    """
    calendar, bars = bar_index(panel["timestamp"])
    ago = int(calendar.search_sorted(cut, side="right")) - 1 - bars
    symbol = panel["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    count = int(symbol.max()) + 1
    place, depth = rng.permutation(count), rng.integers(1, 4, count)
    hit = (ago >= 0) & (ago < depth[symbol])
    n_holed, n_gaps = max(1, int(count * HOLED_SHARE)), int(count * GAP_SHARE)
    holed = pl.Series(hit & (place[symbol] < n_holed))
    gap = hit & (place[symbol] >= n_holed) & (place[symbol] < n_holed + n_gaps)
    numbers = panel.select(cs.float() | cs.integer()).columns
    return panel.with_columns(
        pl.when(holed).then(None).otherwise(pl.col(name)).alias(name) for name in numbers if name not in KEYS
    ).filter(pl.Series(~gap))
