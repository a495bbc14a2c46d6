"""What a training starts from: paths of stamped tables, the tables themselves, and what is to be learned from
them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import polars as pl

from components.contracts import (
    LABELS,
    LEARNABLE,
    TRAINING_SET,
    CatalogEntry,
    ChosenInputs,
    ContractError,
    content_sha256,
    file_sha256,
    map_table,
    read_catalog,
    read_chosen,
    read_stamp,
    read_table,
)
from components.experts.leaves import Leaf
from components.timeline import Settings as TimelineSettings
from components.timeline.periods import is_of_ticks

StrPath = str | PathLike[str]


@dataclass(frozen=True)
class Inputs:
    """Files that an expert learns from; those that may be left out are then None or empty.

    selection : inputs chosen for each fold; all of the leaf's modality without it
    learnable : rows that may be learned from; all without it
    warm_from : folder of a fitted model to go on from
    """

    training_set: StrPath
    labels: StrPath
    catalog: StrPath
    selection: StrPath | None = None
    learnable: StrPath | None = None
    warm_from: StrPath | None = None


@dataclass(frozen=True)
class Assignment:
    """What an expert is to learn: a target over a horizon of bars, in the folds of a timeline, with a seed.

    `horizon` and `target` are given as the run's; those that the leaf names stand in their place. `code` is
    the version of what runs; folds of other code are not taken over.
    """

    leaf: Leaf
    timeline: TimelineSettings
    period: str
    horizon: int
    target: str
    seed: int
    code: str = ""

    def __post_init__(self):
        # Here, so that no door, command or study can train a leaf for another task than its own.
        for name in ("horizon", "target"):
            object.__setattr__(self, name, getattr(self.leaf, name) or getattr(self, name))

    @classmethod
    def parsed(cls, leaf: str, timeline: str, *others: str | int) -> Self:
        """An assignment whose leaf and timeline are JSON; the rest as it is, in its order."""
        return cls(Leaf.model_validate_json(leaf), TimelineSettings.model_validate_json(timeline), *others)


def refuse_other_samples(leaf: Leaf, period: str) -> None:
    """ContractError where bars and samples of order books meet, or samples of two periods."""
    if leaf.period != period and (is_of_ticks(leaf.period) or is_of_ticks(period)):
        raise ContractError(
            f"The leaf of {leaf.expert} is for {leaf.period}, but these rows are of {period}, and none can be"
            f" made from the other. Name the leaf {leaf.expert}/{period}/{leaf.modality}."
        )


def as_arguments(inputs: Inputs, assignment: Assignment, work_folder: Path) -> dict[str, Any]:
    """What another process is told of a training, as JSON takes it; `from_arguments` reads it."""
    leaf, timeline = assignment.leaf.model_dump_json(), assignment.timeline.model_dump_json()
    task = [assignment.period, assignment.horizon, assignment.target, assignment.seed, assignment.code]
    paths = {name: os.path.abspath(place) for name, place in asdict(inputs).items() if place}
    work_folder = os.path.abspath(work_folder)
    return {"inputs": paths, "assignment": [leaf, timeline, *task], "work_folder": work_folder}


def from_arguments(values: Mapping[str, Any]) -> tuple[Inputs, Assignment, Path]:
    """The training that `as_arguments` told of."""
    return Inputs(**values["inputs"]), Assignment.parsed(*values["assignment"]), Path(values["work_folder"])


@dataclass(frozen=True)
class TrainingTables:
    """The tables, of which those that are read from files lie in mapped ones.

    training_set : TRAINING_SET frame; its distinct timestamps are the calendar
    labels : LABELS frame; rows of the assignment's horizon and target are learned from
    catalog : says which columns are inputs and to which group they belong
    chosen : inputs of each fold, chosen on its training window; all of the leaf's modality where left out
    learnable : LEARNABLE frame; rows that it lacks are predicted but not learned from
    known_key : hash of the tables, where the reader knows one
    """

    training_set: pl.DataFrame
    labels: pl.DataFrame
    catalog: Sequence[CatalogEntry]
    chosen: ChosenInputs | None = None
    learnable: pl.DataFrame | None = None
    known_key: str | None = None

    @property
    def key(self) -> str:
        """Hash of all but the chosen inputs, which have a part in the key of each fold."""
        if self.known_key is not None:
            return self.known_key
        learnable = "" if self.learnable is None else content_sha256(self.learnable)
        return (
            f"{content_sha256(self.training_set)} {content_sha256(self.labels)} {self.catalog!r} {learnable}"
        )


def read_inputs(inputs: Inputs) -> tuple[TrainingTables, dict[str, str]]:
    """The tables of verified content, and the content hash of each input by name.

    Raises
    ------
    ContractError
        If a table is damaged, or inputs were chosen, or rows found learnable, on another training set.
    """
    stamp = read_stamp(inputs.training_set)
    origins = {
        **stamp.inputs,
        "training_set": stamp.content_sha256,
        "labels": read_stamp(inputs.labels).content_sha256,
    }
    chosen = read_chosen(inputs.selection) if inputs.selection else None
    if chosen is not None:
        _require_same(inputs.selection, chosen.training_set, stamp.content_sha256)
    learnable = read_stamp(inputs.learnable) if inputs.learnable else None
    if learnable is not None:
        _require_same(inputs.learnable, learnable.inputs.get("training_set", ""), stamp.content_sha256)
    tables = TrainingTables(
        training_set=map_table(inputs.training_set, TRAINING_SET),
        labels=map_table(inputs.labels, LABELS),
        catalog=read_catalog(inputs.catalog),
        chosen=chosen,
        learnable=read_table(inputs.learnable, LEARNABLE) if inputs.learnable else None,
        known_key=(
            f"{origins['training_set']} {origins['labels']} {file_sha256(inputs.catalog)}"
            f" {learnable.content_sha256 if learnable else ''}"
        ),
    )
    return tables, origins


def _require_same(path: StrPath, found: str, training_set: str) -> None:
    if found != training_set:
        raise ContractError(
            f"{path} was made from training set {(found or '(unknown)')[:12]}, this run's is"
            f" {training_set[:12]}. Run its stage again."
        )
