"""ElasticNet by coordinate descent on the Gram matrix (`gram.py`), and logistic regression with the same
penalty where the target is a class. Mean and spread of each input come from the train rows only.
"""

import json
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import atomic_write_text, require_json
from components.contracts.classes import class_values
from components.experts.bands import Bands
from components.experts.classes import ClassHead, class_numbers, fit_head, read_head
from components.experts.gram import LARGEST_INPUT, linear, penalised, statistics
from components.experts.logistic import ClassRows, fit_logistic
from components.experts.protocol import Advance, Task
from components.experts.rows import Monitor, labelled, loss, sample_weights, target
from components.scoring.form import ClassLinear, Linear, write_form
from components.settings import Section


class Settings(Section):
    """Strength of the penalty, as shares of the smallest one that leaves no coefficient (Friedman, Hastie and
    Tibshirani 2010).
    """

    replaced: ClassVar = {"target_transform": "labels.transform, or transform of a leaf"}

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
        description=(
            "penalties tried, evenly in the logarithm; the early-stopping rows choose. 1: the weakest,"
            " nothing is chosen"
        ),
    )
    monitor: Monitor = Field(
        "rmse",
        description="what the early-stopping rows choose by; of a target of classes always average precision",
    )


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
        """The whole path of penalties on the train rows, the early-stopping rows choose one.

        The optimum is unique, so a warm start changes nothing.
        """
        self.columns, values = list(task.groups), class_values(task.target)
        train, stopping = labelled(frame, "train"), labelled(frame, "early_stopping")
        advance(0.0, f"{len(train):,} rows")
        if values:
            self._fit_classes(train, stopping, values)
        else:
            self._fit_number(train, stopping, task)
        self.bands = fit_head(stopping, self._raw(stopping), task)
        kept = int(np.count_nonzero(self.coefficients.reshape(len(self.columns), -1).any(axis=1)))
        advance(1.0, f"{kept} of {len(self.columns)} inputs kept")

    def _fit_number(self, train: pl.DataFrame, stopping: pl.DataFrame, task: Task) -> None:
        found = statistics(train, self.columns, target(train, task.transform), sample_weights(train))
        penalties, path = self._path(found.gram, found.moments)
        path = path / found.spread[:, None]
        intercepts = float(found.target_mean) - found.mean @ path
        best = (
            self._best(stopping, linear(stopping, self.columns, path) + intercepts, task)
            if len(penalties) > 1
            else 0
        )
        self.coefficients, self.intercept = path[:, best], float(intercepts[best])
        self.penalty = float(penalties[best])

    def _fit_classes(self, train: pl.DataFrame, stopping: pl.DataFrame, values: tuple[int, ...]) -> None:
        found = fit_logistic(
            ClassRows(train, self.columns, class_numbers(train, values), sample_weights(train)),
            ClassRows(stopping, self.columns, class_numbers(stopping, values)),
            len(values),
            self._shares(),
            self.settings.l1_ratio,
        )
        self.coefficients, self.intercept, self.penalty = found.coefficients, found.intercepts, found.penalty

    def _shares(self) -> np.ndarray:
        """The penalties that are tried, as shares of the smallest one that leaves no coefficient."""
        chosen = self.settings
        smallest = min(chosen.smallest_penalty, chosen.largest_penalty)
        if chosen.penalties == 1:
            return np.array([smallest])
        return np.geomspace(chosen.largest_penalty, smallest, chosen.penalties)

    def _path(self, gram: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The penalties that are tried, and the coefficients of each, shape (inputs, penalties)."""
        l1_ratio = self.settings.l1_ratio
        largest = float(np.abs(moments).max(initial=0.0)) / l1_ratio
        if not largest > 0:
            return np.zeros(1), np.zeros((len(self.columns), 1))
        penalties = self._shares() * largest
        return penalties, penalised(gram, moments, penalties, l1_ratio)

    def _best(self, stopping: pl.DataFrame, outputs: np.ndarray, task: Task) -> int:
        """Number of the penalty that the early-stopping rows choose."""
        wanted, timestamps = target(stopping, task.transform), stopping["timestamp"]
        losses = [loss(self.settings.monitor, timestamps, output, wanted) for output in outputs.T]
        return int(np.argmin(losses))

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
