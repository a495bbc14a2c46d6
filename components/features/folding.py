"""Windows over plain arrays: two windows of n rows are joined to one of 2n, so that a window costs log2(bars)
passes over the column and each value comes from its own window alone, always in the same order.

Columns are Float64 with NaN where unknown. A state is a tuple of columns, one row a window; `join(older,
newer, m, n)` gives the state of two neighbouring windows of m and n rows together.
"""

from collections.abc import Callable

import numpy as np

# Denominators below this are a flat window and its rounding noise: the ratio is undefined there, not large.
FLAT = 1e-9
# Windows are joined in blocks of so many rows, which stay in the processor's cache.
BLOCK_ROWS = 1 << 14

State = tuple[np.ndarray, ...]
Join = Callable[[State, State, int, int], State]


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


def added(older: State, newer: State, *_: int) -> State:
    return tuple(a + b for a, b in zip(older, newer, strict=True))


def started(x: np.ndarray, moments: int) -> State:
    """One row's mean and its central moments, which are 0."""
    empty = np.zeros(len(x))
    return (x, *[empty] * moments)


def join_squares(older: State, newer: State, m: int, n: int) -> State:
    """Mean and sum of squares about it (Chan, Golub and LeVeque 1979)."""
    gap = newer[0] - older[0]
    return older[0] + gap * (n / (m + n)), older[1] + newer[1] + gap * gap * (m * n / (m + n))


def join_line(older: State, newer: State, m: int, n: int) -> State:
    """Mean, squares, and products with time; the middles of the two windows are (m + n) / 2 bars apart."""
    gap = newer[0] - older[0]
    return (*join_squares(older, newer, m, n), older[2] + newer[2] + gap * (m * n / 2))


def join_covariance(older: State, newer: State, m: int, n: int) -> State:
    x_gap, y_gap = newer[0] - older[0], newer[1] - older[1]
    share = n / (m + n)
    return (
        older[0] + x_gap * share,
        older[1] + y_gap * share,
        older[2] + newer[2] + x_gap * y_gap * (m * share),
    )


def join_pairs(older: State, newer: State, m: int, n: int) -> State:
    x_gap, y_gap = newer[0] - older[0], newer[1] - older[1]
    weight = m * n / (m + n)
    return (
        *join_covariance(older, newer, m, n),
        older[3] + newer[3] + x_gap * x_gap * weight,
        older[4] + newer[4] + y_gap * y_gap * weight,
    )


def join_four_moments(older: State, newer: State, m: int, n: int) -> State:
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


def join_known(older: State, newer: State, *_: int) -> State:
    """Count, mean and squares of the known values."""
    count = older[0] + newer[0]
    share = newer[0] / np.maximum(count, 1.0)
    gap = newer[1] - older[1]
    return count, older[1] + gap * share, older[2] + newer[2] + gap * gap * (older[0] * share)


def squares_about_mean(x: np.ndarray, bars: int) -> np.ndarray:
    return folded(started(x, 1), join_squares, bars)[1]


def line_on_time(x: np.ndarray, bars: int) -> State:
    return folded(started(x, 2), join_line, bars)


def known_moments(x: np.ndarray, bars: int, at_least: int) -> State:
    """Count, mean and squares of the known values; NaN where fewer than `at_least` are known."""
    unknown = np.isnan(x)
    count, centre, squares = folded(
        (np.where(unknown, 0.0, 1.0), np.where(unknown, 0.0, x), np.zeros(len(x))), join_known, bars
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


def known_variance(x: np.ndarray, bars: int, at_least: int) -> np.ndarray:
    count, _, squares = known_moments(x, bars, at_least)
    return squares / np.where(count > 1, count - 1, np.nan)


def rank_of_last(x: np.ndarray, bars: int) -> np.ndarray:
    rows = len(x) - bars + 1
    last = x[bars - 1 :]
    places = np.zeros(rows, dtype=np.uint16)
    for back in range(bars):
        past = x[bars - 1 - back : bars - 1 - back + rows]
        places += past <= last
        places += past < last
    known = fold((x,), added, bars)[0]
    return np.where(np.isnan(known), np.nan, (places + 1) / (2 * bars))


def time_squares(bars: int) -> float:
    """Sum of squares of 1, ..., bars about their mean."""
    return bars * (bars * bars - 1) / 12


def is_flat(squares: np.ndarray, bars: int) -> np.ndarray:
    return ~(squares > bars * FLAT * FLAT)
