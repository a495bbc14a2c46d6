"""Compiled loops: cross-sectional ranks and rank correlations of many inputs, at several lags, a bar at a
time. Imported late, for numba is slow to load.
"""

import numpy as np
from numba import config, njit, prange, set_num_threads

FEWEST_SYMBOLS = 5


def use_threads(threads: int) -> None:
    """Let the loops over inputs run on so many threads, as far as the machine has them."""
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))


@njit(cache=True, nogil=True)
def _ranks_of_bar(values: np.ndarray, symbols: np.ndarray, out: np.ndarray) -> None:
    """Mean ranks of the finite values, centred and scaled to [-0.5, 0.5], put at their symbols' places in
    `out`; nothing where all are equal or few.
    """
    kept = 0
    for i in range(len(values)):
        if np.isfinite(values[i]):
            kept += 1
    if kept < FEWEST_SYMBOLS:
        return
    finite = np.empty(kept, dtype=values.dtype)
    places = np.empty(kept, dtype=symbols.dtype)
    k = 0
    for i in range(len(values)):
        if np.isfinite(values[i]):
            finite[k] = values[i]
            places[k] = symbols[i]
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


@njit(cache=True, nogil=True)
def dense_ranks(values: np.ndarray, symbols: np.ndarray, starts: np.ndarray, n_symbols: int) -> np.ndarray:
    """Cross-sectional ranks of one column as (bars, symbols), NaN where there is none; rows are sorted by
    bar, `starts` (bars + 1,).
    """
    bars = len(starts) - 1
    dense = np.full((bars, n_symbols), np.nan, dtype=np.float32)
    for t in range(bars):
        _ranks_of_bar(values[starts[t] : starts[t + 1]], symbols[starts[t] : starts[t + 1]], dense[t])
    return dense


@njit(cache=True, nogil=True)
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


@njit(cache=True, parallel=True)
def lagged_rank_correlations(
    values: np.ndarray,
    label: np.ndarray,
    symbols: np.ndarray,
    starts: np.ndarray,
    n_symbols: int,
    lags: np.ndarray,
) -> np.ndarray:
    """RankIC of each input and bar at each lag: the input of bar t - lag against the label of bar t; shape
    (lags, bars, inputs), float32.
    """
    bars, inputs = len(starts) - 1, values.shape[1]
    wanted = dense_ranks(label, symbols, starts, n_symbols)
    out = np.full((len(lags), bars, inputs), np.nan, dtype=np.float32)
    for column in prange(inputs):
        dense = dense_ranks(values[:, column], symbols, starts, n_symbols)
        for k in range(len(lags)):
            for t in range(lags[k], bars):
                out[k, t, column] = _correlation(dense[t - lags[k]], wanted[t])
    return out


@njit(cache=True, parallel=True)
def rank_correlations(outputs: np.ndarray, label: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rank correlation of each output (rows, outputs) with the label, a bar at a time; shape
    (bars, outputs).
    """
    bars, count = len(starts) - 1, outputs.shape[1]
    out = np.full((bars, count), np.nan)
    for k in prange(count):
        for t in range(bars):
            size = starts[t + 1] - starts[t]
            places = np.arange(size)
            left = np.full(size, np.nan, dtype=np.float32)
            right = np.full(size, np.nan, dtype=np.float32)
            _ranks_of_bar(outputs[starts[t] : starts[t + 1], k], places, left)
            _ranks_of_bar(label[starts[t] : starts[t + 1]], places, right)
            out[t, k] = _correlation(left, right)
    return out
