"""Further windows of the factor table: those that sort their values, and the mean absolute deviation.

Like all windows of `kernels`, each is computed from its own values alone.
"""

import numpy as np
import polars as pl

from components.features import kernels as k
from components.features.folding import State, in_blocks


def mean_absolute_deviation(x: pl.Expr, bars: int) -> pl.Expr:
    """Mean distance of the last `bars` values to their mean."""

    def of_block(block: State) -> State:
        rows = len(block[0]) - bars + 1
        centre = np.zeros(rows)
        for j in range(bars):
            centre += block[0][j : j + rows]
        centre /= bars
        distance = np.zeros(rows)
        for j in range(bars):
            distance += np.abs(block[0][j : j + rows] - centre)
        return (distance / bars,)

    return k.window("mean_absolute_deviation", [x], bars, lambda values: in_blocks(values, of_block, bars)[0])


def bars_since_newest_highest(x: pl.Expr, bars: int) -> pl.Expr:
    """How many bars ago the highest of the last `bars` values was, 0 to bars - 1; the newest of equal ones
    counts (as TA-Lib's AROON does).
    """

    def of_block(block: State) -> State:
        rows = len(block[0]) - bars + 1
        top, since = block[0][bars - 1 :].copy(), np.zeros(rows)
        for back in range(1, bars):
            past = block[0][bars - 1 - back : bars - 1 - back + rows]
            since = np.where(past > top, float(back), since)
            top = np.maximum(top, past)
        return (np.where(np.isnan(top), np.nan, since),)

    return k.window(
        "bars_since_newest_highest", [x], bars, lambda values: in_blocks(values, of_block, bars)[0]
    )


def mean_of_lowest(x: pl.Expr, bars: int, count: int) -> pl.Expr:
    """Mean of the `count` lowest of the last `bars` values: the expected shortfall of their lower tail."""

    def of_block(block: State) -> State:
        lowest, known = _lowest_values(block[0], bars, count)
        return (np.where(known, lowest.mean(axis=1), np.nan),)

    return k.window("mean_of_lowest", [x], bars, lambda values: in_blocks(values, of_block, bars)[0], count)


def hill(x: pl.Expr, bars: int, count: int) -> pl.Expr:
    """Hill's estimator of the inverse tail index: mean log of the `count` highest of the last `bars` values
    over the next one; null where that isn't positive.
    """

    def of_block(block: State) -> State:
        lowest, known = _lowest_values(-block[0], bars, count + 1)
        threshold = np.where(known & (lowest[:, -1] < 0), lowest[:, -1], np.nan)
        return (np.log(lowest[:, :-1] / threshold[:, None]).mean(axis=1),)

    return k.window("hill", [x], bars, lambda values: in_blocks(values, of_block, bars)[0], count)


def _lowest_values(x: np.ndarray, bars: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    # Numba takes a while to import.
    from components.features.order_kernel import lowest_values

    return lowest_values(x, bars, count)
