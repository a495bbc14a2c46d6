"""What search and ablation share: the tables that an expert learns from, blind to the test window, and how
its out-of-fold predictions are judged by day.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import ContractError, file_sha256, read_stamp, target_labels
from components.contracts.classes import CLASS_COLUMNS, class_places, class_values
from components.experts.leaves import Leaf
from components.experts.training.inputs import Assignment, Inputs, TrainingTables, read_inputs
from components.metrics import class_figures, information_coefficient
from components.timeline import Settings as TimelineSettings
from components.timeline import bar_index, resolve_windows

FEWEST_SYMBOLS = 3


@dataclass(frozen=True)
class StudyInputs:
    """Paths of a run's tables that an expert learns from, and the task that the run sets it.

    Small, so that it can be sent to another process.
    """

    training_set: str
    labels: str
    catalog: str
    timeline: TimelineSettings
    period: str
    horizon: int
    target: str
    seed: int
    code: str
    selection: str = ""
    learnable: str = ""
    panel: str = ""

    def files(self) -> Inputs:
        """The files alone."""
        return Inputs(self.training_set, self.labels, self.catalog, self.selection, self.learnable)

    def assignment(self, leaf: Leaf, seed: int) -> Assignment:
        """What an expert with these settings and seed is to learn."""
        return Assignment(leaf, self.timeline, self.period, self.horizon, self.target, seed, self.code)

    @cached_property
    def data_key(self) -> str:
        """Content hashes of all tables together."""
        learnable = read_stamp(self.learnable).content_sha256 if self.learnable else ""
        chosen = file_sha256(self.selection) if self.selection else ""
        return (
            f"{read_stamp(self.training_set).content_sha256} {read_stamp(self.labels).content_sha256}"
            f" {file_sha256(self.catalog)} {learnable} {chosen}"
        )


@dataclass(frozen=True)
class Tables:
    """What is trained on, and by what it is judged:

    `wanted` are the labels of the task by (timestamp, symbol), of the judged window alone; `classes` what
    these may be, empty for a number.
    """

    given: TrainingTables
    wanted: pl.DataFrame
    classes: tuple[int, ...] = ()

    def quality(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """What predictions are worth at each timestamp, more is better: `timestamp` and `quality`, which is
        RankIC where the target is a number, and Brier skill where it is a class.
        """
        if self.classes:
            return daily_brier_skill(predictions, self.wanted, self.classes)
        return daily_ic(predictions, self.wanted).rename({"ic": "quality"})


def read_tables(inputs: StudyInputs, window: str = "validation") -> Tables:
    """The tables for judging on `window`.

    For `validation`, rows from the test window on keep nothing but their time and symbol, and labels that
    were not known before the test window began are dropped: whatever is done with these tables can't depend
    on the test window. For `test` they are whole, and `wanted` holds that window.

    Raises
    ------
    ContractError
        If a table was made from another training set, or the window has no labelled row.
    """
    given, _ = read_inputs(inputs.files())
    given = replace(given, known_key=inputs.data_key)
    calendar, _ = bar_index(given.training_set["timestamp"])
    windows = resolve_windows(calendar, inputs.timeline)
    if window == "validation":
        training_set, labels = blind(given.training_set, given.labels, calendar[windows.test[0]])
        given = replace(given, training_set=training_set, labels=labels)
    first, end = getattr(windows, window)
    wanted = target_labels(given.labels, inputs.horizon, inputs.target).filter(
        pl.col("label").is_not_null() & pl.col("timestamp").is_between(calendar[first], calendar[end - 1])
    )
    if wanted.is_empty():
        raise ContractError(
            f"No label of the {window} window was known in time, so nothing can be judged there. Lengthen"
            f" timeline.{window}."
        )
    return Tables(given, wanted, class_values(inputs.target))


def measure_of(target: str) -> str:
    """What expert and variants are judged by, in words."""
    return "Brier skill" if class_values(target) else "RankIC"


def blind(
    training_set: pl.DataFrame, labels: pl.DataFrame, test_begins: Any
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables without anything that the test window holds; its rows stay, empty, because the calendar is
    made of them.
    """
    seen = training_set.filter(pl.col("timestamp") < test_begins)
    unseen = training_set.filter(pl.col("timestamp") >= test_begins).select("timestamp", "symbol")
    empty = [
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in training_set.schema.items()
        if name not in unseen.columns
    ]
    known = labels.filter((pl.col("label_end") < test_begins) & (pl.col("timestamp") < test_begins))
    return pl.concat([seen, unseen.with_columns(empty).select(training_set.columns)], rechunk=False), known


