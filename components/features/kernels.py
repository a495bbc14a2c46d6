"""Expressions that the factor table is written in: windows over one symbol's bars, and published estimators.

Every window ends at the present bar and has a fixed length. It is computed from its own values alone, always
in the same order: two windows of n bars are joined to one of 2n, so a window costs log2(bars) passes over the
column. A value has the same bits whatever history lies before its window, so an incremental, a partitioned
and a full build agree to the bit. The frame is sorted by symbol and time and has the column BAR, the bar's
number within its symbol: a window that would reach past its symbol's first bar is null. So is one that holds
an unknown value, unless `at_least` is given.
"""

import math
import re
from collections.abc import Callable

import numpy as np
import polars as pl

# The bar's number within its symbol, from 0; the windows' only knowledge of where a symbol begins.
BAR = "_bar"
# Denominators below this are a flat window and its rounding noise: the ratio is undefined there, not large.
FLAT = 1e-9
# The same for a product of two standard deviations, each known to half the digits of its level.
FLAT_PRODUCT = 1e-7
# Windows are joined in blocks of so many rows, which stay in the processor's cache.
BLOCK_ROWS = 1 << 14
CALL = re.compile(
    r"\.python_udf\((?:\[((?:(?!python_udf\().)*?)(?:(?:,"
    r' )?col\("_bar"\))?\])?\)\.alias\("(\w+)\(([^"]*)\)"\)'
)

State = tuple[np.ndarray, ...]
Join = Callable[[State, State, int, int], State]


def lag(x: pl.Expr, bars: int) -> pl.Expr:
    """The value `bars` bars ago."""
    return window("lag", [x], bars, lambda values: lagged(values[0], bars), reach=bars + 1)


def change(x: pl.Expr, bars: int) -> pl.Expr:
    """x[t] - x[t - bars]."""
    return window("change", [x], bars, lambda values: values[0] - lagged(values[0], bars), reach=bars + 1)


def mean(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Mean over the last `bars` values, null where fewer than `at_least` (default: all) of them are known."""
    if at_least is None:
        return window("mean", [x], bars, lambda values: folded(values, _add, bars)[0] / bars)
    return window("mean", [x], bars, lambda values: known_moments(values[0], bars, at_least)[1], at_least)


def total(x: pl.Expr, bars: int) -> pl.Expr:
    """Sum over the last `bars` values."""
    return window("total", [x], bars, lambda values: folded(values, _add, bars)[0])


def variance(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Sample variance over the last `bars` values, null where fewer than `at_least` (default: all) of them
    are known.
    """
    if at_least is None:
        return window("variance", [x], bars, lambda values: _squares(values[0], bars) / (bars - 1))
    return window("variance", [x], bars, lambda values: _known_variance(values[0], bars, at_least), at_least)


def deviation(x: pl.Expr, bars: int, at_least: int | None = None) -> pl.Expr:
    """Sample standard deviation over the last `bars` values, null where fewer than `at_least` (default: all)
    of them are known.
    """
    if at_least is None:
        return window("deviation", [x], bars, lambda values: np.sqrt(_squares(values[0], bars) / (bars - 1)))
    return window(
        "deviation", [x], bars, lambda values: np.sqrt(_known_variance(values[0], bars, at_least)), at_least
    )


def skewness(x: pl.Expr, bars: int) -> pl.Expr:
    """Population skewness over the last `bars` values, null where they are all equal."""

    def compute(values: State) -> np.ndarray:
        _, m2, m3, _ = folded(_started(values[0], 3), _join_four_moments, bars)
        spread = np.where(_is_flat(m2, bars), np.nan, m2)
        return math.sqrt(bars) * m3 / (spread * np.sqrt(spread))

    return window("skewness", [x], bars, compute)


def kurtosis(x: pl.Expr, bars: int) -> pl.Expr:
    """Population excess kurtosis over the last `bars` values, null where they are all equal."""

    def compute(values: State) -> np.ndarray:
        _, m2, _, m4 = folded(_started(values[0], 3), _join_four_moments, bars)
        return bars * m4 / np.where(_is_flat(m2, bars), np.nan, m2) ** 2 - 3

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


def bars_since_highest(x: pl.Expr, bars: int) -> pl.Expr:
    """How many bars ago the highest of the last `bars` values was, 0 to bars - 1; the oldest of equal ones
    counts (as Qlib's IdxMax does).
    """
    return window("bars_since_highest", [x], bars, lambda values: _bars_since_highest(values[0], bars))


def bars_since_lowest(x: pl.Expr, bars: int) -> pl.Expr:
    """How many bars ago the lowest of the last `bars` values was, 0 to bars - 1; the oldest of equal ones
    counts (as Qlib's IdxMin does).
    """
    return window("bars_since_lowest", [x], bars, lambda values: _bars_since_highest(-values[0], bars))


def quantile(x: pl.Expr, bars: int, q: float) -> pl.Expr:
    """Quantile of the last `bars` values, interpolated linearly."""

    def compute(values: State) -> np.ndarray:
        # Order statistics carry no rounding, so Polars' running window is as good as one made anew. It takes
        # no NaN.
        known = folded(values, _add, bars)[0]
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
        lambda values: in_blocks(values, lambda block: (_rank_of_last(block[0], bars),), bars)[0],
    )


