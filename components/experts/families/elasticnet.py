"""ElasticNet by coordinate descent on the Gram matrix (`gram.py`), median regression in its place where the
absolute error is to be small, and logistic regression with the same penalty where the target is a class. Mean
and spread of each input come from the train rows only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import atomic_write_text, require_json
from components.contracts.classes import class_values
from components.experts.bands import Bands
from components.experts.classes import ClassHead, class_numbers, fit_head, read_head
from components.experts.gram import LARGEST_INPUT, Statistics, Sums, linear, penalised, statistics, sums
from components.experts.logistic import ClassRows, Logistic, fit_at_penalty, fit_logistic
from components.experts.median_regression import MedianRegression
from components.experts.protocol import Advance, Task
from components.experts.rounds import Part, purged_blocks
from components.experts.rows import Monitor, Refit, labelled, loss, sample_weights, target
from components.scoring.form import ClassLinear, Linear, write_form
from components.settings import Section

PenaltyFrom = Annotated[
    Literal["newest_rows", "purged_folds"],
    Field(
        description=(
            "rows that choose the penalty of a target that is a number. newest_rows: the early-stopping rows;"
            " purged_folds: four blocks of the train rows too, each held out in turn, where they are long"
            " enough"
        )
    ),
]


class Settings(Section):
    """Strength of the penalty, as shares of the smallest one that leaves no coefficient (Friedman, Hastie and
    Tibshirani 2010).
    """

    replaced: ClassVar = {"target_transform": "labels.transform, or transform of a leaf"}

    loss: Literal["squared", "absolute"] = Field(
        "squared",
        description=(
            "what of the errors is to be small: squares, or absolute values, which makes it a median"
            " regression; without effect on a target of classes"
        ),
    )
    l1_ratio: float = Field(
        0.5, gt=0, le=1, description="share of the L1 part in the penalty; the rest is L2"
    )
    largest_penalty: float = Field(
        0.5, gt=0, lt=1, description="strongest penalty tried; below 1, so that a coefficient is left"
    )
    smallest_penalty: float = Field(0.002, gt=0, lt=1, description="weakest penalty tried")
    penalties: int = Field(
        20,
        ge=1,
        description="penalties tried, evenly in the logarithm. 1: the weakest, nothing is chosen",
    )
    penalty_from: PenaltyFrom = "purged_folds"
    refit: Refit = True
    monitor: Monitor = Field(
        "rmse",
        description=(
            "what the penalty is chosen by; rmse is the mean absolute error where loss is absolute; of a"
            " target of classes always average precision"
        ),
    )


@dataclass(frozen=True)
class Lines:
    """Coefficients of the inputs in their own units [A, P] and intercepts [P] of several penalties."""

    coefficients: np.ndarray
    intercepts: np.ndarray


class Expert:
    """A linear score of the inputs; of a target of classes a logit a class, with `coefficients` of shape
    (inputs, classes) and `intercept` (classes,).
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.columns: list[str] = []
        self.coefficients = np.empty(0)
        self.intercept: float | np.ndarray = 0.0
        self.penalty = 0.0
        self.bands: Bands | ClassHead | None = None

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """The whole path of penalties on the train rows; the early-stopping rows choose one, and four blocks
        of the train rows that are left out in turn.

        The optimum is unique, so a warm start changes nothing.
        """
        self.columns, values = list(task.groups), class_values(task.target)
        train, stopping = labelled(frame, "train"), labelled(frame, "early_stopping")
        advance(0.0, f"{len(train):,} rows")
        if values:
            self._fit_classes(train, stopping, values)
        else:
            self._fit_number(frame, train, stopping, task)
        self.bands = fit_head(stopping, self._raw(stopping), task)
        kept = int(np.count_nonzero(self.coefficients.reshape(len(self.columns), -1).any(axis=1)))
        advance(1.0, f"{kept} of {len(self.columns)} inputs kept")

    def learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        """Coefficients anew from all rows, at the penalty that was chosen."""
        if not self.settings.refit or not self.penalty > 0:
            return
        train, values, l1_ratio = labelled(frame, "train"), class_values(task.target), self.settings.l1_ratio
        weight = sample_weights(train)
        if values:
            rows = ClassRows(train, self.columns, class_numbers(train, values), weight)
            self._take(fit_at_penalty(rows, len(values), self.penalty, l1_ratio))
        elif self.settings.loss == "absolute":
            self._solve(self._medians(train, target(train, task.transform), weight))
        else:
            found = statistics(train, self.columns, target(train, task.transform), weight)
            path = penalised(found.gram, found.moments, [self.penalty], l1_ratio)
            self.coefficients = path[:, 0] / found.spread
            self.intercept = float(found.target_mean - found.mean @ self.coefficients)
        advance(1.0, "coefficients from all rows")

    def _fit_number(
        self, frame: pl.DataFrame, train: pl.DataFrame, stopping: pl.DataFrame, task: Task
    ) -> None:
        wanted, weight = target(train, task.transform), sample_weights(train)
        whole = medians = None
        if self.settings.loss == "absolute":
            medians = self._medians(train, wanted, weight)
            penalties = self._shares() * medians.largest
            path = Lines(*medians.path(penalties))
        else:
            whole = sums(train, self.columns, wanted, weight)
            penalties, path = self._path(whole.statistics())
        outputs = linear(stopping, self.columns, path.coefficients) + path.intercepts
        best = 0
        if len(penalties) > 1:
            losses = self._losses(stopping["timestamp"], outputs, target(stopping, task.transform))
            blocks = []
            if self.settings.penalty_from == "purged_folds":
                blocks = purged_blocks(frame, train, task.horizon)
            losses = losses * len(stopping)
            for part in blocks:
                losses += len(part.held) * self._held_losses(part, whole, train, wanted, weight, penalties)
            best = int(np.argmin(losses))
        self.coefficients, self.intercept = path.coefficients[:, best], float(path.intercepts[best])
        self.penalty = float(penalties[best])
        if medians is not None:
            self._solve(medians)

    def _medians(self, rows: pl.DataFrame, wanted: np.ndarray, weight: np.ndarray | None) -> MedianRegression:
        return MedianRegression(rows, self.columns, wanted, weight, self.settings.l1_ratio)

    def _solve(self, medians: MedianRegression) -> None:
        """Go on from the coefficients as they are to those of the chosen penalty."""
        self.coefficients, self.intercept = medians.solved(self.penalty, self.coefficients, self.intercept)

    def _held_losses(
        self,
        part: Part,
        whole: Sums | None,
        train: pl.DataFrame,
        wanted: np.ndarray,
        weight: np.ndarray | None,
        penalties: np.ndarray,
    ) -> np.ndarray:
        """Loss of each penalty in a block that was left out; what was not learned from is one stretch of
        rows. `whole`: the sums over all of them, where the loss is squared.
        """
        if whole is None:
            learned = part.learned
            own = None if weight is None else weight[learned]
            path = Lines(*self._medians(train[learned], wanted[learned], own).path(penalties))
        else:
            beside = np.setdiff1d(np.arange(len(train)), part.learned, assume_unique=True)
            cut = slice(int(beside[0]), int(beside[-1]) + 1)
            left_out = sums(train[cut], self.columns, wanted[cut], None if weight is None else weight[cut])
            _, path = self._path(whole.without(left_out).statistics(), penalties)
        held = train[int(part.held[0]) : int(part.held[-1]) + 1]
        outputs = linear(held, self.columns, path.coefficients) + path.intercepts
        return self._losses(held["timestamp"], outputs, wanted[part.held])

    def _fit_classes(self, train: pl.DataFrame, stopping: pl.DataFrame, values: tuple[int, ...]) -> None:
        found = fit_logistic(
            ClassRows(train, self.columns, class_numbers(train, values), sample_weights(train)),
            ClassRows(stopping, self.columns, class_numbers(stopping, values)),
            len(values),
            self._shares(),
            self.settings.l1_ratio,
        )
        self._take(found)

    def _take(self, found: Logistic) -> None:
        self.coefficients, self.intercept, self.penalty = found.coefficients, found.intercepts, found.penalty

    def _shares(self) -> np.ndarray:
        """The penalties that are tried, as shares of the smallest one that leaves no coefficient."""
        chosen = self.settings
        smallest = min(chosen.smallest_penalty, chosen.largest_penalty)
        if chosen.penalties == 1:
            return np.array([smallest])
        return np.geomspace(chosen.largest_penalty, smallest, chosen.penalties)

    def _path(self, found: Statistics, penalties: np.ndarray | None = None) -> tuple[np.ndarray, Lines]:
        """The penalties that are tried, and what each of them gives."""
        l1_ratio = self.settings.l1_ratio
        if penalties is None:
            largest = float(np.abs(found.moments).max(initial=0.0)) / l1_ratio
            penalties = self._shares() * largest if largest > 0 else np.zeros(1)
        path = np.zeros((len(self.columns), len(penalties)))
        if penalties[0] > 0:
            path = penalised(found.gram, found.moments, penalties, l1_ratio) / found.spread[:, None]
        return penalties, Lines(path, found.target_mean - found.mean @ path)

    def _losses(self, timestamps: pl.Series, outputs: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Of each penalty's outputs, a column each."""
        if self.settings.loss == "absolute" and self.settings.monitor == "rmse":
            return np.abs(outputs - wanted[:, None]).mean(axis=0)
        return np.array([loss(self.settings.monitor, timestamps, output, wanted) for output in outputs.T])

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Calibrated linear scores of the `predict` rows."""
        rows = frame.filter(pl.col("part") == "predict")
        return self.bands.predictions(rows, self._raw(rows))

    def _raw(self, rows: pl.DataFrame) -> np.ndarray:
        if self.coefficients.ndim == 1:
            return linear(rows, self.columns, self.coefficients[:, None])[:, 0] + self.intercept
        return linear(rows, self.columns, self.coefficients) + self.intercept

    def save(self, folder: Path) -> None:
        """Write `elasticnet.json`: the coefficient of each input in its own unit."""
        values = {
            "settings": self.settings.model_dump(mode="json"),
            "coefficients": dict(zip(self.columns, self.coefficients.tolist(), strict=True)),
            "intercept": np.asarray(self.intercept).tolist(),
            "penalty": self.penalty,
            "largest_input": LARGEST_INPUT,
            "bands": self.bands.to_dict(),
        }
        atomic_write_text(folder / "elasticnet.json", json.dumps(values, indent=1))

    def export(self, folder: Path) -> None:
        """Coefficients and intercept."""
        if self.coefficients.ndim == 1:
            raw = Linear(tuple(self.coefficients.tolist()), self.intercept, LARGEST_INPUT)
        else:
            by_class = tuple(map(tuple, self.coefficients.T.tolist()))
            raw = ClassLinear(by_class, tuple(self.intercept.tolist()), LARGEST_INPUT)
        write_form(folder, self.bands.served(self.columns, raw))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `elasticnet.json`."""
        values = require_json(folder / "elasticnet.json")
        expert = cls(Settings.model_validate(values["settings"]))
        expert.columns, expert.coefficients = (
            list(values["coefficients"]),
            np.array(list(values["coefficients"].values())),
        )
        intercept = values["intercept"]
        expert.intercept = np.array(intercept) if isinstance(intercept, list) else intercept
        expert.penalty, expert.bands = values["penalty"], read_head(values["bands"])
        return expert
