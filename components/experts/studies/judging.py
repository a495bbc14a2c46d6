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
from components.experts.leaves import Leaf
from components.experts.training.inputs import Assignment, Inputs, TrainingTables, read_inputs
from components.metrics import information_coefficient
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

    `wanted` are the labels of the task by (timestamp, symbol), of
    the judged window alone.
    """

    given: TrainingTables
    wanted: pl.DataFrame


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
    return Tables(given, wanted)


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