def slope(x: pl.Expr, bars: int) -> pl.Expr:
    """Least-squares slope per bar on time (as Qlib's Slope)."""
    return window("slope", [x], bars, lambda values: _line(values[0], bars)[2] / _time_squares(bars))


def rsquare(x: pl.Expr, bars: int) -> pl.Expr:
    """Share of the variance that the line on time explains (as Qlib's Rsquare); null where the window is
    flat.
    """

    def compute(values: State) -> np.ndarray:
        _, m2, together = _line(values[0], bars)
        return np.minimum(together**2 / (_time_squares(bars) * np.where(_is_flat(m2, bars), np.nan, m2)), 1.0)

    return window("rsquare", [x], bars, compute)


def residual(x: pl.Expr, bars: int) -> pl.Expr:
    """The present value less that of the line on time (as Qlib's Resi)."""

    def compute(values: State) -> np.ndarray:
        centre, _, together = _line(values[0], bars)
        line = centre + together / _time_squares(bars) * ((bars - 1) / 2)
        return values[0] - line

    return window("residual", [x], bars, compute)


def weighted_mean(x: pl.Expr, bars: int) -> pl.Expr:
    """Mean with weights 1, 2, ..., bars, the newest value having the largest."""

    def compute(values: State) -> np.ndarray:
        centre, _, together = _line(values[0], bars)
        return centre + together * (2 / (bars * (bars + 1)))

    return window("weighted_mean", [x], bars, compute)


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
        lambda values: folded((*values, np.zeros(len(values[0]))), _join_covariance, bars)[2] / bars,
    )


def correlation(x: pl.Expr, y: pl.Expr, bars: int) -> pl.Expr:
    """Pearson correlation over the last `bars` pairs of returns or logs, null where one of them is flat."""

    def compute(values: State) -> np.ndarray:
        empty = np.zeros(len(values[0]))
        _, _, together, x_squares, y_squares = folded((*values, empty, empty, empty), _join_pairs, bars)
        spread = np.sqrt(x_squares * y_squares)
        return np.clip(together / np.where(spread > bars * FLAT_PRODUCT, spread, np.nan), -1.0, 1.0)

    return window("correlation", [x, y], bars, compute)


def slope_of_sum(increment: pl.Expr, bars: int) -> pl.Expr:
    """Least-squares slope per bar of the running sum of `increment` over the last `bars` bars; an unknown
    increment adds nothing.
    """
    centre = (bars - 1) / 2
    weights = [sum(k - centre for k in range(j, bars)) / _time_squares(bars) for j in range(bars)]

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


def roll_spread(log_return: pl.Expr, bars: int) -> pl.Expr:
    """Effective spread 2 sqrt(-cov(r[t], r[t-1])), 0 where the covariance is positive (Roll 1984); needs bars
    + 2 bars.
    """
    return 2 * (-covariance(log_return, lag(log_return, 1), bars)).clip(lower_bound=0.0).sqrt()


def corwin_schultz(two_bar_sum: pl.Expr, two_bar_range: pl.Expr) -> pl.Expr:
    """Spread of two neighbouring bars from highs and lows, negative estimates set to 0 (Corwin and Schultz
    2012).

    `two_bar_sum` is beta, the sum of both squared log ranges; `two_bar_range` is sqrt(gamma), the log range
    of both together.
    """
    constant = 3 - 2 * math.sqrt(2)
    alpha = (math.sqrt(2) - 1) * two_bar_sum.sqrt() / constant - two_bar_range / math.sqrt(constant)
    return (2 * (alpha.exp() - 1) / (1 + alpha.exp())).clip(lower_bound=0.0)


