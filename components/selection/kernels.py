"""Compiled loops: cross-sectional ranks and rank correlations of many inputs, a bar at a time.
Imported late, for numba is slow to load.
"""

import numpy as np
from numba import config, prange, set_num_threads

from components.compiling import compiled

FEWEST_SYMBOLS = 5


def use_threads(threads: int) -> None:
    """Let the loops over inputs run on so many threads, as far as the machine has them."""
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))


@compiled(nogil=True)
def _ranks_of_bar(values: np.ndarray, out: np.ndarray) -> None:
    """Mean ranks of the finite values, centred and scaled to [-0.5, 0.5], put at their places in `out`;
    nothing where all are equal or few.
    """
    kept = 0
    for i in range(len(values)):
        if np.isfinite(values[i]):
            kept += 1
    if kept < FEWEST_SYMBOLS:
        return
    finite = np.empty(kept, dtype=values.dtype)
    places = np.empty(kept, dtype=np.int64)
    k = 0
    for i in range(len(values)):
        if np.isfinite(values[i]):
            finite[k] = values[i]
            places[k] = i
            k += 1
    order = np.argsort(finite)
    if finite[order[0]] == finite[order[kept - 1]]:
        return
    first = 0
    while first < kept:
        last = first
        while last + 1 < kept and finite[order[last + 1]] == finite[order[first]]:
            last += 1
        for i in range(first, last + 1):
            out[places[order[i]]] = ((first + last) / 2 - (kept - 1) / 2) / kept
        first = last + 1


@compiled(nogil=True)
def _ranks(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Cross-sectional rank of each row, NaN where there is none."""
    out = np.full(len(values), np.nan, dtype=np.float32)
    for t in range(len(starts) - 1):
        part = slice(starts[t], starts[t + 1])
        _ranks_of_bar(values[part], out[part])
    return out


@compiled(nogil=True)
def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    n, a, b = 0, 0.0, 0.0
    for s in range(len(left)):
        if np.isfinite(left[s]) and np.isfinite(right[s]):
            n += 1
            a += left[s]
            b += right[s]
    if n < FEWEST_SYMBOLS:
        return np.nan
    a /= n
    b /= n
    ab, aa, bb = 0.0, 0.0, 0.0
    for s in range(len(left)):
        if np.isfinite(left[s]) and np.isfinite(right[s]):
            x, y = left[s] - a, right[s] - b
            ab += x * y
            aa += x * x
            bb += y * y
    return ab / np.sqrt(aa * bb) if aa > 1e-9 and bb > 1e-9 else np.nan


@compiled(parallel=True)
def rank_correlations(outputs: np.ndarray, label: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rank correlation of each output (rows, outputs) with the label, a bar at a time; shape
    (bars, outputs). Rows are sorted by bar, `starts` (bars + 1,).
    """
    bars, count = len(starts) - 1, outputs.shape[1]
    wanted = _ranks(label, starts)
    out = np.full((bars, count), np.nan)
    for k in prange(count):
        ranks = _ranks(outputs[:, k], starts)
        for t in range(bars):
            part = slice(starts[t], starts[t + 1])
            out[t, k] = _correlation(ranks[part], wanted[part])
    return out
