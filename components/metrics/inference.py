"""How sure a mean or a Sharpe ratio is, when neighbouring values depend on each other."""

from collections.abc import Callable

import numpy as np

CHUNK_VALUES = 4_000_000


def hac_lags(n_values: int, horizon: int) -> int:
    """Lags for `newey_west_t`: twice the horizon, and at least the rule of thumb 4 (n / 100)^(2/9).

    Labels over `horizon` bars overlap for horizon - 1 bars. Bartlett weights shrink the autocovariances they
    take in, so stopping at the horizon would call noise significant.
    """
    return min(max(2 * horizon, int(4 * (n_values / 100) ** (2 / 9))), max(n_values - 2, 0))


def newey_west_t(values: np.ndarray, *, lags: int) -> float:
    """t-statistic of the mean with a heteroskedasticity- and autocorrelation-consistent error.

    Newey and West (1987), Bartlett kernel: V = c_0 + 2 * sum over k <= lags of (1 - k / (lags + 1)) * c_k, t
    = mean / sqrt(V / n) with the small-sample factor n / (n - 1).

    Parameters
    ----------
    values : shape (n,), in order of time, all finite
    lags : autocovariances taken in; 0 gives the ordinary t-statistic

    Returns
    -------
    NaN for fewer than 3 values or a constant series.
    """
    values = np.asarray(values, dtype=float)
    size = len(values)
    if (
        size < 3
        or not np.isfinite(values).all()
        or np.ptp(values) <= 1e-14 * max(np.abs(values).max(), 1e-300)
    ):
        return float("nan")
    centred = values - values.mean()
    covariances = np.array([centred[k:] @ centred[: size - k] for k in range(min(lags, size - 1) + 1)]) / size
    weights = 1 - np.arange(len(covariances)) / (lags + 1)
    weights[1:] *= 2
    variance = float(weights @ covariances) / (size - 1)
    return float(values.mean() / np.sqrt(variance)) if variance > 0 else float("nan")


def block_bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    block_bars: int,
    draws: int = 1000,
    level: float = 0.9,
    seed: int,
) -> tuple[float, float]:
    """Interval of a statistic over a dependent series: circular block bootstrap (Politis and Romano 1992),
    percentile limits.

    Parameters
    ----------
    values : shape (n,), in order of time, all finite
    statistic : maps (draws, n) to (draws,)
    block_bars : length of the blocks drawn; longer than the dependence
    level : share of the draws inside, in (0, 1); the lower limit alone is a one-sided limit of level (1 +
        level) / 2

    Returns
    -------
    Lower and upper limit; both NaN for fewer than 3 values, or where a draw gives no number.
    """
    values = np.asarray(values, dtype=float)
    size = len(values)
    if size < 3 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    block = int(np.clip(block_bars, 1, size))
    starts = generator.integers(0, size, size=(draws, -(-size // block)))
    step = max(CHUNK_VALUES // size, 1)
    parts = []
    for first in range(0, draws, step):
        chunk = starts[first : first + step]
        positions = (chunk[:, :, None] + np.arange(block)).reshape(len(chunk), -1)[:, :size] % size
        parts.append(statistic(values[positions]))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail])
    return float(low), float(high)
