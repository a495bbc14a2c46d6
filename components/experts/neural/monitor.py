"""What early stopping watches: the rows, and a figure of them that is higher where the model is better.

Shapes: N rows, C classes.
"""

import numpy as np
import polars as pl

from components.experts.neural.arrays import PanelArrays
from components.experts.neural.config import Losses, Monitor
from components.experts.neural.predict import Predicted
from components.experts.neural.targets import direction, segments
from components.experts.rows import rank_correlation, target
from components.scoring.moments import TargetTransform


def monitored(
    kind: Monitor, found: Predicted, judged: pl.DataFrame, losses: Losses, transform: TargetTransform
) -> float:
    """The monitor of what was predicted for the rows `judged` with their `timestamp`, `symbol` and `label`,
    learned as `transform` says; higher is better.
    """
    label, score_N = judged["label"].cast(pl.Float64).to_numpy(), found.score_NT[:, 0]
    if kind == "rank_correlation":
        return rank_correlation(judged["timestamp"], score_N, label)
    if kind == "rank_correlation_over_time":
        order = judged["symbol"].arg_sort().to_numpy()
        return rank_correlation(judged["symbol"][order], score_N[order], label[order])
    if kind == "rmse":
        return -float(np.sqrt(np.mean((score_N - target(judged, transform)) ** 2)))
    day_N = segments(judged["timestamp"].rank("dense").to_numpy(), transform)
    return average_precision(found.direction_NC, direction(day_N, label, losses.flat_share))


def average_precision(chances_NC: np.ndarray, class_N: np.ndarray) -> float:
    """Mean over the classes that occur of the average precision of telling one from the others; rows of class
    -1 do not count.
    """
    from sklearn.metrics import average_precision_score

    known = class_N >= 0
    found = [
        average_precision_score(class_N[known] == number, chances_NC[known, number])
        for number in np.unique(class_N[known])
    ]
    return float(np.mean(found))


def some_timestamps(
    bars: PanelArrays, numbers: np.ndarray, rows: pl.DataFrame, most: int, seed: int
) -> tuple[np.ndarray, pl.DataFrame]:
    """Row numbers and rows of seeded whole timestamps, about `most` of them, in their order; all where they
    are no more than that.
    """
    if len(rows) <= most:
        return numbers, rows
    day = bars.day_N[numbers]
    days, count = np.unique(day, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(days))
    kept = days[order][: max(1, int(np.searchsorted(np.cumsum(count[order]), most, side="right")))]
    chosen = np.isin(day, kept)
    return numbers[chosen], rows.filter(pl.Series(chosen))
