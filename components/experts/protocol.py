"""What an expert is: a module with a `Settings` section and an `Expert` class of this form, found by the
module's name.

The trainer hands over one frame, sorted by (timestamp, symbol), with the columns
`timestamp, symbol, sector, part, label`, the input columns named in `Task.groups`, and the context columns
`regime_state`, `volatility_20` and, where the training set has them, `sector_code` and `industry_code`.
`also_0`, `also_1`, ... are the labels of `Task.also`, treated like `label`. An optional column `weight` says
how much a train row counts. `part` says what a row is for:

- `history`        features only, for lookback windows; its label is null
- `train`          may be learned from
- `early_stopping` newest labelled rows of the training window: early stopping, bands, head calibration; never
  gradients
- `predict`        wants a prediction; its label is null

The frame ends where the fold's knowledge ends: at fit with the last early-stopping row, at predict with the
last predicted row. Inputs may be null or NaN anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import polars as pl

from components.scoring.moments import TargetTransform

PREDICTION_COLUMNS = (
    "timestamp",
    "symbol",
    "score",
    "uncertainty",
    "p10",
    "p50",
    "p90",
    "head_scale",
    "head_bias",
)

# Called with the share of the fit that is done, in [0, 1], and what the present step is ("epoch 3, loss
# 0.41").
Advance = Callable[[float, str], None]


def within(advance: Advance, name: str, done: int, total: int) -> Advance:
    """What a part of a fit is told its progress by: the part's `name`, `done` of `total` before it."""
    return lambda share, what: advance((done + min(max(share, 0.0), 1.0)) / total, f"{name}: {what}")


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    `groups` maps each input column, in the order of the model's inputs, to its factor group.

    `also` are further (target, horizon) that an expert of several heads learns and predicts beside. In
    `checkpoints` an expert may keep what it needs to go on after a kill, marked with `key`; the trainer
    clears the folder when the fit is done. `transform` says what of the target is learned in the
    cross-section of its bar (`learned_target` of components/scoring/moments.py); predictions are in the
    target's own unit all the same. `tracking` is the address of an MLflow server for the steps of a fit,
    empty for none; `name` is what the fit is called there.
    """

    period: str
    horizon: int
    target: str
    groups: Mapping[str, str]
    seed: int
    threads: int = 2
    also: tuple[tuple[str, int], ...] = ()
    checkpoints: Path | None = None
    key: str = ""
    tracking: str = ""
    name: str = ""
    transform: TargetTransform = "zscore"


class Expert(Protocol):
    """One model family. Built as `Expert(settings)`; equal seeds and frames give equal numbers."""

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """Learn from the `train` rows. `warm_start` is a fitted expert of the same kind to go on from."""

    def learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        """After `fit`: learn anew with what its early-stopping rows chose, from these rows too; in the frame
        they are `train` rows. Head and bands stay those of `fit`, which nothing was learned from.

        May be left out: such an expert never learns from its newest rows.
        """

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """PREDICTION_COLUMNS for the `predict` rows, in their order, Float64, no nulls; p10 <= p50 <= p90.

        Where the task's target is a class (`components/contracts/classes.py`) CLASS_COLUMNS too, which sum to
        1; the score is then the expected label, the order that combiners and backtest use.
        """

    def predict_tasks(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """What `predict` gives, and a table like it for each task of `Task.also`, in their order; asked where
        there are such and all are numbers.

        May be left out: of such an expert a model is fitted for each further task
        (components/experts/model_each.py).
        """

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs, in formats that cannot execute code, into an existing empty
        folder.
        """

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The expert as saved: same predictions, bit for bit on the same machine."""

    def export(self, folder: Path) -> None:
        """Write the served form into the folder that `save` wrote (components/scoring/form.py): what answers
        requests without this module.

        May be left out: such an expert is trained and judged like any other, but a stack that gives it weight
        can't be served.
        """
