"""A panel's rows as matrices of bars by symbols."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Grid:
    """Where each row of a panel stands:

    `bars` and `symbols` are numbers, shape (rows,), of a matrix of shape (`n_bars`, `n_symbols`). Of the rows
    those that are `asked` get labels; the others are there for what these look at.
    """

    bars: np.ndarray
    symbols: np.ndarray
    n_bars: int
    n_symbols: int
    asked: slice = field(default_factory=lambda: slice(None))

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
        """The matrix read at the rows that are asked."""
        return matrix[self.bars[self.asked], self.symbols[self.asked]]
