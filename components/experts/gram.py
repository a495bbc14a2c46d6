"""Linear models on the Gram matrix of standardised inputs: a million rows cost one matrix product, and a
whole path of penalties next to nothing.

The inputs are cross-sectional ranks in [-0.5, 0.5] or scores by the own past; a missing one becomes 0, the
neutral value of both, and scores are cut off at 5. Shapes: N rows, A inputs, K models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from components.experts.rows import matrix

LARGEST_INPUT = 5.0
CHUNK_ROWS = 1 << 16


@dataclass(frozen=True)
class Statistics:
    """Correlation-scale Gram matrix [A, A] and moments [A] or [A, K] of the standardised inputs with what is
    learned, mean and spread of the inputs [A], and the mean of what is learned, a number or [K].

    An input that does not vary has a row of zeros and the spread 1.
    """

    gram: np.ndarray
    moments: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    target_mean: np.ndarray


@dataclass(frozen=True)
class Sums:
    """Sums over rows, from which statistics are made: those of a part can be taken away from those of all.
    `inputs` [A], `products` [A, A], `wanted` [] or [K], `moments` [A] or [A, K]; `rows` counts by weight.
    """

    inputs: np.ndarray
    products: np.ndarray
    wanted: np.ndarray
    moments: np.ndarray
    rows: float

    def without(self, part: "Sums") -> "Sums":
        """The sums over the other rows."""
        return Sums(*(getattr(self, name.name) - getattr(part, name.name) for name in fields(self)))

    def statistics(self) -> Statistics:
        """On the scale of correlations."""
        mean, target_mean = self.inputs / self.rows, self.wanted / self.rows
        covariance = self.products / self.rows - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        varies = spread > 1e-6
        spread = np.where(varies, spread, 1.0)
        each = (len(mean), *(1 for _ in self.wanted.shape))
        return Statistics(
            covariance * (np.outer(varies, varies) / np.outer(spread, spread)),
            (self.moments / self.rows - mean.reshape(each) * target_mean)
            * varies.reshape(each)
            / spread.reshape(each),
            mean,
            spread,
            target_mean,
        )


def sums(rows: pl.DataFrame, columns: Sequence[str], wanted: np.ndarray, weight: np.ndarray | None) -> Sums:
    """Of rows and what is to be learned of them, [N] or [N, K]."""
    products, inputs = np.zeros((len(columns), len(columns))), np.zeros(len(columns))
    moments = np.zeros((len(columns), *wanted.shape[1:]))
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        values = inputs_of(rows[chunk], columns)
        weighted = values if weight is None else values * weight[chunk, None]
        products += weighted.T @ values
        moments += weighted.T @ wanted[chunk]
        inputs += weighted.sum(axis=0)
    count = len(rows) if weight is None else float(weight.sum())
    total = wanted.sum(axis=0) if weight is None else np.tensordot(weight, wanted, axes=1)
    return Sums(inputs, products, np.asarray(total), moments, count)


def statistics(
    rows: pl.DataFrame, columns: Sequence[str], wanted: np.ndarray, weight: np.ndarray | None
) -> Statistics:
    """Of rows and what is to be learned of them, [N] or [N, K]; rows count by `weight`."""
    return sums(rows, columns, wanted, weight).statistics()


def penalised(
    gram: np.ndarray,
    moments: np.ndarray,
    penalties: Sequence[float],
    l1_ratio: float,
    start: np.ndarray | None = None,
    tolerance: float = 1e-7,
) -> np.ndarray:
    """Coefficients [A, penalties] of the elastic net on inputs with this Gram matrix and these moments; from
    `start` on it is quick where that is near. `tolerance`: of the duality gap, as a share of what the inputs
    could explain at most.
    """
    from sklearn.linear_model import enet_path

    root, response = _square_root(gram, moments)
    return enet_path(
        root,
        response,
        l1_ratio=l1_ratio,
        alphas=penalties,
        precompute=False,
        max_iter=20_000,
        tol=tolerance,
        coef_init=start,
    )[1]


def inputs_of(rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Float64 [N, A], no NaN."""
    values = matrix(rows, columns)
    return np.nan_to_num(np.clip(values, -LARGEST_INPUT, LARGEST_INPUT), nan=0.0).astype(np.float64)


def linear(rows: pl.DataFrame, columns: Sequence[str], coefficients: np.ndarray) -> np.ndarray:
    """Inputs times coefficients of shape [A, K], in chunks; shape [N, K]."""
    chunks = [inputs_of(chunk, columns) @ coefficients for chunk in rows.iter_slices(CHUNK_ROWS)]
    return np.concatenate(chunks) if chunks else np.empty((0, coefficients.shape[1]))


def _square_root(gram: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A square design and response with this Gram matrix and these moments: the same least-squares problem on
    as many rows as there are inputs.
    """
    size = len(gram)
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    roots = np.sqrt(np.where(kept, values, 0.0) * size)
    response = np.divide(vectors.T @ moments * size, roots, out=np.zeros(size), where=kept)
    return np.asfortranarray(roots[:, None] * vectors.T), response
