"""Expressions that the factor table is written in: windows over one symbol's bars.

Every window ends at the present bar and has a fixed length. It is computed from its own values alone, always
in the same order (`folding`). A value has the same bits whatever history lies before its window, so an
incremental, a partitioned and a full build agree to the bit. The frame is sorted by symbol and time and has
the column BAR, the bar's number within its symbol: a window that would reach past its symbol's first bar is
null. So is one that holds an unknown value, unless `at_least` is given.
"""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from components.features.folding import (
    FLAT,
    State,
    added,
    folded,
    in_blocks,
    is_flat,
    join_covariance,
    join_four_moments,
    join_pairs,
    known_moments,
    known_variance,
    lagged,
    line_on_time,
    rank_of_last,
    squares_about_mean,
    started,
    time_squares,
)

# The bar's number within its symbol, from 0; the windows' only knowledge of where a symbol begins.
BAR = "_bar"
# Below this a product of two standard deviations is flat; each is known to half the digits of its level.
FLAT_PRODUCT = 1e-7


def lag(x: pl.Expr, bars: int) -> pl.Expr:
    """The value `bars` bars ago."""
    return window("lag", [x], bars, lambda values: lagged(values[0], bars), reach=bars + 1)


def change(x: pl.Expr, bars: int) -> pl.Expr:
    """x[t] - x[t - bars]."""
    return window("change", [x], bars, lambda values: values[0] - lagged(values[0], bars), reach=bars + 1)