def daily_ic(predictions: pl.DataFrame, wanted: pl.DataFrame, *, rank: bool = True) -> pl.DataFrame:
    """Correlation of score and label at each timestamp: `timestamp`, `ic`.

    A timestamp whose scores are all the same counts as 0, because nothing was found there; one with fewer
    than three labels, or labels that are all the same, is left out. So the timestamps depend on the labels
    alone, and experts can be compared on the same ones.
    """
    judged = predictions.select("timestamp", "symbol", "score").join(
        wanted.select("timestamp", "symbol"), on=("timestamp", "symbol"), how="semi"
    )
    measured = information_coefficient(judged, wanted, rank=rank)
    label = (
        wanted.join(judged, on=("timestamp", "symbol"), how="semi")
        .group_by("timestamp")
        .agg(pl.col("label").n_unique().alias("labels"), pl.len().alias("rows"))
    )
    usable = label.filter((pl.col("labels") > 1) & (pl.col("rows") >= FEWEST_SYMBOLS)).select("timestamp")
    return (
        measured.join(usable, on="timestamp", how="semi")
        .select("timestamp", pl.col("ic").fill_null(0.0))
        .sort("timestamp")
    )


def daily_brier_skill(
    predictions: pl.DataFrame, wanted: pl.DataFrame, classes: tuple[int, ...]
) -> pl.DataFrame:
    """1 less the mean of Brier's score (1950, summed over the classes) at each timestamp, by that of one who
    says the judged window's shares of the classes in every row: `timestamp`, `quality`. A proper score: its
    mean is largest for the true probabilities, and bars have a value of their own, so that experts are
    compared in pairs.
    """
    shares = [wanted.select((pl.col("label") == value).mean()).item() for value in classes]
    by_shares = sum(share * (1 - share) for share in shares)
    if by_shares == 0:
        raise ContractError(
            f"All {len(wanted):,} labels of the judged window are of one class, so nothing can be told apart"
            " there. Lengthen the window, or choose another target."
        )
    square = (pl.col("chance") - pl.col("happened").cast(pl.Float64)).pow(2)
    return (
        pl.concat(_by_class(predictions, wanted, classes))
        .group_by("timestamp")
        .agg(quality=1 - square.mean() * len(classes) / by_shares)
        .sort("timestamp")
    )


def class_worth(
    predictions: pl.DataFrame, wanted: pl.DataFrame, classes: tuple[int, ...]
) -> tuple[float, float]:
    """Average precision and calibration error of all judged rows, means over the classes that occur."""
    figures = pl.concat([class_figures(rows) for rows in _by_class(predictions, wanted, classes)])
    return (
        figures["average_precision"].fill_nan(None).mean(),
        figures["calibration_error"].mean(),
    )


def _by_class(
    predictions: pl.DataFrame, wanted: pl.DataFrame, classes: tuple[int, ...]
) -> list[pl.DataFrame]:
    """`timestamp`, `chance` and whether it `happened` of the judged rows, a frame a class."""
    rows = wanted.join(predictions, on=("timestamp", "symbol"), how="inner", maintain_order="left")
    return [
        rows.select("timestamp", chance=pl.col(CLASS_COLUMNS[place]), happened=pl.col("label") == value)
        for place, value in zip(class_places(len(classes)), classes, strict=True)
    ]


def stored_numbers(model: Path) -> int | None:
    """How many numbers the weights of a saved network hold, its buffers included; None where it has none in
    safetensors.
    """
    total, files = 0, sorted(Path(model).rglob("*.safetensors"))
    for path in files:
        with path.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        total += sum(
            int(np.prod(entry["shape"], dtype=np.int64))
            for name, entry in header.items()
            if name != "__metadata__"
        )
    return total if files else None
