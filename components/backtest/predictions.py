"""The models' predictions, split by task and model and checked to be comparable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    CROSS_VALIDATED,
    ContractError,
    check_table,
    map_table,
    mapped_rows,
    of_task,
    read_stamp,
    tasks_in,
)
from components.contracts.classes import CLASS_COLUMNS

MEASURED_COLUMNS = ("timestamp", "symbol", "period", "target", "score", "uncertainty", "p10", "p50", "p90")


@dataclass(frozen=True, order=True)
class Task:
    """What is predicted: a label column, over so many bars."""

    target: str
    horizon: int


@dataclass(frozen=True)
class Predicted:
    """MEASURED_COLUMNS, and ALL_PREDICTIONS.optional where they are there, of each model by name: of the task
    that the run is judged by, and of those that are predicted beside it.
    """

    judged: Mapping[str, pl.DataFrame]
    further: Mapping[Task, Mapping[str, pl.DataFrame]]


def split_predictions(predictions: pl.DataFrame, judged: Task, *, source: str) -> Predicted:
    """The models of an ALL_PREDICTIONS table, in which they stand beneath each other.

    Raises
    ------
    ContractError
        If the table is not ALL_PREDICTIONS, holds several periods, or nothing of the judged task.
    """
    table = check_table(predictions, ALL_PREDICTIONS, source=source)
    periods = table["period"].unique().sort().to_list()
    if len(periods) > 1:
        raise ContractError(
            f"{source}: several values of 'period' ({', '.join(periods)}). Experts that are compared must"
            " have the same; train them again."
        )
    # Where there is one task this copies nothing.
    by_task = {Task(*task): of_task(table, *task) for task in tasks_in(table)}
    if judged not in by_task:
        found = ", ".join(f"{task.target} over {task.horizon}" for task in sorted(by_task))
        raise ContractError(
            f"{source}: no rows of {judged.target} over {judged.horizon} bars (found: {found or 'no rows'})."
            " Predict that, or change labels.target and labels.primary_horizon."
        )
    further = {task: _by_model(rows) for task, rows in sorted(by_task.items()) if task != judged}
    return Predicted(_by_model(by_task[judged]), further)


def _by_model(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """By name. Probabilities of classes that stand in the table for other tasks are no columns here."""
    given = [name for name in ALL_PREDICTIONS.optional if name in rows.columns]
    empty = {name for name in CLASS_COLUMNS if name in given and rows[name].null_count() == len(rows)}
    kept = rows.select("expert", *MEASURED_COLUMNS, *(name for name in given if name not in empty))
    names = kept["expert"].unique().sort()
    return {name: mapped_rows(kept, pl.col("expert") == name).drop("expert") for name in names}


def read_predictions(path: Path, labels: Path, judged: Task) -> Predicted:
    """`split_predictions` of a stamped ALL_PREDICTIONS file that was made from the labels at `labels`.

    Raises
    ------
    ContractError
        If the file can't be read or was made from other labels, or see `split_predictions`.
    """
    table = map_table(path, ALL_PREDICTIONS)
    _require_these_labels(path, labels)
    return split_predictions(table, judged, source=str(path))


def read_crossed(path: Path, labels: Path) -> pl.DataFrame:
    """The stamped CROSS_VALIDATED table of a file that was made from the labels at `labels`.

    Raises
    ------
    ContractError
        If the file can't be read or was made from other labels.
    """
    _require_these_labels(path, labels)
    return map_table(path, CROSS_VALIDATED)


def _require_these_labels(path: Path, labels: Path) -> None:
    made_from, given = read_stamp(path).inputs.get("labels", ""), read_stamp(labels).content_sha256
    if made_from != given:
        raise ContractError(
            f"{path} was made from labels {made_from[:12] or '(unknown)'}, but {labels} holds {given[:12]}."
            " Run the stages from the experts on again on one data set."
        )
