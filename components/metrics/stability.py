"""Whether a distribution has moved between two samples."""

import numpy as np


def population_stability_index(reference: np.ndarray, current: np.ndarray, *, bins: int = 10) -> float:
    """Sum over bins of (current share - reference share) * ln(current share / reference share).

    Bins are cut at the quantiles of the reference, equal cuts merged; each share is smoothed by half a count
    a bin, so that an empty bin does not give infinity. Under 0.1 is commonly called stable, over 0.25 moved
    (Siddiqi 2006, *Credit Risk Scorecards*).

    Parameters
    ----------
    reference, current : any shape; values that are not finite are left out
    bins : at least 2

    Returns
    -------
    At least 0; NaN where a sample is empty.
    """
    reference, current = (np.asarray(sample, dtype=float).ravel() for sample in (reference, current))
    reference, current = reference[np.isfinite(reference)], current[np.isfinite(current)]
    if not len(reference) or not len(current):
        return float("nan")
    edges = np.unique(np.quantile(reference, np.arange(1, bins) / bins))
    shares = []
    for sample in (reference, current):
        counts = np.bincount(np.searchsorted(edges, sample, side="left"), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