def yang_zhang(overnight: pl.Expr, intraday: pl.Expr, rogers_satchell: pl.Expr, bars: int) -> pl.Expr:
    """Volatility a bar that is free of drift and counts opening jumps (Yang and Zhang 2000); needs bars + 1
    bars.
    """
    k = 0.34 / (1.34 + (bars + 1) / (bars - 1))
    return root(
        variance(overnight, bars) + k * variance(intraday, bars) + (1 - k) * mean(rogers_satchell, bars)
    )


def cyclic(position: pl.Expr, length: int, phase: str) -> pl.Expr:
    """sin or cos of a position on a circle of `length` steps."""
    angle = position.cast(pl.Float64) * (2 * math.pi / length)
    return angle.sin() if phase == "sin" else angle.cos()


def formula(expression: pl.Expr) -> str:
    """The expression as text, a window written as `x.mean(20)` or `x.covariance(y, 20)`."""
    text, before = str(expression), ""
    while text != before:
        text, before = (
            CALL.sub(
                lambda call: (
                    f".{call[2]}({', '.join(part for part in ((call[1] or '').rstrip(', '), call[3]) if part)})"
                ),
                text,
            ),
            text,
        )
    return text


def columns_read(expression: pl.Expr) -> tuple[str, ...]:
    """Names of the columns that an expression reads, without the windows' BAR."""
    return tuple(name for name in dict.fromkeys(expression.meta.root_names()) if name != BAR)


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


def lagged(values: np.ndarray, bars: int) -> np.ndarray:
    """The column moved down by `bars` rows, NaN above."""
    moved = np.full(len(values), np.nan)
    moved[bars:] = values[: max(len(values) - bars, 0)]
    return moved


def folded(values: State, join: Join, bars: int) -> State:
    """State of each row's window of `bars` rows, joined from those of 1, 2, 4, ... rows; NaN before the first
    whole window.
    """
    return in_blocks(values, lambda block: fold(block, join, bars), bars)


def in_blocks(values: State, of_block: Callable[[State], State], bars: int) -> State:
    """`of_block` takes rows and gives its results from the block's row `bars` - 1 on."""
    rows = len(values[0])
    if rows < bars:
        return tuple(np.full(rows, np.nan) for _ in of_block(tuple(np.full(bars, np.nan) for _ in values)))
    results: State = ()
    for start in range(bars - 1, rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, rows)
        parts = of_block(tuple(column[start - bars + 1 : end] for column in values))
        results = results or tuple(np.full(rows, np.nan) for _ in parts)
        for result, part in zip(results, parts, strict=True):
            result[start:end] = part
    return results


def fold(state: State, join: Join, bars: int) -> State:
    """`state[i]` belongs to one row; the result's row 0 to the first `bars` rows together."""
    done, result, size = 0, state, 1
    while True:
        if bars & size:
            # `state` covers `size` rows and `result` the `done` rows after them.
            result = (
                join(tuple(s[: len(s) - done] for s in state), tuple(r[size:] for r in result), size, done)
                if done
                else state
            )
            done += size
        if done == bars:
            return result
        state = join(tuple(s[:-size] for s in state), tuple(s[size:] for s in state), size, size)
        size *= 2


def _add(older: State, newer: State, *_: int) -> State:
    return tuple(a + b for a, b in zip(older, newer, strict=True))


def _started(x: np.ndarray, moments: int) -> State:
    """One row's mean and its central moments, which are 0."""
    empty = np.zeros(len(x))
    return (x, *[empty] * moments)


def _join_squares(older: State, newer: State, m: int, n: int) -> State:
    """Mean and sum of squares about it (Chan, Golub and LeVeque 1979)."""
    gap = newer[0] - older[0]
    return older[0] + gap * (n / (m + n)), older[1] + newer[1] + gap * gap * (m * n / (m + n))


def _join_line(older: State, newer: State, m: int, n: int) -> State:
    """Mean, squares, and products with time; the middles of the two windows are (m + n) / 2 bars apart."""
    gap = newer[0] - older[0]
    return (*_join_squares(older, newer, m, n), older[2] + newer[2] + gap * (m * n / 2))


