"""Evidence put together over the eras of a fold: means, clusters, variance inflation, and what chance would
give.
"""

from collections.abc import Sequence

import numpy as np

from components.selection.eras import Evidence
from components.selection.samples import clusters


def mean_over(arrays: Sequence[np.ndarray | None], size: int) -> np.ndarray:
    """Mean of what is finite, place by place; NaN where nothing is."""
    found = [array for array in arrays if array is not None]
    if not found:
        return np.full(size, np.nan)
    stacked = np.stack(found)
    known = np.isfinite(stacked)
    return np.where(
        known.any(axis=0), np.where(known, stacked, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )


def mean_correlation(evidence: Sequence[Evidence]) -> np.ndarray:
    size = len(evidence[0].usable)
    return mean_over([found.correlation.ravel() for found in evidence], size * size).reshape(size, size)


def representatives(
    usable: np.ndarray, correlation: np.ndarray, strength: np.ndarray, coverage: np.ndarray, largest: float
) -> np.ndarray:
    """For each input the position of the strongest of its cluster by the IC's t-statistic, then coverage,
    then the catalog's order.
    """
    places, stands_for = np.flatnonzero(usable), np.arange(len(usable))
    if not len(places):
        return stands_for
    number = clusters(np.nan_to_num(correlation[np.ix_(places, places)]), largest)
    for cluster in np.unique(number):
        members = places[number == cluster]
        stands_for[members] = members[
            np.lexsort((-coverage[members].round(6), -strength[members].round(6)))[0]
        ]
    return stands_for


def inflation(
    left: np.ndarray, correlation: np.ndarray, strength: np.ndarray, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Variance inflation factor of each input among those left (a ridge of 1e-6 stands in for a missing
    inverse), and which stay: of those above the limit the weakest goes, one by one.
    """
    kept, vif = left.copy(), np.full(len(left), np.nan)
    while kept.any():
        places = np.flatnonzero(kept)
        among = np.nan_to_num(correlation[np.ix_(places, places)])
        np.fill_diagonal(among, 1 + 1e-6)
        # Correlations averaged over eras need not be positive definite; the smallest eigenvalues are lifted.
        values, vectors = np.linalg.eigh((among + among.T) / 2)
        now = ((vectors**2) / np.maximum(values, 1e-6)).sum(axis=1)
        vif[places] = now
        over = places[now > largest]
        if not len(over):
            break
        kept[over[np.argmin(strength[over])]] = False
    return vif, kept


def luck(appeared: np.ndarray, asked: np.ndarray, chance: float) -> np.ndarray:
    """Chance that a useless input appears in so many eras or more: a binomial tail."""
    from scipy.stats import binom

    return np.where(asked > 0, binom.sf(appeared - 1, np.maximum(asked, 1), chance), np.nan)


def steady_share(evidence: Sequence[Evidence], mean: np.ndarray) -> np.ndarray:
    """Share of eras whose mean RankIC has the sign of the window's; NaN for inputs that order nothing."""
    signs = np.stack([found.figures["era_ic"] for found in evidence])
    known = np.isfinite(signs)
    share = (known & (np.sign(signs) == np.sign(mean))).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0) & np.isfinite(mean), share, np.nan)


def pooled_permutation(evidence: Sequence[Evidence], size: int) -> dict[str, np.ndarray]:
    """Mean loss over eras, the mean standard deviation over draws, and the 95 % interval from the spread of
    the eras (Student's t).
    """
    from scipy.stats import t

    losses = np.stack([found.figures.get("permutation_loss", np.full(size, np.nan)) for found in evidence])
    known = np.isfinite(losses).sum(axis=0)
    mean = mean_over(list(losses), size)
    spread = np.sqrt(
        np.where(known > 1, np.nansum((losses - mean) ** 2, axis=0) / np.maximum(known - 1, 1), np.nan)
    )
    half = t.isf(0.025, np.maximum(known - 1, 1)) * spread / np.sqrt(np.maximum(known, 1))
    deviation = mean_over([found.figures.get("permutation_std") for found in evidence], size)
    return {
        "permutation_loss": mean,
        "permutation_std": deviation,
        "permutation_low": mean - half,
        "permutation_high": mean + half,
    }
