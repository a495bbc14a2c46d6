"""What a label may know of the market in the past: beta at the signal, from bars up to it."""

import numpy as np

from components.metrics.liquidity import trailing_sum, where_half

# The market's own variance over a window below this is a flat market: beta is unknown there.
FLAT_VARIANCE = 1e-14
MIN_MARKET_SYMBOLS = 2


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
    return where_half(weight * slope + (1 - weight), count, bars)
