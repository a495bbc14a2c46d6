"""What there is to learn: targets from the labels of the training rows.

Shapes: N rows, T tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from components.experts.errors import ExpertError
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.class_targets import heads_classes
from components.experts.neural.config import Losses, Regularisation
from components.experts.neural.regularise import smooth_targets
from components.experts.rows import FEWEST_SYMBOLS, target
from components.scoring.moments import TargetTransform

# Targets of the quantiles, in units of volatility, are cut off here.
QUANTILE_CLIP = 6.0


@dataclass(frozen=True)
class Targets:
    """What there is to learn about every row of the bars.

    score_NT : float32, label as the task's transform says, smoothed where asked; NaN where unlabelled
    quantile_NT : float32, label / (volatility * sqrt(horizon)), cut off at 6; NaN where unlabelled
    direction_N : int64, class of the first task's label: 0 down, 1 flat, 2 up; -1 where unlabelled, or where
        the timestamp has fewer than 3 labels that are numbers
    weight_N : float32, 0 beyond the given rows and where no task has a label
    volatile_N : bool, volatility above the quantile that the settings say
    regime_N : index into REGIMES, -1 unknown
    day_N : number of the timestamp
    teacher_N : float32 or None, the teacher's scores; NaN where it has none
    """

    score_NT: np.ndarray
    quantile_NT: np.ndarray
    direction_N: np.ndarray
    weight_N: np.ndarray
    volatile_N: np.ndarray
    regime_N: np.ndarray
    day_N: np.ndarray
    teacher_N: np.ndarray | None = None


def make_targets(
    bars: PanelArrays,
    rows: np.ndarray,
    losses: Losses,
    regularisation: Regularisation,
    horizons: Sequence[int],
    transform: TargetTransform = "zscore",
    classes: tuple[int, ...] = (),
) -> Targets:
    """Targets of the labelled ones among `rows`, by the mean, spread and order of their own labels within
    each timestamp; all other rows have none.

    Parameters
    ----------
    rows : numbers of the training rows, labelled or not
    horizons : bars that each task's label spans, the first task's first
    transform : what of the label the score learns at its timestamp; quantiles learn the label itself
    classes : the labels that the first task may have where its target is a class; empty for a number

    Raises
    ------
    ExpertError
        If the bars' labels are not as many as `horizons`, or a weight is negative or not a number.
    """
    _refuse_unusable(bars, rows, horizons)
    count = len(bars.labels_NT)
    rows = rows[np.argsort(bars.day_N[rows], kind="stable")]
    score_NT, quantile_NT = _scores_and_quantiles(bars, rows, horizons, transform)
    known = rows[np.isfinite(bars.labels_NT[rows, 0])]
    direction_N, border = np.full(count, -1, dtype=np.int64), math.inf
    if len(known):
        label_N = bars.labels_NT[known, 0]
        direction_N[known] = (
            heads_classes(label_N, classes)
            if classes
            else direction(segments(bars.day_N[known], transform), label_N, losses.flat_share)
        )
        border = np.quantile(bars.volatility_N[known], regularisation.volatile_quantile)
    weight_N = np.zeros(count, dtype=np.float32)
    weight_N[rows] = np.where(np.isfinite(bars.labels_NT[rows]).any(axis=1), bars.weight_N[rows], 0.0)
    smoothed = smooth_targets(
        torch.from_numpy(score_NT),
        torch.from_numpy(np.unique(segments(bars.day_N, transform), return_inverse=True)[1]),
        regularisation.label_smoothing,
    )
    return Targets(
        smoothed.numpy(),
        quantile_NT,
        direction_N,
        weight_N,
        bars.volatility_N > border,
        bars.regime_N,
        bars.day_N,
    )


def _scores_and_quantiles(
    bars: PanelArrays, rows: np.ndarray, horizons: Sequence[int], transform: TargetTransform
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of each task as `transform` says, and in units of volatility; `rows` sorted by day."""
    score_NT, quantile_NT = (np.full(bars.labels_NT.shape, np.nan, dtype=np.float32) for _ in range(2))
    for task, horizon in enumerate(horizons):
        known = rows[np.isfinite(bars.labels_NT[rows, task])]
        label = bars.labels_NT[known, task]
        learned = pl.DataFrame({"timestamp": bars.day_N[known], "label": label})
        score_NT[known, task] = target(learned, transform)
        quantile_NT[known, task] = np.clip(
            label / (bars.volatility_N[known] * math.sqrt(horizon)), -QUANTILE_CLIP, QUANTILE_CLIP
        )
    return score_NT, quantile_NT


def _refuse_unusable(bars: PanelArrays, rows: np.ndarray, horizons: Sequence[int]) -> None:
    """ExpertError where labels and horizons differ in number, or a weight is negative or not a number."""
    tasks = bars.labels_NT.shape[1]
    if tasks != len(horizons):
        raise ExpertError(
            f"the training frame has labels of {tasks} tasks, but there are {len(horizons)} horizons. The"
            " columns also_0, also_1, ... must be as many as the leaf's `also`."
        )
    weight = bars.weight_N[rows]
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        wrong = int((~(weight >= 0) | np.isinf(weight)).sum())
        raise ExpertError(
            f"column weight: {wrong:,} of {len(rows):,} train rows have a weight that is negative or not"
            " finite. Give every row a weight of 0 or more."
        )


def segments(day_N: np.ndarray, transform: TargetTransform) -> np.ndarray:
    """Numbers of the groups of rows among which a label is high or low: timestamps, or all rows together
    where the label is not learned as its place in a cross-section.
    """
    return np.zeros_like(day_N) if transform == "scaled" else day_N


def direction(day_N: np.ndarray, label_N: np.ndarray, flat_share: float) -> np.ndarray:
    """Classes by the label's rank within its timestamp: the middle `flat_share` is flat (1), below it down
    (0), above it up (2).

    With u = (rank - 1/2) / rows of the timestamp, ties sharing their mean rank, flat is (1 - flat_share) / 2
    < u <= (1 + flat_share) / 2. A timestamp of fewer than 3 rows has no classes (-1).
    """
    rows = pl.DataFrame({"day": day_N, "label": label_N})
    place, count = (
        rows.select(
            ((pl.col("label").rank() - 0.5) / pl.len()).over("day"), pl.len().over("day").alias("count")
        )
        .to_numpy()
        .T
    )
    found = (place > (1 - flat_share) / 2).astype(np.int64) + (place > (1 + flat_share) / 2).astype(np.int64)
    return np.where(count >= FEWEST_SYMBOLS, found, -1)
