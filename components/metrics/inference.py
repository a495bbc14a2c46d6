"""How sure a mean or a Sharpe ratio is, when neighbouring values depend on each other."""

from collections.abc import Callable

import numpy as np

CHUNK_VALUES = 4_000_000
# With fewer cosines the t value has next to no power, and what a series depends on beyond its overlap goes
# unseen: tests/benchmarks/bench_significance.py.
FEWEST_COSINES = 4
# Keeps a normal deviate finite.
SMALLEST_CHANCE = 1e-300


def degrees_of_freedom(n_values: int, horizon: int) -> int:
    """Cosines that `long_run_variance` averages, which are the degrees of freedom of what it is divided by.

    0.4 n^(2/3) of them (Lazarus, Lewis, Stock and Watson 2018, *HAR Inference: Recommendations for
    Practice*), and no more than have a period of five horizons or longer: within the overlap of labels a
    series has less variance than in the long run, and would call noise significant. 0 where fewer than
    FEWEST_COSINES are left: with so few bars nothing can be said about the mean.
    """
    cosines = min(int(0.4 * n_values ** (2 / 3) + 1e-9), int(n_values / (2.5 * horizon)))
    return cosines if cosines >= FEWEST_COSINES else 0


def fewest_values(horizon: int) -> int:
    """Values below which neither a t value nor a long-run variance is given: ten horizons, at least 32."""
    return max(32, 10 * horizon)


def long_run_variance(values: np.ndarray, *, horizon: int) -> float:
    """n times the variance of the mean of values that depend on their neighbours.

    The equal-weighted cosine estimator: the mean square of the series' first cosine transforms. Unlike a sum
    of weighted autocovariances its distribution is known for few values as well.

    Parameters
    ----------
    values : shape (n,), in order of time
    horizon : bars that a value spans; the values of neighbouring bars overlap for horizon - 1 of them

    Returns
    -------
    NaN for fewer than `fewest_values`, values that are not finite, or a constant series.
    """
    from scipy.fft import dct

    values = np.asarray(values, dtype=float)
    size = len(values)
    cosines = degrees_of_freedom(size, horizon)
    if (
        not cosines
        or not np.isfinite(values).all()
        or np.ptp(values) <= 1e-14 * max(np.abs(values).max(), 1e-300)
    ):
        return float("nan")
    # SciPy's transform is twice the sum of the values times each cosine.
    transforms = dct(values - values.mean())[1 : cosines + 1] / 2
    variance = float((transforms**2).mean() * 2 / size)
    return variance if variance > 0 else float("nan")


def standard_error(values: np.ndarray, *, horizon: int) -> float:
    """Of the mean of values that depend on their neighbours; NaN where `long_run_variance` is."""
    return float(np.sqrt(long_run_variance(values, horizon=horizon) / max(len(values), 1)))


def t_value(values: np.ndarray, *, horizon: int) -> float:
    """How far the mean lies from 0, as a standard normal deviate.

    Student's t of the mean, with the standard error and the degrees of freedom of `long_run_variance`, is put
    on the scale of the normal distribution by its chance: 1.96 means a two-sided chance of 5 % whatever the
    number of values. NaN where `long_run_variance` is.
    """
    error = standard_error(values, horizon=horizon)
    if not np.isfinite(error):
        return float("nan")
    return as_normal_deviate(float(np.mean(values)) / error, degrees_of_freedom(len(values), horizon))


def as_normal_deviate(t: float, freedom: float) -> float:
    """The normal deviate of the same chance as Student's t with so many degrees of freedom."""
    from scipy.stats import norm
    from scipy.stats import t as student

    chance = max(float(student.sf(abs(t), freedom)), SMALLEST_CHANCE)
    return float(np.copysign(norm.isf(chance), t))


def half_width(values: np.ndarray, *, horizon: int, level: float = 0.95) -> float:
    """Half of the interval about the mean that holds the true one with a chance of `level`; NaN where
    `long_run_variance` is.
    """
    from scipy.stats import t as student

    error = standard_error(values, horizon=horizon)
    if not np.isfinite(error):
        return float("nan")
    return float(error * student.isf((1 - level) / 2, degrees_of_freedom(len(values), horizon)))


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


def block_bootstrap_sums(values: np.ndarray, *, block_bars: int, draws: int, seed: int) -> np.ndarray:
    """Sums of several series over the draws of one circular block bootstrap, for statistics that sums suffice
    for: sums of blocks are looked up, so that a draw costs its blocks and not its values.

    Parameters
    ----------
    values : shape (n, series), in order of time, all finite
    block_bars : as in `block_bootstrap_interval`

    Returns
    -------
    (draws, series), of n values each; no rows for fewer than 3 values.
    """
    size = len(values)
    if size < 3:
        return np.zeros((0, values.shape[1]))
    block = int(np.clip(block_bars, 1, size))
    running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(np.tile(values, (2, 1)), axis=0)])
    whole, rest = divmod(size, block)
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, size, size=(draws, whole + 1))
    sums = np.empty((draws, values.shape[1]))
    step = max(CHUNK_VALUES // (whole * values.shape[1] + 1), 1)
    for first in range(0, draws, step):
        chunk = starts[first : first + step]
        sums[first : first + step] = (running[chunk[:, :-1] + block] - running[chunk[:, :-1]]).sum(axis=1)
    return sums + running[starts[:, -1] + rest] - running[starts[:, -1]]
