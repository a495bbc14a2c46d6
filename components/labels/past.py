"""What a label may know of the past: volatility, beta, spread and traded value at the signal, from bars up to
it.
"""

import numpy as np

from components.labels.grid import shifted, trailing_sum

# The market's own variance over a window below this is a flat market: beta is unknown there.
FLAT_VARIANCE = 1e-14
MIN_MARKET_SYMBOLS = 2


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
    return np.sqrt(_where_half(squares / np.maximum(count, 1), count, bars))


def market_returns(returns: np.ndarray) -> np.ndarray:
    """Equal-weighted mean of the symbols' returns at each bar, NaN with fewer than 2; shape (bars, 1)."""
    known = np.isfinite(returns)
    count = known.sum(axis=1, keepdims=True)
    total = np.where(known, returns, 0.0).sum(axis=1, keepdims=True)
    return np.where(count >= MIN_MARKET_SYMBOLS, total / np.maximum(count, 1), np.nan)


def beta(returns: np.ndarray, bars: int, weight: float) -> np.ndarray:
    """Slope of a symbol's returns on the market's over the last `bars` bars, drawn towards 1; shape (bars,
    symbols).

    beta = weight * cov(r, m) / var(m) + (1 - weight), over the bars that have both. NaN where fewer than half
    do, or where the market did not move.
    """
    market = market_returns(returns)
    both = np.isfinite(returns) & np.isfinite(market)
    own, common = np.where(both, returns, 0.0), np.where(both, market, 0.0)
    count = trailing_sum(both.astype(float), bars)
    size = np.maximum(count, 1)
    own_sum, common_sum = trailing_sum(own, bars), trailing_sum(common, bars)
    covariance = trailing_sum(own * common, bars) / size - own_sum * common_sum / size**2
    variance = trailing_sum(common * common, bars) / size - (common_sum / size) ** 2
    slope = np.divide(
        covariance, variance, out=np.full(covariance.shape, np.nan), where=variance > FLAT_VARIANCE
    )
    return _where_half(weight * slope + (1 - weight), count, bars)


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
    return np.sqrt(_where_half(np.maximum(-covariance, 0.0), count, bars))


def traded_value(value: np.ndarray, bars: int) -> np.ndarray:
    """Mean traded value a bar over the last `bars` bars; NaN where fewer than half are known or nothing was
    traded. Shape (bars, symbols).
    """
    known = np.isfinite(value) & (value >= 0)
    count = trailing_sum(known.astype(float), bars)
    mean = _where_half(trailing_sum(np.where(known, value, 0.0), bars) / np.maximum(count, 1), count, bars)
    return np.where(mean > 0, mean, np.nan)


def _where_half(values: np.ndarray, count: np.ndarray, bars: int) -> np.ndarray:
    return np.where(2 * count >= bars, values, np.nan)
