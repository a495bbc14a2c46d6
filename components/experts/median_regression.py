"""Median regression with the penalties of the elastic net: what is learned is the median of the target given
the inputs, on which a wild label pulls no harder than a tame one.

Koenker and Bassett 1978, *Regression Quantiles*. The absolute error has a kink at 0, which is rounded off
over a small share of its size; each step then solves the elastic net of the quadratic that touches that error
from above (Hunter and Lange 2000, *Quantile Regression via an MM Algorithm*), so the loss never rises.

Shapes: N rows, A inputs, K penalties.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.experts.gram import Statistics, linear, penalised, statistics
from components.experts.rows import weighted_median

# Errors below this share of the usual deviation from the median count by their squares.
ROUNDED_SHARE = 0.05
# Steps at each penalty on the way down the path, whose solutions lie close together, and at most at the one
# that is kept.
PATH_STEPS, LAST_STEPS = 2, 40
# A step need not be solved to the last digit: another one follows.
STEP_TOLERANCE = 1e-4
# In usual deviations; a step that moves no coefficient further is the last.
SMALLEST_MOVE = 1e-4


class MedianRegression:
    """The mean over rows of |wanted - score|, by weight, plus the elastic net's penalty of the coefficients
    of standardised inputs.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        columns: Sequence[str],
        wanted: np.ndarray,
        weight: np.ndarray | None,
        l1_ratio: float,
    ):
        self.rows, self.columns, self.wanted, self.l1_ratio = rows, columns, wanted, l1_ratio
        self.weight = np.ones(len(wanted)) if weight is None else weight
        self.middle = weighted_median(wanted, self.weight)
        error = wanted - self.middle
        # The median of the deviations: wild labels have no part in it. It is 0 where most are the same.
        self.usual = weighted_median(np.abs(error), self.weight) or float(np.abs(error).mean())
        self.rounded = ROUNDED_SHARE * self.usual
        # Its moments say how the loss falls with each coefficient where all are 0.
        self.begin: Statistics = statistics(rows, columns, np.sign(error), weight)

    @property
    def largest(self) -> float:
        """The smallest penalty that leaves no coefficient."""
        return float(np.abs(self.begin.moments).max(initial=0.0)) / self.l1_ratio

    def path(self, penalties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [A, K] in the inputs' own units and intercepts [K], nearly solved at each penalty from
        the strongest on.
        """
        size, intercept, found = np.zeros(len(self.columns)), self.middle, []
        steps = PATH_STEPS if self.rounded > 0 and penalties[0] > 0 else 0
        for penalty in penalties:
            for _ in range(steps):
                size, intercept = self._step(size, intercept, penalty)
            found.append((size / self.begin.spread, intercept))
        coefficients, intercepts = zip(*found, strict=True)
        return np.column_stack(coefficients), np.array(intercepts)

    def solved(self, penalty: float, coefficients: np.ndarray, intercept: float) -> tuple[np.ndarray, float]:
        """Coefficients [A] and intercept at one penalty, from nearby ones on."""
        size, steps = coefficients * self.begin.spread, LAST_STEPS if self.rounded > 0 else 0
        for _ in range(steps):
            before = size
            size, intercept = self._step(size, intercept, penalty)
            if np.abs(size - before).max() <= SMALLEST_MOVE * self.usual:
                break
        return size / self.begin.spread, float(intercept)

    def _step(self, size: np.ndarray, intercept: float, penalty: float) -> tuple[np.ndarray, float]:
        """Coefficients of standardised inputs and the intercept at the minimum of the quadratic that touches
        the loss there.
        """
        spread = self.begin.spread
        score = linear(self.rows, self.columns, (size / spread)[:, None])[:, 0] + intercept
        steepness = self.weight / np.maximum(np.abs(self.wanted - score), self.rounded)
        mean = float(steepness.sum() / self.weight.sum())
        found = statistics(self.rows, self.columns, self.wanted, steepness)
        # Weighted rows have other spreads; the penalty stays on those of all rows.
        ratio = found.spread / spread
        gram, moments = found.gram * np.outer(ratio, ratio), found.moments * ratio
        # A copy: the solver writes into what it starts from.
        start = size.copy()
        size = penalised(gram, moments, [penalty / mean], self.l1_ratio, start, STEP_TOLERANCE)[:, 0]
        return size, float(found.target_mean - found.mean @ (size / spread))
