"""What experts hand over: how a training ended, what a fitted network attends to, what a composition is made
of, and the table of an ablation.

Shapes: M members, R regimes.
"""

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from components.contracts.documents import Document, Part
from components.contracts.documents.tasks import PredictedTask
from components.contracts.errors import ContractError
from components.contracts.files import read_json

STATUS, EXPLAIN, COMPOSED = "status.json", "explain.json", "composed.json"
# Among the inputs in the stamp of an expert's predictions: the settings of the walk-forward, as a hash.
TIMELINE = "timeline"
# What stands before it in their code version is the code that all experts share, the rest their own.
SHARED_CODE_END = "-"
CROSS_VALIDATED_FILE = "cross_validated.parquet"

Kind = TypeVar("Kind", bound=Document)
Epoch = dict[str, int | float | None]
"""Figures of one epoch by name; None where one is not a number."""


class Fit(Part):
    """One fit of a walk-forward training. The one for serving is called `final` and predicts nothing."""

    fold: str
    train_window: str
    inputs: int
    train_rows: int
    """Train rows with a label of the expert's own task."""
    warm: bool
    """It went on from an earlier model."""
    predicted_rows: int
    seconds: float
    resumed: bool = False
    """It was finished by an earlier call and taken from disk."""


class KeptFit(Document):
    """A finished fold as it lies in the work folder; `key` is a hash over all that its numbers depend on."""

    format: Literal[1] = 1
    key: str
    fit: Fit


class TrainedExpert(Document):
    """Status of an expert that was trained: its task, what it predicted, and its fits in time's order."""

    format: Literal[1] = 1
    expert: str
    status: Literal["trained"] = "trained"
    reason: str = ""
    period: str
    modality: str
    horizon: int
    target: str
    further: tuple[PredictedTask, ...] = ()
    """Tasks that it predicts beside its own."""
    inputs: int
    """Inputs of the served model."""
    rows: int
    """Predictions of validation and test."""
    train_window: str
    predicted: str
    folds: tuple[Fit, ...]
    cross_validation: tuple[Fit, ...] = ()
    """Fits of a cross-validation, one a split; none where there was none."""
    resumed_folds: int
    constant_folds: tuple[str, ...]
    """Folds in which every row got the same score."""
    seconds: float


class FailedExpert(Document):
    """Status of an expert that failed and is left out; `trace_file` holds the whole trace."""

    format: Literal[1] = 1
    expert: str
    status: Literal["failed"] = "failed"
    reason: str
    trace_file: str


ExpertStatus = TrainedExpert | FailedExpert


def read_status(path: str | os.PathLike) -> ExpertStatus:
    """The status in the file `path`; ContractError where it is damaged."""
    state = (read_json(path) or {}).get("status")
    return FailedExpert.read(path) if state == "failed" else TrainedExpert.read(path)


class InputPaths(Document):
    """Where a run's tables lie that an expert learns from, and the panel that they were made of; empty for
    one that the run does not have.
    """

    format: Literal[2] = 2
    panel: str
    training_set: str
    labels: str
    catalog: str
    selection: str = ""
    learnable: str = ""


class Weights(Part):
    """One evidence of a network: a number a column, over all rows and by regime."""

    columns: list[str]
    mean: list[int | float | None]
    by_regime: dict[str, list[int | float | None]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _a_number_a_column(self) -> Self:
        lengths = {len(self.mean), *(len(values) for values in self.by_regime.values())}
        if lengths != {len(self.columns)}:
            raise ValueError(f"{len(self.columns)} columns are named, but there is another number of weights")
        return self


class TaskRank(Part):
    """RankIC of one task on early-stopping rows."""

    target: str
    horizon: int
    rank_correlation: float | None


class Explanation(Document):
    """What a fitted network attends to, by the early-stopping rows, and the course of its fit by phase."""

    format: Literal[1] = 1
    weights: dict[str, Weights]
    rows: dict[str, int] = Field(default_factory=dict)
    """Early-stopping rows by regime."""
    tasks: list[TaskRank] = Field(default_factory=list)
    parameters: int | None = None
    pretraining: list[Epoch] | None = None
    training: list[Epoch] | None = None
    student: list[Epoch] | None = None
    bands: list[Epoch] | None = None


def read_left(kind: type[Kind], path: Path) -> Kind:
    """A document that a fit left in its model folder. An expert of a user's own may leave a file of that name
    in another shape.

    Raises
    ------
    ContractError
        If it is missing, damaged or of another shape: one line that names file and key, not what to do.
    """
    if read_json(path) is None:
        raise ContractError(f"{path.name} is missing or holds no JSON object.")
    try:
        return kind.read(path)
    except ContractError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        first = error.__cause__.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ContractError(f"{path.name}: {place}: {first['msg']}.") from None


class RegimeRows(Part):
    """What a composition has for one regime: labelled train rows, bars that they come from, the kind of model
    that they gave, and its weight in the regime.
    """

    train_rows: int
    train_bars: int
    model: str
    weight: float


class Composition(Document):
    """What an expert made of several is made of.

    `weights_RM` has a row for each regime of REGIMES and a last one for an unknown regime; `spread` says how
    much the members' disagreement counts, `width` by what the band is multiplied. `classes`: the labels that
    the members tell apart, empty where they answer with a number.
    """

    format: Literal[1] = 1
    settings: dict[str, Any]
    ensemble: int
    regimes: dict[str, Any] | None
    columns: tuple[str, ...]
    members: list[str] = Field(min_length=1)
    weights_RM: tuple[tuple[float, ...], ...]
    spread: float
    width: float
    classes: tuple[int, ...] = ()
    regime_rows: dict[str, RegimeRows] = Field(default_factory=dict)


class Figure(Part):
    """A figure over several seeds; `spread` is the sample standard deviation, None for one seed."""

    mean: float | None
    spread: float | None
    by_seed: tuple[float | None, ...]


class Difference(Part):
    """The mean over days of what variants are judged by, less that of the full model, its standard error, and
    its t as a normal deviate; None where the days are too few to know.
    """

    mean: float
    error: float | None
    t: float | None


class ClassVariant(Part):
    """What a variant's probabilities are worth: Brier's score against that of the classes' shares (1: always
    right, 0: no better than the shares), means over the classes of average precision and calibration error.
    """

    brier_skill: Figure
    average_precision: Figure
    calibration_error: Figure


class Variant(Part):
    """A variant of an expert's settings; `difference` is None for the full model itself."""

    name: str
    rank_ic: Figure
    ic: Figure
    icir: Figure
    parameters: int | None
    seconds: float
    difference: Difference | None
    classes: ClassVariant | None = None  # of a target of classes alone


class FailedVariant(Part):
    """A variant whose training failed, and why."""

    name: str
    failed: str


class Ablation(Document):
    """Variants of an expert's settings on the same folds and days. `settings` holds all settings of each;
    `judged_by` is what differences are of.
    """

    format: Literal[1] = 1
    judged_by: Literal["RankIC", "Brier skill"] = "RankIC"
    leaf: str
    window: Literal["validation", "test"]
    first: str
    last: str
    days: int
    target: str
    horizon: int
    seeds: tuple[int, ...]
    settings: dict[str, dict[str, Any]]
    variants: tuple[Variant | FailedVariant, ...]