def _join_covariance(older: State, newer: State, m: int, n: int) -> State:
    x_gap, y_gap = newer[0] - older[0], newer[1] - older[1]
    share = n / (m + n)
    return (
        older[0] + x_gap * share,
        older[1] + y_gap * share,
        older[2] + newer[2] + x_gap * y_gap * (m * share),
    )


def _join_pairs(older: State, newer: State, m: int, n: int) -> State:
    x_gap, y_gap = newer[0] - older[0], newer[1] - older[1]
    weight = m * n / (m + n)
    return (
        *_join_covariance(older, newer, m, n),
        older[3] + newer[3] + x_gap * x_gap * weight,
        older[4] + newer[4] + y_gap * y_gap * weight,
    )


def _join_four_moments(older: State, newer: State, m: int, n: int) -> State:
    """Mean and the sums of second, third and fourth powers about it (Pebay 2008)."""
    gap, both = newer[0] - older[0], m + n
    step = gap / both
    second = gap * step * (m * n)
    third = older[2] + newer[2] + second * step * (m - n) + 3 * step * (m * newer[1] - n * older[1])
    fourth = (
        older[3]
        + newer[3]
        + second * step * step * (m * m - m * n + n * n)
        + 6 * step * step * (m * m * newer[1] + n * n * older[1])
    )
    return (
        older[0] + step * n,
        older[1] + newer[1] + second,
        third,
        fourth + 4 * step * (m * newer[2] - n * older[2]),
    )


def _join_known(older: State, newer: State, *_: int) -> State:
    """Count, mean and squares of the known values."""
    count = older[0] + newer[0]
    share = newer[0] / np.maximum(count, 1.0)
    gap = newer[1] - older[1]
    return count, older[1] + gap * share, older[2] + newer[2] + gap * gap * (older[0] * share)


def _squares(x: np.ndarray, bars: int) -> np.ndarray:
    return folded(_started(x, 1), _join_squares, bars)[1]


def _line(x: np.ndarray, bars: int) -> State:
    return folded(_started(x, 2), _join_line, bars)


def known_moments(x: np.ndarray, bars: int, at_least: int) -> State:
    """Count, mean and squares of the known values; NaN where fewer than `at_least` are known."""
    unknown = np.isnan(x)
    count, centre, squares = folded(
        (np.where(unknown, 0.0, 1.0), np.where(unknown, 0.0, x), np.zeros(len(x))), _join_known, bars
    )
    few = ~(count >= at_least)
    return count, np.where(few, np.nan, centre), np.where(few, np.nan, squares)


def known_range(x: np.ndarray, bars: int, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of the known values among the last `bars`; NaN where fewer than `at_least` are
    known.
    """

    def join(older: State, newer: State, *_: int) -> State:
        return np.fmin(older[0], newer[0]), np.fmax(older[1], newer[1]), older[2] + newer[2]

    low, high, count = folded((x, x, np.where(np.isnan(x), 0.0, 1.0)), join, bars)
    few = ~(count >= at_least)
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _known_variance(x: np.ndarray, bars: int, at_least: int) -> np.ndarray:
    count, _, squares = known_moments(x, bars, at_least)
    return squares / np.where(count > 1, count - 1, np.nan)


def _bars_since_highest(x: np.ndarray, bars: int) -> np.ndarray:
    def join(older: State, newer: State, _: int, newer_bars: int) -> State:
        keep = older[0] >= newer[0]
        return np.maximum(older[0], newer[0]), np.where(keep, older[1] + newer_bars, newer[1])

    highest_value, since = folded((x, np.zeros(len(x))), join, bars)
    return np.where(np.isnan(highest_value), np.nan, since)


def _rank_of_last(x: np.ndarray, bars: int) -> np.ndarray:
    rows = len(x) - bars + 1
    last = x[bars - 1 :]
    places = np.zeros(rows, dtype=np.uint16)
    for back in range(bars):
        past = x[bars - 1 - back : bars - 1 - back + rows]
        places += past <= last
        places += past < last
    known = fold((x,), _add, bars)[0]
    return np.where(np.isnan(known), np.nan, (places + 1) / (2 * bars))


def _time_squares(bars: int) -> float:
    """Sum of squares of 1, ..., bars about their mean."""
    return bars * (bars * bars - 1) / 12


def _is_flat(squares: np.ndarray, bars: int) -> np.ndarray:
    return ~(squares > bars * FLAT * FLAT)
