"""How much is learned (the trees of a forest, the penalty of a linear model), chosen on purged folds of the
rows that are learned from.

The newest rows are a single stretch of the market: where it is unlike the rest, early stopping on it ends at
once or never. Here blocks of the train rows are held out in turn, a forest grows on the others, and the mean
of their losses says after how many trees to stop. The early-stopping rows are then left to the bands alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from components.experts.protocol import Advance
from components.experts.rows import Stopper
from components.progress import warn
from components.timeline import bar_index, purged_kfold
from components.timeline.entry import label_reach

RoundsFrom = Annotated[
    Literal["newest_rows", "purged_folds"],
    Field(
        description=(
            "rows that say how many trees are kept. newest_rows: the early-stopping rows; purged_folds: four"
            " blocks of the train rows, each held out in turn, which takes three to five times as long"
        )
    ),
]
FOLDS = 4
# A fold whose purged gaps leave less than this share of the train rows to learn from grows other trees than
# the forest that is wanted.
LEAST_LEARNED = 0.5


@dataclass(frozen=True)
class Part:
    """Numbers of the labelled train rows that a fold learns from, and of those that it is judged by."""

    learned: np.ndarray
    held: np.ndarray


def purged_parts(frame: pl.DataFrame, train: pl.DataFrame, horizon: int) -> list[Part]:
    """`purged_blocks`, with a warning where there are none."""
    parts = purged_blocks(frame, train, horizon)
    if not parts:
        warn(
            "train",
            f"{train['timestamp'].n_unique():,} train bars are too few for purged folds: the number of trees"
            " is chosen on the newest rows of the training window instead. Lengthen timeline.train, or set"
            " rounds_from: newest_rows.",
        )
    return parts


def purged_blocks(frame: pl.DataFrame, train: pl.DataFrame, horizon: int) -> list[Part]:
    """Four blocks of bars, each held out once, with as many bars purged on either side as a label reaches,
    and as many again after the block; none where too few rows would be left to learn from.

    Parameters
    ----------
    frame : what the expert is given to fit; its timestamps are the bars
    train : its labelled `train` rows, sorted by timestamp
    horizon : bars that a label spans
    """
    calendar, _ = bar_index(frame.filter(pl.col("timestamp") <= train["timestamp"].max())["timestamp"])
    bar = calendar.search_sorted(train["timestamp"]).to_numpy()
    bar, count, reach = bar - bar[0], len(calendar) - int(bar[0]), label_reach(horizon)
    if count < FOLDS:
        return []
    parts = []
    for learned, held in purged_kfold(count, n_folds=FOLDS, purge_bars=reach, embargo_bars=reach):
        parts.append(Part(*(np.flatnonzero(np.isin(bar, bars)) for bars in (learned, held))))
    if any(len(part.learned) < LEAST_LEARNED * len(train) or not len(part.held) for part in parts):
        return []
    return parts


def rounds_by_folds(
    growers: Sequence[Callable[[], float]],
    parts: Sequence[Part],
    stopper: Stopper,
    most_rounds: int,
    *,
    monitor: str,
    advance: Advance,
) -> int:
    """Let all folds' forests grow tree by tree until the mean of their losses no longer falls; returns the
    number of trees to keep.

    Parameters
    ----------
    growers : for each of `parts`, what adds one tree to its forest and returns the loss of the held rows
    """
    weight = [len(part.held) for part in parts]
    for _ in range(most_rounds):
        stop = stopper.update(float(np.average([grow() for grow in growers], weights=weight)))
        stopper.report(lambda share, what: advance(share, f"{what} in purged folds"), most_rounds, monitor)
        if stop:
            break
    return stopper.kept_rounds
