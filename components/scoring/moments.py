"""Mean and spread over the symbols of a bar, and a target's place in them: one arithmetic for training,
judging and serving.

Shapes: K values a row, N rows of several bars.
"""

from typing import Literal

import numpy as np

# What is learned of a target: itself, by the first two, or its place in the cross-section of its bar.
TargetTransform = Literal["none", "scaled", "zscore", "rank_gaussian"]
# Targets in standard deviations are cut off here, so that a single takeover bid does not steer a tree.
LARGEST_TARGET = 4.0
FEWEST_SYMBOLS = 3
# Ranks of fewer labels than this keep little of what z-scores say: five labels have five places.
FEWEST_RANKED = 10
# Labels of a bar that differ by less than this are equal.
SMALLEST_SPREAD = 1e-12


def moments_by_bar(values_KN: np.ndarray, bar_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 1) of each row's own bar, both [K, N]; 0 where a bar has one row.

    `values_KN` are finite; `bar_N` numbers each row's bar, from 0 on.
    """
    members = np.maximum(np.bincount(bar_N), 1)
    mean_KN = np.stack([(np.bincount(bar_N, weights=values) / members)[bar_N] for values in values_KN])
    squares = [np.bincount(bar_N, weights=values) for values in (values_KN - mean_KN) ** 2]
    return mean_KN, np.stack([np.sqrt(square / np.maximum(members - 1, 1))[bar_N] for square in squares])


def moments_of_one_bar(values_KN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 1) over rows that are a single bar, both [K]; 0 for a single row."""
    mean_K = values_KN.mean(axis=1)
    spread_K = values_KN.std(axis=1, ddof=1) if values_KN.shape[1] > 1 else np.zeros(len(values_KN))
    return mean_K, spread_K


def peer_means(values_KN: np.ndarray, bar_N: np.ndarray, sector_N: np.ndarray) -> np.ndarray:
    """Mean over the rows of a row's own bar and sector, [K, N], as labels less those of the sector have it:
    over all rows of the bar where the sector is unknown (NaN) or has fewer than 3 of them.
    """
    (overall_KN, _), known_N = moments_by_bar(values_KN, bar_N), np.isfinite(sector_N)
    # Codes are whole numbers below 2^20, exact in Float32.
    group_N = np.unique(bar_N * 2.0**21 + np.where(known_N, sector_N, -1.0), return_inverse=True)[1]
    members_N = np.bincount(group_N)[group_N]
    own_KN, _ = moments_by_bar(values_KN, group_N)
    return np.where(known_N & (members_N >= FEWEST_SYMBOLS), own_KN, overall_KN)


def standardised_target(
    label_N: np.ndarray, bar_N: np.ndarray, usual_spread: float | np.ndarray
) -> np.ndarray:
    """(label - mean) / standard deviation within the bar, cut off at 4, so that calm and wild days weigh the
    same; Float64, shape (rows,).

    Parameters
    ----------
    label_N : labels, all finite
    bar_N : number of each row's bar, from 0 on
    usual_spread : what labels of a thin bar are divided by, one number or one a row: a bar with fewer than 3
        rows, or without spread, says nothing about its own
    """
    (mean_N,), (spread_N,) = moments_by_bar(label_N[None], bar_N)
    enough_N = (np.bincount(bar_N) >= FEWEST_SYMBOLS)[bar_N] & (spread_N > SMALLEST_SPREAD)
    within_N = (label_N - mean_N) / np.where(enough_N, spread_N, 1.0)
    return np.clip(np.where(enough_N, within_N, label_N / usual_spread), -LARGEST_TARGET, LARGEST_TARGET)


def normal_scores(label_N: np.ndarray, bar_N: np.ndarray) -> np.ndarray:
    """Each label's rank within its bar as the quantile of a normal distribution, Float64, shape (rows,).

    With u = (rank - 1/2) / labels of the bar (Hazen 1914; equal labels share their mean rank) the score is
    the inverse normal distribution at u: as van der Waerden (1952) scores, of mean 0 and a spread near 1, but
    no label is further out than its rank, however heavy the tails are.

    Parameters
    ----------
    label_N : labels, all finite
    bar_N : number of each row's bar, from 0 on
    """
    from scipy.special import ndtri

    if not len(label_N):
        return np.empty(0)
    order = np.lexsort((label_N, bar_N))
    bar, label = bar_N[order], label_N[order]
    new = np.r_[True, (bar[1:] != bar[:-1]) | (label[1:] != label[:-1])]
    first = np.flatnonzero(new)
    last = np.r_[first[1:], len(label)] - 1
    members = np.bincount(bar_N)
    begins = np.cumsum(members) - members
    # Ranks count from 1, so the mean place of a group of equals from 0 on is its rank less 1/2 plus 1/2.
    middle = ((first + last) / 2)[np.cumsum(new) - 1] - begins[bar] + 0.5
    scores = np.empty(len(label))
    scores[order] = ndtri(middle / members[bar])
    return scores


def learned_target(
    label_N: np.ndarray, bar_N: np.ndarray, usual_spread: float | np.ndarray, transform: TargetTransform
) -> np.ndarray:
    """What is learned of labels, Float64, shape (rows,).

    `none`: the label. `scaled`: the label over the usual spread, cut off at 4, with nothing taken from others
    of its bar. `zscore`: `standardised_target`. `rank_gaussian`: `normal_scores` in bars of at least
    10 labels that differ, else as `zscore`. Arguments as of `standardised_target`.
    """
    if transform == "none":
        return label_N
    if transform == "scaled":
        return np.clip(label_N / usual_spread, -LARGEST_TARGET, LARGEST_TARGET)
    standardised_N = standardised_target(label_N, bar_N, usual_spread)
    if transform == "zscore":
        return standardised_N
    (_,), (spread_N,) = moments_by_bar(label_N[None], bar_N)
    ranked_N = (np.bincount(bar_N) >= FEWEST_RANKED)[bar_N] & (spread_N > SMALLEST_SPREAD)
    return np.where(ranked_N, normal_scores(label_N, bar_N), standardised_N)


def spread_so_far(label_N: np.ndarray, bar_N: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof 0) of all labels of a row's bar and of the bars before it, shape (rows,); 1
    where they do not vary yet. No later bar moves it.
    """
    counts, sums, squares = (
        np.cumsum(np.bincount(bar_N, weights=weights)) for weights in (None, label_N, label_N**2)
    )
    seen = np.maximum(counts, 1)
    spread = np.sqrt(np.maximum(squares / seen - (sums / seen) ** 2, 0.0))
    return np.where(spread > SMALLEST_SPREAD, spread, 1.0)[bar_N]
