"""Targets of classes: which class a label is, the temperature that makes a classifier's probabilities honest,
and what early stopping watches.

Shapes: B rows, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from components.contracts.classes import CLASS_COLUMNS, class_values, in_class_columns
from components.experts.bands import P10_TO_P90, Bands, fit_bands
from components.experts.errors import ExpertError
from components.experts.protocol import PREDICTION_COLUMNS, Task
from components.experts.rows import Monitor, loss, target
from components.metrics import average_precision
from components.scoring.classes import class_answer, probabilities
from components.scoring.form import ClassLinear, Form, Unit
from components.scoring.temperature import fit_temperature


@dataclass(frozen=True)
class ClassHead:
    """What makes predictions of a classifier's logits; `values` are the labels of its classes, rising."""

    values: tuple[int, ...]
    temperature: float

    def to_dict(self) -> dict[str, Any]:
        """The numbers as they go into JSON."""
        return asdict(self)

    def served(self, columns: Sequence[str], raw: tuple[float, ...] | ClassLinear | None) -> Form:
        """The served form of a classifier that looks at single rows: `raw` as in `Form`."""
        return Form(
            "row",
            tuple(columns),
            0,
            raw,
            1.0,
            0.0,
            Unit(1.0, 1.0),
            0.0,
            1.0,
            P10_TO_P90,
            classes=self.values,
            temperature=self.temperature,
        )

    def predictions(self, rows: pl.DataFrame, raw: np.ndarray) -> pl.DataFrame:
        """PREDICTION_COLUMNS and CLASS_COLUMNS of `rows` for their logits [B, C]."""
        return class_predictions(rows, probabilities(raw, self.temperature), self.values)


def class_predictions(rows: pl.DataFrame, chance_BC: np.ndarray, values: Sequence[int]) -> pl.DataFrame:
    """PREDICTION_COLUMNS and CLASS_COLUMNS of `rows` for the probabilities of their classes."""
    columns = {
        **vars(class_answer(chance_BC, values)),
        "head_scale": np.ones(len(rows)),
        "head_bias": np.zeros(len(rows)),
        **dict(zip(CLASS_COLUMNS, in_class_columns(chance_BC).T, strict=True)),
    }
    return (
        rows.select("timestamp", "symbol")
        .with_columns(pl.Series(name, value, dtype=pl.Float64) for name, value in columns.items())
        .select(*PREDICTION_COLUMNS, *CLASS_COLUMNS)
    )


def fit_head(rows: pl.DataFrame, raw: np.ndarray, task: Task) -> Bands | ClassHead:
    """What makes predictions of an expert's raw output, fitted on the early-stopping rows: a head with a band
    for a number, a temperature for classes.

    Parameters
    ----------
    rows : columns `timestamp, symbol, label, volatility_20`
    raw : the model's output for them, shape (rows,); for classes their logits, shape (rows, classes)

    Raises
    ------
    ExpertError
        If a label is no class, or the raw output is not finite.
    """
    values = class_values(task.target)
    if not values:
        return fit_bands(rows, raw, horizon=task.horizon)
    strange = ~np.isfinite(raw).all(axis=1)
    if strange.any():
        raise ExpertError(
            f"the logits of {int(strange.sum()):,} of {len(rows):,} early-stopping rows are not finite."
        )
    bar_B = rows["timestamp"].rle_id().to_numpy()
    return ClassHead(values, fit_temperature(raw, class_numbers(rows, values), bar_B, task.horizon))


def read_head(values: Mapping[str, Any]) -> Bands | ClassHead:
    """The inverse of `to_dict` of either head."""
    if "temperature" in values:
        return ClassHead(tuple(values["values"]), float(values["temperature"]))
    return Bands.from_dict(values)


def class_numbers(rows: pl.DataFrame, values: Sequence[int]) -> np.ndarray:
    """Which class, from 0 on, the label of each row is, int64.

    Raises
    ------
    ExpertError
        If a label is none of `values`.
    """
    label = rows["label"].cast(pl.Float64).to_numpy()
    number = np.clip(np.searchsorted(np.asarray(values, dtype=np.float64), label), 0, len(values) - 1)
    strange = np.asarray(values)[number] != label
    if strange.any():
        raise ExpertError(
            f"{int(strange.sum()):,} of {len(label):,} labels are no class, first {label[strange][0]:g}. A"
            f" target of classes has the labels {', '.join(map(str, values))}; choose a target that is a"
            " number, or mend the labels."
        )
    return number.astype(np.int64)


def learned_labels(rows: pl.DataFrame, task: Task) -> np.ndarray:
    """What a forest learns of labelled rows: the number of their class, or the transformed label."""
    values = class_values(task.target)
    return class_numbers(rows, values) if values else target(rows, task.transform)


def monitor_of(task: Task, chosen: Monitor) -> str:
    """What early stopping watches: one monitor for all classifiers, the chosen one for a number."""
    return "average_precision" if class_values(task.target) else chosen


def watched_loss(
    task: Task, chosen: Monitor, timestamps: pl.Series, output: np.ndarray, label: np.ndarray
) -> float:
    """The one number that early stopping watches, smaller is better; of classes `output` are probabilities
    [B, C], or these row by row in one array.
    """
    if class_values(task.target):
        return precision_loss(np.reshape(output, (len(label), -1)), label.astype(np.int64))
    return loss(chosen, timestamps, output, label)


def class_frequencies(number_B: np.ndarray, classes: int, weight_B: np.ndarray | None) -> np.ndarray:
    """Share of each class among rows [C], each class as if it had been seen half a time more (Krichevsky and
    Trofimov 1981), so that none is impossible.
    """
    counts_C = np.bincount(number_B, weights=weight_B, minlength=classes) + 0.5
    return counts_C / counts_C.sum()


def precision_loss(chance_BC: np.ndarray, number_B: np.ndarray) -> float:
    """The one number that early stopping watches where classes are learned, smaller is better: minus the
    mean, over the classes that occur, of the average precision of telling one from the others.
    """
    found = [
        average_precision(chance_BC[:, number], number_B == number) for number in np.unique(number_B).tolist()
    ]
    return -float(np.mean(found))


def can_go_on(head: Bands | ClassHead, task: Task) -> bool:
    """Whether an expert with this head learned the same classes as the task has, or a number as it does."""
    return (head.values if isinstance(head, ClassHead) else ()) == class_values(task.target)
