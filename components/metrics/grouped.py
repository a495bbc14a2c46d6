"""Means of many series at once, with what `components.metrics.inference` says of each."""

from dataclasses import dataclass

import numpy as np

from components.metrics.inference import SMALLEST_CHANCE, degrees_of_freedom


@dataclass(frozen=True)
class MeanTests:
    """Of each series, arrays (series,): its `mean`, the standard `error` of it, `t` as a normal deviate, and
    how far the interval reaches to both sides. All but the mean are NaN where the values are too few.
    """

    mean: np.ndarray
    error: np.ndarray
    t: np.ndarray
    reach: np.ndarray


def mean_tests(values: np.ndarray, lengths: np.ndarray, *, horizon: int, level: float) -> MeanTests:
    """`t_value`, `standard_error` and `half_width` of series that stand one after the other.

    Series of one length are transformed together, so that thousands of them cost little.

    Parameters
    ----------
    values : all series, each in order of time, finite; shape (sum of lengths,)
    lengths : values of each series, (series,), all above 0
    horizon : bars that a value spans
    level : chance with which the interval holds the true mean
    """
    from scipy.fft import dct
    from scipy.stats import norm
    from scipy.stats import t as student

    values, lengths = np.asarray(values, dtype=float), np.asarray(lengths, dtype=int)
    if not len(lengths):
        return MeanTests(*(np.empty(0) for _ in range(4)))
    starts = np.cumsum(lengths) - lengths
    mean = np.add.reduceat(values, starts) / lengths
    error, freedom = np.full(len(lengths), np.nan), np.zeros(len(lengths))
    for length in np.unique(lengths):
        cosines = degrees_of_freedom(int(length), horizon)
        if not cosines:
            continue
        series = np.flatnonzero(lengths == length)
        block = values[starts[series][:, None] + np.arange(length)]
        moves = np.ptp(block, axis=1) > 1e-14 * np.maximum(np.abs(block).max(axis=1), 1e-300)
        # SciPy's transform is twice the sum of the values times each cosine.
        transforms = dct(block - block.mean(axis=1, keepdims=True), axis=1)[:, 1 : cosines + 1] / 2
        variance = (transforms**2).mean(axis=1) * 2 / length
        error[series] = np.sqrt(np.where(moves & (variance > 0), variance, np.nan) / length)
        freedom[series] = cosines
    ratio = mean / error
    chance = np.maximum(student.sf(np.abs(ratio), freedom), SMALLEST_CHANCE)
    return MeanTests(
        mean, error, np.copysign(norm.isf(chance), ratio), error * student.isf((1 - level) / 2, freedom)
    )
