"""Volatility, spread and traded value of each symbol as known at each bar, from the bars up to it."""

import numpy as np


def shifted(matrix: np.ndarray, bars: int, fill: float = np.nan) -> np.ndarray:
    """The value `bars` bars ago (ahead where negative), `fill` beyond the ends; shape as given."""
    moved = np.full(matrix.shape, fill, dtype=np.result_type(matrix, type(fill)))
    if bars >= 0:
        moved[bars:] = matrix[: max(len(matrix) - bars, 0)]
    else:
        moved[:bars] = matrix[-bars:]
    return moved


def trailing_sum(matrix: np.ndarray, bars: int) -> np.ndarray:
    """Sum over the last `bars` bars, fewer at the beginning.

    Built of sums over 1, 2, 4, ... bars, so it adds the window's own values only: what lies before it changes
    no bit.
    """
    block, size, total, covered = matrix, 1, None, 0
    while True:
        if bars & size:
            total = block if total is None else total + shifted(block, covered, 0.0)
            covered += size
        if 2 * size > bars:
            return total
        block, size = block + shifted(block, size, 0.0), 2 * size


def one_bar_returns(log_close: np.ndarray) -> np.ndarray:
    """Log returns from close to close of neighbouring bars of the calendar; NaN beside a gap.

    Shape (bars, symbols).
    """
    return log_close - shifted(log_close, 1)


def volatility(returns: np.ndarray, bars: int) -> np.ndarray:
    """Root of the mean squared return over the last `bars` bars, a bar; NaN where fewer than half are known.

    Shape (bars, symbols).
    """
    known = np.isfinite(returns)
    count = trailing_sum(known.astype(float), bars)
    squares = trailing_sum(np.where(known, returns, 0.0) ** 2, bars)
    return np.sqrt(where_half(squares / np.maximum(count, 1), count, bars))


def roll_half_spread(returns: np.ndarray, bars: int) -> np.ndarray:
    """Half the effective spread as a log return, sqrt(-cov(r[t], r[t-1])), 0 where the covariance is positive
    (Roll 1984); shape (bars, symbols).
    """
    before = shifted(returns, 1)
    both = np.isfinite(returns) & np.isfinite(before)
    now, before = np.where(both, returns, 0.0), np.where(both, before, 0.0)
    count = trailing_sum(both.astype(float), bars)
    size = np.maximum(count, 1)
    covariance = (
        trailing_sum(now * before, bars) / size
        - trailing_sum(now, bars) * trailing_sum(before, bars) / size**2
    )
    return np.sqrt(where_half(np.maximum(-covariance, 0.0), count, bars))


def traded_value(value: np.ndarray, bars: int) -> np.ndarray:
    """Mean traded value a bar over the last `bars` bars; NaN where fewer than half are known or nothing was
    traded. Shape (bars, symbols).
    """
    known = np.isfinite(value) & (value >= 0)
    count = trailing_sum(known.astype(float), bars)
    mean = where_half(trailing_sum(np.where(known, value, 0.0), bars) / np.maximum(count, 1), count, bars)
    return np.where(mean > 0, mean, np.nan)


def where_half(values: np.ndarray, count: np.ndarray, bars: int) -> np.ndarray:
    """The values, NaN where fewer than half of the `bars` bars count."""
    return np.where(2 * count >= bars, values, np.nan)