def mean(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Mean over the last `bars` values, null where fewer than `at_least` (default: all) of them are known."""
    if at_least is None:
        return window("mean", [x], bars, lambda values: folded(values, added, bars)[0] / bars)
    return window("mean", [x], bars, lambda values: known_moments(values[0], bars, at_least)[1], at_least)


def total(x: pl.Expr, bars: int) -> pl.Expr:
    """Sum over the last `bars` values."""
    return window("total", [x], bars, lambda values: folded(values, added, bars)[0])


def variance(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Sample variance over the last `bars` values, null where fewer than `at_least` (default: all) of them
    are known.
    """
    if at_least is None:
        return window("variance", [x], bars, lambda values: squares_about_mean(values[0], bars) / (bars - 1))
    return window("variance", [x], bars, lambda values: known_variance(values[0], bars, at_least), at_least)


def deviation(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Sample standard deviation over the last `bars` values, null where fewer than `at_least` (default: all)
    of them are known.
    """
    if at_least is None:
        return window(
            "deviation", [x], bars, lambda values: np.sqrt(squares_about_mean(values[0], bars) / (bars - 1))
        )
    return window(
        "deviation", [x], bars, lambda values: np.sqrt(known_variance(values[0], bars, at_least)), at_least
    )


def skewness(x: pl.Expr, bars: int) -> pl.Expr:
    """Population skewness over the last `bars` values, null where they are all equal."""

    def compute(values: State) -> np.ndarray:
        _, m2, m3, _ = folded(started(values[0], 3), join_four_moments, bars)
        spread = np.where(is_flat(m2, bars), np.nan, m2)
        return math.sqrt(bars) * m3 / (spread * np.sqrt(spread))

    return window("skewness", [x], bars, compute)


def kurtosis(x: pl.Expr, bars: int) -> pl.Expr:
    """Population excess kurtosis over the last `bars` values, null where they are all equal."""

    def compute(values: State) -> np.ndarray:
        _, m2, _, m4 = folded(started(values[0], 3), join_four_moments, bars)
        return bars * m4 / np.where(is_flat(m2, bars), np.nan, m2) ** 2 - 3

    return window("kurtosis", [x], bars, compute)


def highest(x: pl.Expr, bars: int) -> pl.Expr:
    """Maximum over the last `bars` values."""
    return window(
        "highest",
        [x],
        bars,
        lambda values: folded(values, lambda a, b, m, n: (np.maximum(a[0], b[0]),), bars)[0],
    )


def lowest(x: pl.Expr, bars: int) -> pl.Expr:
    """Minimum over the last `bars` values."""
    return window(
        "lowest",
        [x],
        bars,
        lambda values: folded(values, lambda a, b, m, n: (np.minimum(a[0], b[0]),), bars)[0],
    )


def quantile(x: pl.Expr, bars: int, q: float) -> pl.Expr:
    """Quantile of the last `bars` values, interpolated linearly."""

    def compute(values: State) -> np.ndarray:
        # Order statistics carry no rounding, so Polars' running window is as good as one made anew. It takes
        # no NaN.
        known = folded(values, added, bars)[0]
        ordered = pl.Series(np.nan_to_num(values[0], nan=0.0)).rolling_quantile(
            q, interpolation="linear", window_size=bars
        )
        return np.where(np.isnan(known), np.nan, ordered.fill_null(np.nan).to_numpy())

    return window("quantile", [x], bars, compute, q)


def rank(x: pl.Expr, bars: int) -> pl.Expr:
    """Place of the present value among the last `bars`, as a share in (0, 1]; equal ones share their mean
    place (as Qlib's Rank does).
    """
    return window(
        "rank",
        [x],
        bars,
        lambda values: in_blocks(values, lambda block: (rank_of_last(block[0], bars),), bars)[0],
    )


def slope(x: pl.Expr, bars: int) -> pl.Expr:
    """Least-squares slope per bar on time (as Qlib's Slope)."""
    return window("slope", [x], bars, lambda values: line_on_time(values[0], bars)[2] / time_squares(bars))


def rsquare(x: pl.Expr, bars: int) -> pl.Expr:
    """Share of the variance that the line on time explains (as Qlib's Rsquare); null where the window is
    flat.
    """

    def compute(values: State) -> np.ndarray:
        _, m2, together = line_on_time(values[0], bars)
        return np.minimum(together**2 / (time_squares(bars) * np.where(is_flat(m2, bars), np.nan, m2)), 1.0)

    return window("rsquare", [x], bars, compute)


def residual(x: pl.Expr, bars: int) -> pl.Expr:
    """The present value less that of the line on time (as Qlib's Resi)."""

    def compute(values: State) -> np.ndarray:
        centre, _, together = line_on_time(values[0], bars)
        line = centre + together / time_squares(bars) * ((bars - 1) / 2)
        return values[0] - line

    return window("residual", [x], bars, compute)


def exponential_mean(x: pl.Expr, span: int) -> pl.Expr:
    """Exponential mean with decay 1 - 2 / (span + 1) over the last 4 * span bars, weights summing to 1; null
    before 4 * span + 1 bars.

    Unknown values before the present one are left out and the weights of the rest raised.
    """
    kept, bars = 1 - 2 / (span + 1), 4 * span

    def join(older: State, newer: State, _: int, newer_bars: int) -> State:
        return tuple(kept**newer_bars * a + b for a, b in zip(older, newer, strict=True))

    def compute(values: State) -> np.ndarray:
        unknown = np.isnan(values[0])
        top, weight = folded((np.where(unknown, 0.0, values[0]), np.where(unknown, 0.0, 1.0)), join, bars)
        return np.where(unknown, np.nan, top / weight)

    return window("exponential_mean", [x], span, compute, reach=bars + 1)


def covariance(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Population covariance over the last `bars` pairs."""
    return window(
        "covariance",
        [x, y],
        bars,
        lambda values: folded((*values, np.zeros(len(values[0]))), join_covariance, bars)[2] / bars,
    )


def correlation(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Pearson correlation over the last `bars` pairs of returns or logs, null where one of them is flat."""

    def compute(values: State) -> np.ndarray:
        empty = np.zeros(len(values[0]))
        _, _, together, x_squares, y_squares = folded((*values, empty, empty, empty), join_pairs, bars)
        spread = np.sqrt(x_squares * y_squares)
        return np.clip(together / np.where(spread > bars * FLAT_PRODUCT, spread, np.nan), -1.0, 1.0)

    return window("correlation", [x, y], bars, compute)


def slope_of_sum(increment: pl.Expr, bars: int) -> pl.Expr:
    """Least-squares slope per bar of the running sum of `increment` over the last `bars` bars; an unknown
    increment adds nothing.
    """
    centre = (bars - 1) / 2
    weights = [sum(k - centre for k in range(j, bars)) / time_squares(bars) for j in range(bars)]

    def of_block(block: State) -> State:
        rows = len(block[0]) - bars + 1
        known = np.nan_to_num(block[0], nan=0.0)
        weighted = weights[0] * known[:rows]
        for j in range(1, bars):
            weighted += weights[j] * known[j : j + rows]
        return (weighted,)

    return window("slope_of_sum", [increment], bars, lambda values: in_blocks(values, of_block, bars)[0])


def ratio(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a / b, null where b is flat (|b| <= 1e-9)."""
    return each(
        "ratio", [a, b], lambda values: values[0] / np.where(np.abs(values[1]) > FLAT, values[1], np.nan)
    )


def root(x: pl.Expr) -> pl.Expr:
    """Square root of a variance, which rounding may have left a hair below zero."""
    return x.clip(lower_bound=0.0).sqrt()


def logarithm(x: pl.Expr) -> pl.Expr:
    """Natural logarithm, null where x <= 0."""
    return each("positive", [x], lambda values: np.where(values[0] > 0, values[0], np.nan)).log()


def cyclic(position: pl.Expr, length: int, phase: str) -> pl.Expr:
    """sin or cos of a position on a circle of `length` steps."""
    angle = position.cast(pl.Float64) * (2 * math.pi / length)
    return angle.sin() if phase == "sin" else angle.cos()


def window(
    name: str,
    inputs: list[pl.Expr],
    bars: int,
    compute: Callable[[State], np.ndarray],
    *settings: float,
    reach: int | None = None,
) -> pl.Expr:
    """`compute` over whole columns, Float64 with NaN where unknown; null before the symbol's bar `reach`
    (default: `bars`).
    """
    if bars < 1:
        raise ValueError(
            f"{name} was given {bars} bars; a window ends at the present bar and holds 1 or more."
        )
    first = (reach or bars) - 1

    def evaluate(series: list[pl.Series]) -> pl.Series:
        *values, bar = series
        result = _computed(compute, values)
        return pl.Series(values[0].name, np.where(bar.to_numpy() < first, np.nan, result), nan_to_null=True)

    arguments = ", ".join(str(number) for number in (bars, *settings))
    return pl.map_batches([*inputs, pl.col(BAR)], evaluate, return_dtype=pl.Float64).alias(
        f"{name}({arguments})"
    )


def each(name: str, inputs: list[pl.Expr], compute: Callable[[State], np.ndarray]) -> pl.Expr:
    """`compute` value by value.

    One call, so that Polars does not evaluate an input twice that the formula names twice.
    """

    def evaluate(series: list[pl.Series]) -> pl.Series:
        return pl.Series(series[0].name, _computed(compute, series), nan_to_null=True)

    return pl.map_batches(inputs, evaluate, return_dtype=pl.Float64, is_elementwise=True).alias(f"{name}()")


def _computed(compute: Callable[[State], np.ndarray], series: list[pl.Series]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return compute(tuple(column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in series))
