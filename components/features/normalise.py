"""From raw factor values to models' inputs: against the other symbols of the timestamp, or against the own
past.

The past is the series shifted by one bar, so the present value is never part of its own scale. Nothing is
global.
"""

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl

from components.features.folding import known_moments, known_range, lagged

# With fewer symbols than this at a timestamp a rank says next to nothing: they all get 0, the middle.
MINIMUM_SYMBOLS = 5
# Scores by the own past are cut off here, so that a bad print cannot dominate a model.
LARGEST_SCORE = 8.0
# A spread below this share of the level is Float32 rounding of a flat series.
FLOAT32_NOISE = 1e-6
CHUNK_ROWS = 1 << 16
# Columns of a short table are ranked together, up to so many cells.
BLOCK_CELLS = 1 << 17
# What a missing value sorts as: the bits of NaN, above those of infinity.
ABSENT = np.uint32(0xFFC00000)


def cross_sectional_ranks(
    table: pl.DataFrame, names: Sequence[str], time: np.ndarray, left_out: np.ndarray | None = None
) -> pl.DataFrame:
    """`<name>_rank` for each of `names`: the rank among the rows of equal `time`, spread evenly over [-0.5,
    0.5], Float32.

    `time` (rows,) numbers the timestamps 0, 1, 2, ... in ascending order. Ties share their mean rank, nulls
    stay null; where fewer than MINIMUM_SYMBOLS rows have a value, each of them gets 0. Rows marked in
    `left_out` (rows,) have no rank and don't count in that of others.
    """
    number = time.astype(np.int64)
    slot = np.arange(len(number)) - np.searchsorted(number, number)
    shape = (int(number.max(initial=-1)) + 1, int(slot.max(initial=-1)) + 1)
    cell = number * shape[1] + slot
    # Sorting and arithmetic on whole columns release the interpreter's lock, so columns run side by side.
    together = max(BLOCK_CELLS // max(shape[0] * shape[1], 1), 1)
    blocks = [names[start : start + together] for start in range(0, len(names), together)]
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as pool:
        ranks = pool.map(lambda block: _rank(_numbers(table.select(block), left_out), cell, shape), blocks)
        return pl.DataFrame(
            [
                pl.Series(f"{name}_rank", values, nan_to_null=True)
                for name, values in zip(names, itertools.chain.from_iterable(ranks), strict=True)
            ]
        )


def _numbers(table: pl.DataFrame, left_out: np.ndarray | None) -> np.ndarray:
    """(columns, rows)."""
    values = table.select(pl.all().cast(pl.Float32).fill_null(np.nan)).to_numpy().T
    return values if left_out is None else np.where(left_out, np.float32(np.nan), values)


def _rank(values: np.ndarray, cell: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centred ranks of columns, (columns, rows).

    A value's bits, made to sort like the number, and its slot share one integer, so one plain sort orders
    both.
    """
    bits = (np.where(np.isnan(values), np.float32(np.nan), values) + np.float32(0)).view(np.uint32)
    ordered_bits = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    grid = np.full((len(values), shape[0] * shape[1]), np.uint64(ABSENT) << np.uint64(32), dtype=np.uint64)
    grid[:, cell] = ordered_bits.astype(np.uint64) << np.uint64(32)
    shape = (len(values) * shape[0], shape[1])
    grid = grid.reshape(shape)
    grid |= np.arange(shape[1], dtype=np.uint64)
    grid.sort(axis=1)
    keys, slots = (grid >> np.uint64(32)).astype(np.uint32), (grid & np.uint64(0xFFFFFFFF)).astype(np.intp)
    present = keys < ABSENT
    ranks = np.broadcast_to(np.arange(shape[1], dtype=np.float64), shape).copy()
    equal = (keys[:, 1:] == keys[:, :-1]) & present[:, 1:]
    tied = np.flatnonzero(equal.any(axis=1))
    ranks[tied] = _shared(equal[tied])
    symbols = present.sum(axis=1, keepdims=True)
    spread = np.where(symbols >= MINIMUM_SYMBOLS, ranks / np.maximum(symbols - 1, 1) - 0.5, 0.0)
    result = np.empty(shape, dtype=np.float32)
    np.put_along_axis(result, slots, np.where(present, spread, np.nan).astype(np.float32), axis=1)
    return result.reshape(len(values), -1)[:, cell]


def _shared(equal: np.ndarray) -> np.ndarray:
    """Mean position of each run of ties; `equal` says for positions 1, 2, ... of a sorted row whether they
    equal the one before.
    """
    rows, width = equal.shape[0], equal.shape[1] + 1
    edge = np.ones((rows, 1), dtype=bool)
    starts, ends = np.concatenate([edge, ~equal], axis=1), np.concatenate([~equal, edge], axis=1)
    positions = np.arange(width)
    first = np.maximum.accumulate(np.where(starts, positions, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, positions, width)[:, ::-1], axis=1)[:, ::-1]
    return (first + last) / 2


def rolling_zscore(values: np.ndarray, window_bars: int) -> np.ndarray:
    """(x - mean) / standard deviation, both of the `window_bars` values before; NaN where half of them are
    unknown or all equal.
    """
    count, centre, squares = known_moments(lagged(values, 1), window_bars, window_bars // 2)
    return _score(values, centre, np.sqrt(squares / np.maximum(count - 1, 1)))


def rolling_minmax(values: np.ndarray, window_bars: int) -> np.ndarray:
    """(x - middle) / range of the `window_bars` values before: -0.5 at their minimum, 0.5 at their maximum,
    beyond both at new extremes.
    """
    low, high = known_range(lagged(values, 1), window_bars, window_bars // 2)
    return _score(values, (low + high) / 2, high - low)


def rolling_robust(values: np.ndarray, window_bars: int) -> np.ndarray:
    """(x - median) / (1.4826 * MAD) of the `window_bars` values before.

    The MAD is that of the window about the window's own median.
    """
    scores = np.full(len(values), np.nan)
    for start in range(window_bars, len(values), CHUNK_ROWS):
        end = min(start + CHUNK_ROWS, len(values))
        past = np.lib.stride_tricks.sliding_window_view(values[start - window_bars : end - 1], window_bars)
        centre = _median(past)
        spread = 1.4826 * _median(np.abs(past - centre[:, None]))
        scores[start:end] = _score(values[start:end], centre, spread)
    return scores


def against_own_past(
    table: pl.DataFrame, names: Sequence[str], method: str, window_bars: int
) -> pl.DataFrame:
    """`<name>_<method>` for each of `names`, Float32.

    Windows keep no state, so several symbols may stand one after another, each in order of time, if the
    caller blanks the first `window_bars` values of each.
    """
    kernel = {"zscore": rolling_zscore, "minmax": rolling_minmax, "robust": rolling_robust}[method]
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as pool:
        scores = pool.map(
            lambda name: kernel(
                table[name].cast(pl.Float64).fill_null(np.nan).to_numpy(), window_bars
            ).astype(np.float32),
            names,
        )
        return pl.DataFrame(
            [
                pl.Series(f"{name}_{method}", values, nan_to_null=True)
                for name, values in zip(names, scores, strict=True)
            ]
        )


def _score(values: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.clip(
            (values - centre) / np.where(spread > FLOAT32_NOISE * np.abs(centre), spread, np.nan),
            -LARGEST_SCORE,
            LARGEST_SCORE,
        )


def _median(windows: np.ndarray) -> np.ndarray:
    """Median of each row without its NaN, NaN where fewer than half of a row are known."""
    ordered = np.sort(windows, axis=1)
    known = np.count_nonzero(~np.isnan(ordered), axis=1)
    below = np.take_along_axis(ordered, np.maximum((known - 1) // 2, 0)[:, None], axis=1)[:, 0]
    above = np.take_along_axis(ordered, np.minimum(known // 2, windows.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.where(known >= windows.shape[1] // 2, (below + above) / 2, np.nan)
