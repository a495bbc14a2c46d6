"""A panel's rows as matrices of bars by symbols, and what reads them up and down in time."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Grid:
    """Where each row of a panel stands:

    `bars` and `symbols` are numbers, shape (rows,), of a matrix of shape (`n_bars`, `n_symbols`).
    """

    bars: np.ndarray
    symbols: np.ndarray
    n_bars: int
    n_symbols: int

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Row values as a matrix, NaN where the panel has no row."""
        matrix = np.full((self.n_bars, self.n_symbols), np.nan)
        matrix[self.bars, self.symbols] = values
        return matrix

    def logs(self, column: pl.Series) -> np.ndarray:
        """Logarithms of a column of prices as a matrix, NaN where there is no price above 0."""
        values = column.cast(pl.Float64).to_numpy()
        valid = np.isfinite(values) & (values > 0)
        return self.matrix(np.log(values, out=np.full(len(values), np.nan), where=valid))

    def rows(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix read at the panel's rows."""
        return matrix[self.bars, self.symbols]


def shifted(matrix: np.ndarray, bars: int, fill: float = np.nan) -> np.ndarray:
    """The value `bars` bars ago (ahead where negative), `fill` beyond the ends; shape as given."""
    moved = np.full(matrix.shape, fill, dtype=np.result_type(matrix, type(fill)))
    if bars >= 0:
        moved[bars:] = matrix[: max(len(matrix) - bars, 0)]
    else:
        moved[:bars] = matrix[-bars:]
    return moved


def trailing_sum(matrix: np.ndarray, bars: int) -> np.ndarray:
    """Sum over the last `bars` bars, fewer at the beginning.

    Built of sums over 1, 2, 4, ... bars, so it adds the window's own values only: what lies before it changes
    no bit.
    """
    block, size, total, covered = matrix, 1, None, 0
    while True:
        if bars & size:
            total = block if total is None else total + shifted(block, covered, 0.0)
            covered += size
        if 2 * size > bars:
            return total
        block, size = block + shifted(block, size, 0.0), 2 * size
