"""Mean and spread over the symbols of a bar, and a target's place in them: one arithmetic for training,
judging and serving.

Shapes: K values a row, N rows of several bars.
"""

import numpy as np

# Targets in standard deviations are cut off here, so that a single takeover bid does not steer a tree.
LARGEST_TARGET = 4.0
FEWEST_SYMBOLS = 3
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
