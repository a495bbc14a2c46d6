"""Rolling information coefficients: how strong and how lasting each input's RankIC is, and with which
half-life its past counts best.
"""

from dataclasses import dataclass

import numpy as np

from components.metrics import adjusted_p_values, degrees_of_freedom, standard_error, t_value
from components.metrics.inference import as_normal_deviate
from components.selection.rows import Rows
from components.timeline.entry import label_reach


@dataclass(frozen=True)
class Rolling:
    """Of one window, arrays over F inputs, NaN where an input orders nothing.

    `mean` RankIC, its `t` (`t_value`) and `q` (adjusted p-value); `weighted` mean with `half_life`
    (bars; 0: equal weights) and its `weighted_t`.
    """

    mean: np.ndarray
    t: np.ndarray
    q: np.ndarray
    half_life: np.ndarray
    weighted: np.ndarray
    weighted_t: np.ndarray


def daily_rank_ic(rows: Rows) -> np.ndarray:
    """RankIC of every bar and input, shape (T, F) Float32; a bar's needs nothing but that bar."""
    from components.selection.kernels import rank_correlations

    return rank_correlations(rows.values, rows.target, rows.starts).astype(np.float32)


def rolling(daily: np.ndarray, half_lives: tuple[int, ...], *, horizon: int) -> Rolling:
    """Summaries of one window.

    Parameters
    ----------
    daily : shape (bars, F), the window alone
    half_lives : tried besides equal weights, in bars; the one whose weighted mean foretold the RankIC of the
        coming bars best within the window is taken
    horizon : bars that a label spans: a bar's RankIC is known that many bars and the entry bar later
    """
    t = hac_t(daily, horizon)
    return Rolling(_mean(daily), t, adjusted_p_values(two_sided(t)), *_decayed(daily, half_lives, horizon))


def hac_t(series: np.ndarray, horizon: int) -> np.ndarray:
    """`t_value` of each column's mean. Shape (F,)."""
    return np.array([_t(column, horizon) for column in series.T.astype(float)])


def two_sided(t: np.ndarray) -> np.ndarray:
    """Two-sided p-values of t-statistics."""
    from scipy.stats import norm

    return 2 * norm.sf(np.abs(t))


def _t(values: np.ndarray, horizon: int) -> float:
    return t_value(values[np.isfinite(values)], horizon=horizon)


def _mean(series: np.ndarray) -> np.ndarray:
    known = np.isfinite(series)
    count = known.sum(axis=0)
    return np.where(
        count > 0, np.where(known, series, 0).sum(axis=0, dtype=float) / np.maximum(count, 1), np.nan
    )


def _decayed(
    series: np.ndarray, half_lives: tuple[int, ...], horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half-life of each input, its weighted mean at the window's end and the t-statistic of that, with the
    dependence of the plain one.
    """
    known, reach = np.isfinite(series), label_reach(horizon)
    filled = np.where(known, series, 0).astype(float)
    ahead = _coming_mean(filled, known, reach)
    tried, paths, errors = (0, *half_lives), [], []
    for half_life in tried:
        weighted, _ = _weighted_means(filled, known, half_life)
        paths.append(weighted)
        miss = (
            (ahead[2 * reach :] - weighted[reach:-reach]) ** 2
            if len(series) > 4 * reach
            else np.full((1, series.shape[1]), np.nan)
        )
        error = _mean(miss)
        errors.append(np.where(np.isfinite(error), error, np.inf))
    best = np.argmin(np.stack(errors), axis=0)
    columns = np.arange(series.shape[1])
    weighted = np.stack([path[-1] for path in paths])[best, columns]
    half_life = np.array(tried)[best]
    weighted_t = [
        _t_of_weighted(series[known[:, c], c], weighted[c], _effective(known[:, c], half_life[c]), horizon)
        for c in columns
    ]
    return half_life, weighted, np.array(weighted_t)


def _t_of_weighted(values: np.ndarray, weighted: float, effective: float, horizon: int) -> float:
    """Of a mean that as many values as `effective` have a part in, as a normal deviate; NaN where the values
    are too few.
    """
    error = standard_error(values.astype(float), horizon=horizon)
    if not np.isfinite(error):
        return float("nan")
    t = weighted / (error * np.sqrt(len(values) / effective))
    return as_normal_deviate(t, degrees_of_freedom(len(values), horizon))


def _weighted_means(filled: np.ndarray, known: np.ndarray, half_life: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of all values up to each bar, the newest weighing most; shape (bars, F)."""
    from scipy.signal import lfilter

    decay = 0.5 ** (1 / half_life) if half_life else 1.0
    total, weight = (lfilter([1.0], [1.0, -decay], part.astype(float), axis=0) for part in (filled, known))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / weight, weight


def _coming_mean(filled: np.ndarray, known: np.ndarray, bars: int) -> np.ndarray:
    """Mean over the `bars` bars up to and with each bar; NaN where fewer than half of them are known.

    Shape (bars, F).
    """
    sums, counts = (
        np.cumsum(np.concatenate([np.zeros((1, part.shape[1])), part]), axis=0) for part in (filled, known)
    )
    total, count = (np.full(filled.shape, np.nan) for _ in range(2))
    total[bars - 1 :], count[bars - 1 :] = sums[bars:] - sums[:-bars], counts[bars:] - counts[:-bars]
    return np.where(count >= bars / 2, total / np.maximum(count, 1), np.nan)


def _effective(known: np.ndarray, half_life: int) -> float:
    weights = np.where(known, 0.5 ** (np.arange(len(known))[::-1] / half_life) if half_life else 1.0, 0.0)
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))
