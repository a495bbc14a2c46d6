"""Ranks within each bar, centred and of length 1, so that a rank correlation is one dot product."""

import numpy as np

from components.compiling import compiled

FEWEST_SYMBOLS = 5


@compiled(nogil=True)
def unit_ranks(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Ranks of `values` within each bar, mean 0 and sum of squares 1; ties share their mean rank.

    Parameters
    ----------
    values : (rows,), rows of a bar together
    starts : (bars + 1,), first row of each bar, then the number of rows

    Returns
    -------
    (rows,). What is not finite gets 0, the middle; so does a bar with fewer than 5 finite values or a single
    distinct one.
    """
    result = np.zeros(len(values))
    for bar in range(len(starts) - 1):
        first, last = starts[bar], starts[bar + 1]
        rows = first + np.flatnonzero(np.isfinite(values[first:last]))
        if len(rows) < FEWEST_SYMBOLS:
            continue
        ordered = rows[np.argsort(values[rows])]
        middle, length = (len(rows) - 1) / 2, 0.0
        begin = 0
        while begin < len(ordered):
            end = begin + 1
            while end < len(ordered) and values[ordered[end]] == values[ordered[begin]]:
                end += 1
            rank = (begin + end - 1) / 2 - middle
            for place in range(begin, end):
                result[ordered[place]] = rank
            length += rank * rank * (end - begin)
            begin = end
        if length > 0:
            result[first:last] /= np.sqrt(length)
    return result


@compiled(nogil=True)
def rank_ic(values: np.ndarray, target: np.ndarray, starts: np.ndarray) -> float:
    """Mean over bars of the rank correlation of `values` with `target`, which has mean 0 and length 1 in each
    bar.

    Summed in a plain loop: BLAS would start threads for each of the many thousand calls of a search.
    """
    ranks, total = unit_ranks(values, starts), 0.0
    for row in range(len(ranks)):
        total += ranks[row] * target[row]
    return total / (len(starts) - 1)


def unit_values(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`values` (all finite) less their mean in each bar, sum of squares 1; 0 in a bar where all are equal.

    Shape (rows,).
    """
    sizes = np.diff(starts)
    centred = values - np.repeat(by_bar(values, starts) / sizes, sizes)
    length = np.repeat(np.sqrt(by_bar(centred**2, starts)), sizes)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)


def by_bar(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums over the rows of each bar; shape (bars,)."""
    return np.add.reduceat(values, starts[:-1])
