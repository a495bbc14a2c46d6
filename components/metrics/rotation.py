"""What the largest of many means could be by luck, from the slow movements of the series themselves."""

import numpy as np

from components.metrics.inference import degrees_of_freedom


def rotated_statistics(
    values: np.ndarray, *, horizon: int, draws: int, seed: int, studentised: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the means of series, and what they are where no mean differs from 0.

    The first cosine transforms of series without a mean have the same distribution as their scaled means,
    independent of each other, whatever the series depend on within a horizon (the estimator of
    `long_run_variance`). Any rotation of means and transforms together is then as likely as what was seen:
    Langsrud (2005), *Rotation tests*. All series are rotated alike, so what they have in common stays. For
    one series this is Student's t test; unlike a bootstrap of blocks it knows how unsure the standard errors
    are.

    Parameters
    ----------
    values : shape (bars, series), finite, in order of time, each varying
    horizon : bars over which values are alike: `dependent_bars`
    studentised : in units of each series' own standard error, else means times the root of the bars

    Returns
    -------
    What was seen (series,) and what was drawn (draws, series); NaN where `degrees_of_freedom` is 0.
    """
    from scipy.fft import dct

    bars, series = values.shape
    cosines = degrees_of_freedom(bars, horizon)
    if not cosines:
        return np.full(series, np.nan), np.full((draws, series), np.nan)
    means = values.mean(axis=0)
    # SciPy's transform is twice the sum of the values times each cosine.
    transforms = dct(values - means, axis=0)[1 : cosines + 1] / np.sqrt(2 * bars)
    together = np.vstack([means[None] * np.sqrt(bars), transforms])
    directions = np.random.default_rng(seed).normal(size=(draws, cosines + 1))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen, drawn = together[0], directions @ together
    if not studentised:
        return seen, drawn
    total = (together**2).sum(axis=0)
    seen, drawn = (
        mean / np.sqrt(np.maximum(total - mean**2, np.finfo(float).tiny) / cosines) for mean in (seen, drawn)
    )
    return seen, drawn
