"""Raw values of factors: the panel's bars are arranged by symbol and time, measures are added level by level,
and factors are made from them in blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.cut import SYMBOL, TIME
from components.features.config import Settings
from components.features.kernels import BAR
from components.features.library import NAMED, Factor, Measure, base_columns, name_codes, needed_measures
from components.features.support import known_numbers

# A helper column beside those for symbol and timestamp: numbers of (timestamp, sector).
TIME_SECTOR = "_time_sector"
GROUP_OF_SCOPE = {"market_mean": TIME, "cross_section": TIME, "sector_mean": TIME_SECTOR}
# Factors are made so many at a time, which bounds the memory beside the finished columns.
BLOCK_COLUMNS = 24


@dataclass
class ArrangedPanel:
    """A panel's bars in the order of symbol and time.

    `frame` holds the numbers, the helper columns, and the measures made so far. `order` gives each row here
    its row in the panel sorted by time and symbol, `back` the reverse; both (rows,), int64. `late` marks the
    rows that take no part in what others see of their timestamp, (rows,), bool; None where there are none.
    """

    frame: pl.DataFrame
    order: np.ndarray
    back: np.ndarray
    late: np.ndarray | None = None


def arranged(panel: pl.DataFrame, factors: Sequence[Factor], settings: Settings) -> ArrangedPanel:
    """The bars that `factors` need; `panel` is sorted by time and symbol. No row is marked as late yet."""
    read = frozenset().union(*(base_columns(factor) for factor in factors))
    symbol, sector = codes(panel["symbol"]), codes(panel["sector"])
    order, back = by_symbol(symbol)
    symbol, time = symbol[order], panel["timestamp"].rle_id().to_numpy()[order]
    helpers = {
        SYMBOL: symbol,
        TIME: time,
        TIME_SECTOR: time_and_sector(time, sector[order]),
        BAR: np.arange(len(symbol)) - np.searchsorted(symbol, symbol),
    }
    moments = [pl.col(name) for name in ("timestamp", "event_time", "known_time")]
    marks = []
    if "is_reference" in read:
        marks = [(pl.col("symbol") == settings.reference_symbol).alias("is_reference")]
    named = [name_codes(panel[name]) for name in NAMED if name in read and name in panel.columns]
    frame = panel.select(*moments, *known_numbers(panel.schema, read), *marks, *named)[order].with_columns(
        pl.Series(name, values) for name, values in helpers.items()
    )
    return ArrangedPanel(frame, order, back)


def time_and_sector(time: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """One number for each timestamp and sector; all (rows,), uint64."""
    return time.astype(np.uint64) * np.uint64(int(sector.max()) + 1) + sector


def by_symbol(symbol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order that puts the rows of a panel, sorted by time, one symbol after another, and the way back; both
    (rows,), int64.
    """
    # A stable sort by symbol alone keeps each symbol's bars in order.
    order = np.argsort(symbol, kind="stable")
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return order, back


def codes(names: pl.Series) -> np.ndarray:
    """Numbers of the names in alphabetical order, from 1; 0 for null; (rows,), uint32."""
    known = names.drop_nulls().unique().sort()
    return names.replace_strict(
        known, pl.int_range(1, len(known) + 1, eager=True), default=0, return_dtype=pl.UInt32
    ).to_numpy()


def own_blocks(
    bars: ArrangedPanel, factors: Sequence[Factor], rows: np.ndarray | None = None
) -> Iterator[pl.DataFrame]:
    """Raw values of the factors, BLOCK_COLUMNS at a time, in the order of `bars`, or of these `rows` of it
    alone; measures that no later block needs are dropped.
    """
    for start in range(0, len(factors), BLOCK_COLUMNS):
        block, rest = factors[start : start + BLOCK_COLUMNS], factors[start + BLOCK_COLUMNS :]
        add_measures(bars, needed_measures(block))
        yield _values(bars.frame, block, rows)
        later = {measure.name for measure in needed_measures(rest)}
        bars.frame = bars.frame.drop(
            [measure.name for measure in needed_measures(block) if measure.name not in later]
        )


def market_values(bars: ArrangedPanel, factors: Sequence[Factor]) -> pl.DataFrame:
    """Raw values of the market's factors: one row a timestamp, in order; their bars are the panel's
    timestamps.
    """
    factors = [factor for factor in factors if factor.scope == "market"]
    add_measures(bars, needed_measures(factors))
    means = bars.frame.select(TIME, *market_means(factors)).unique(TIME, keep="first").sort(TIME)
    return market_factors(means, factors)


