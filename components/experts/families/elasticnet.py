"""ElasticNet by coordinate descent on the Gram matrix: a million rows cost one matrix product.

The inputs are cross-sectional ranks in [-0.5, 0.5] or scores by the own past; a missing one becomes 0, the
neutral value of both, and scores are cut off at 5. Mean and spread of each input come from the train rows
only.
"""

import json
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import atomic_write_text, require_json
from components.experts.bands import Bands, fit_bands
from components.experts.protocol import Advance, Task
from components.experts.rows import Monitor, labelled, loss, matrix, sample_weights, target
from components.scoring.form import Linear, write_form
from components.settings import Section

LARGEST_INPUT = 5.0
CHUNK_ROWS = 1 << 16


class Settings(Section):
    """Strength of the penalty, as shares of the smallest one that leaves no coefficient (Friedman, Hastie and
    Tibshirani 2010).
    """

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
    monitor: Monitor = Field("rmse", description="what the early-stopping rows choose by")


class Expert:
    """A linear score of the inputs."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.columns: list[str] = []
        self.coefficients = np.empty(0)
        self.intercept = 0.0
        self.penalty = 0.0
        self.bands: Bands | None = None

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """The whole path of penalties on the train rows, the early-stopping rows choose one.

        The optimum is unique, so a warm start changes nothing.
        """
        self.columns = list(task.groups)
        train, stopping = labelled(frame, "train"), labelled(frame, "early_stopping")
        gram, moments, mean, spread, target_mean = _sufficient_statistics(
            train, self.columns, target(train, task.transform), sample_weights(train)
        )
        advance(0.5, f"{len(train):,} rows")
        penalties, path = self._path(gram, moments)
        path = path / spread[:, None]
        intercepts = target_mean - mean @ path
        outputs = _linear(stopping, self.columns, path) + intercepts
        best = self._best(stopping, outputs, task) if len(penalties) > 1 else 0
        self.coefficients, self.intercept = path[:, best], float(intercepts[best])
        self.penalty = float(penalties[best])
        self.bands = fit_bands(stopping, outputs[:, best], horizon=task.horizon)
        advance(1.0, f"{int(np.count_nonzero(self.coefficients))} of {len(self.columns)} inputs kept")

    def _path(self, gram: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The penalties that are tried, and the coefficients of each, shape (inputs, penalties)."""
        from sklearn.linear_model import enet_path

        chosen = self.settings
        root, response = _square_root(gram, moments)
        largest = float(np.abs(moments).max(initial=0.0)) / chosen.l1_ratio
        if not largest > 0:
            return np.zeros(1), np.zeros((len(self.columns), 1))
        smallest = min(chosen.smallest_penalty, chosen.largest_penalty)
        shares = np.array([smallest])
        if chosen.penalties > 1:
            shares = np.geomspace(chosen.largest_penalty, smallest, chosen.penalties)
        penalties, path, _ = enet_path(
            root,
            response,
            l1_ratio=chosen.l1_ratio,
            alphas=shares * largest,
            precompute=False,
            max_iter=20_000,
            tol=1e-7,
        )
        return penalties, path

    def _best(self, stopping: pl.DataFrame, outputs: np.ndarray, task: Task) -> int:
        """Number of the penalty that the early-stopping rows choose."""
        wanted, timestamps = target(stopping, task.transform), stopping["timestamp"]
        losses = [loss(self.settings.monitor, timestamps, output, wanted) for output in outputs.T]
        return int(np.argmin(losses))

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Calibrated linear scores of the `predict` rows."""
        rows = frame.filter(pl.col("part") == "predict")
        return self.bands.predictions(
            rows, _linear(rows, self.columns, self.coefficients[:, None])[:, 0] + self.intercept
        )

    def save(self, folder: Path) -> None:
        """Write `elasticnet.json`: the coefficient of each input in its own unit."""
        values = {
            "settings": self.settings.model_dump(mode="json"),
            "coefficients": dict(zip(self.columns, self.coefficients.tolist(), strict=True)),
            "intercept": self.intercept,
            "penalty": self.penalty,
            "largest_input": LARGEST_INPUT,
            "bands": self.bands.to_dict(),
        }
        atomic_write_text(folder / "elasticnet.json", json.dumps(values, indent=1))

    def export(self, folder: Path) -> None:
        """Coefficients and intercept."""
        write_form(
            folder,
            self.bands.served(
                self.columns, Linear(tuple(self.coefficients.tolist()), self.intercept, LARGEST_INPUT)
            ),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `elasticnet.json`."""
        values = require_json(folder / "elasticnet.json")
        expert = cls(Settings.model_validate(values["settings"]))
        expert.columns, expert.coefficients = (
            list(values["coefficients"]),
            np.array(list(values["coefficients"].values())),
        )
        expert.intercept, expert.penalty, expert.bands = (
            values["intercept"],
            values["penalty"],
            Bands.from_dict(values["bands"]),
        )
        return expert


def _inputs(rows: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """Float64, shape (rows, columns), no NaN."""
    values = matrix(rows, columns)
    return np.nan_to_num(np.clip(values, -LARGEST_INPUT, LARGEST_INPUT), nan=0.0).astype(np.float64)


def _linear(rows: pl.DataFrame, columns: list[str], coefficients: np.ndarray) -> np.ndarray:
    """Inputs times coefficients of shape (columns, models), in chunks; shape (rows, models)."""
    chunks = [_inputs(chunk, columns) @ coefficients for chunk in rows.iter_slices(CHUNK_ROWS)]
    return np.concatenate(chunks) if chunks else np.empty((0, coefficients.shape[1]))


def _sufficient_statistics(
    rows: pl.DataFrame, columns: list[str], wanted: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Correlation-scale Gram matrix and moments of the standardised inputs, their mean and spread, and the
    target's mean; rows count by `weight`, of mean 1.
    """
    gram, moments, total = (
        np.zeros((len(columns), len(columns))),
        np.zeros(len(columns)),
        np.zeros(len(columns)),
    )
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        values = _inputs(rows[chunk], columns)
        weighted = values if weight is None else values * weight[chunk, None]
        gram += weighted.T @ values
        moments += weighted.T @ wanted[chunk]
        total += weighted.sum(axis=0)
    mean, target_mean = total / len(rows), float(np.average(wanted, weights=weight))
    covariance = gram / len(rows) - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    varies = spread > 1e-6
    spread = np.where(varies, spread, 1.0)
    used = np.outer(varies, varies) / np.outer(spread, spread)
    return (
        covariance * used,
        (moments / len(rows) - mean * target_mean) * varies / spread,
        mean,
        spread,
        target_mean,
    )


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
