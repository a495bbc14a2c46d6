"""What a fit leaves of itself: what its network attends to, and how well each of its tasks is learned.

Shapes: K columns of some evidence, R regimes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from components.contracts import REGIMES
from components.contracts.documents.experts import TaskRank, Weights
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.predict import Predicted
from components.experts.rows import rank_correlation

NAMES = (*REGIMES, "unknown")


def rows_by_regime(found: Predicted) -> dict[str, int]:
    """Number of rows by name of their regime, for those that occur."""
    return {NAMES[code]: int(found.regime_rows[code]) for code in np.flatnonzero(found.regime_rows)}


def weights(found: Predicted, columns: Mapping[str, Sequence[str]]) -> dict[str, Weights]:
    """Mean of each evidence over all rows, and in each regime that occurs; `columns` names those of each."""
    rows_R = found.regime_rows
    means = {}
    for name, total_RK in found.evidence.items():
        by_regime = {NAMES[code]: (total_RK[code] / rows_R[code]).tolist() for code in np.flatnonzero(rows_R)}
        mean = (total_RK.sum(axis=0) / max(rows_R.sum(), 1)).tolist()
        means[name] = Weights(columns=list(columns[name]), mean=mean, by_regime=by_regime)
    return means


def task_ranks(
    tasks: Sequence[tuple[str, int]], bars: PanelArrays, watched: np.ndarray, found: Predicted
) -> list[TaskRank]:
    """Rank correlation of each task's score with its label over the watched early-stopping rows."""
    days = pl.Series(bars.day_N[watched])
    result = []
    for number, (name, horizon) in enumerate(tasks):
        label = bars.labels_NT[watched, number]
        known = np.isfinite(label)
        value = (
            rank_correlation(days.filter(pl.Series(known)), found.score_NT[known, number], label[known])
            if known.any()
            else None
        )
        result.append(TaskRank(target=name, horizon=horizon, rank_correlation=value))
    return result