def market_means(factors: Sequence[Factor]) -> list[str]:
    """The measures that say one thing a timestamp, of those that market factors read."""
    return [
        measure.name
        for measure in needed_measures(factor for factor in factors if factor.scope == "market")
        if measure.scope == "market_mean"
    ]


def market_factors(means: pl.DataFrame, factors: Sequence[Factor]) -> pl.DataFrame:
    """Raw values of market factors; `means` has one row a timestamp, in order: TIME and `market_means`."""
    series = means.with_columns(pl.col(TIME).cast(pl.Int64).alias(BAR))
    for measure in needed_measures(factors):
        if measure.scope == "market":
            series = series.with_columns(measure.expression.alias(measure.name))
    return _values(series, factors)


def add_measures(bars: ArrangedPanel, measures: Sequence[Measure]) -> None:
    """Add the measures of bars that are not there yet, level by level:

    Polars gives nulls for a window that stands inside another window's input.
    """
    level: dict[str, int] = {}
    for measure in measures:
        if measure.scope != "market" and measure.name not in bars.frame.columns:
            level[measure.name] = 1 + max((level.get(column, 0) for column in measure.columns), default=0)
    by_name = {measure.name: measure for measure in measures}
    for number in range(1, max(level.values(), default=0) + 1):
        present = [by_name[name] for name in level if level[name] == number]
        shared = [measure for measure in present if measure.scope in GROUP_OF_SCOPE]
        together = shared_values(bars.frame, shared, bars.late)
        bars.frame = bars.frame.with_columns(
            measure.expression.alias(measure.name) for measure in present if measure not in shared
        ).hstack(together)


def shared_values(frame: pl.DataFrame, shared: Sequence[Measure], late: np.ndarray | None) -> pl.DataFrame:
    """Measures that the bars of a timestamp, or of its sectors, have together; `frame` holds all bars of its
    timestamps in the order of symbol and time, of which those that are `late` (None: no one) take no part.
    """
    if late is not None and shared:
        seen = sorted({column for measure in shared for column in measure.columns})
        frame = frame.select(
            TIME, TIME_SECTOR, *(pl.when(pl.Series(~late)).then(pl.col(name)).alias(name) for name in seen)
        )
    return frame.select(
        measure.expression.over(GROUP_OF_SCOPE[measure.scope]).alias(measure.name) for measure in shared
    )


def shared_rounds(factors: Sequence[Factor]) -> list[list[Measure]]:
    """The measures behind `factors` that bars have together, in rounds: one reads measures of single symbols
    and those of earlier rounds.
    """
    rounds: list[list[Measure]] = []
    number: dict[str, int] = {}
    for measure in needed_measures(factors):
        after = max((number.get(column, 0) for column in measure.columns), default=0)
        number[measure.name] = after
        if measure.scope in GROUP_OF_SCOPE:
            number[measure.name] = after + 1
            if after == len(rounds):
                rounds.append([])
            rounds[after].append(measure)
    return rounds


def _values(frame: pl.DataFrame, factors: Sequence[Factor], rows: np.ndarray | None = None) -> pl.DataFrame:
    """The factors as stored, at all rows or these: Float32, null during their warm-up and where they are not
    finite.
    """
    made = {factor.name: factor.expression.cast(pl.Float32).alias(factor.name) for factor in factors}
    if rows is None:
        values = frame.select(BAR, *made.values())
    else:
        # What reads its own bar alone needs no other row.
        alone = [factor for factor in factors if factor.scope == "row"]
        read = {BAR}.union(*(factor.columns for factor in alone))
        own = frame.select(sorted(read))[rows].select(made.pop(factor.name) for factor in alone)
        values = frame.select(BAR, *made.values())[rows].hstack(own)
    warm_up: dict[int, list[str]] = {}
    for factor in factors:
        warm_up.setdefault(factor.warm_up_bars, []).append(factor.name)
    known = values.select(
        pl.when((pl.col(BAR) >= bars - 1) & pl.col(names).is_finite()).then(pl.col(names))
        for bars, names in warm_up.items()
    )
    return known.select(factor.name for factor in factors)


def finite(values: pl.DataFrame) -> pl.DataFrame:
    return values.select(pl.when(pl.all().is_finite()).then(pl.all()))
