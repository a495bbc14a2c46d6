"""Fits of a variant with all its seeds at once, on Ray: each reads the tables of the study by their paths, is
blind to what the study is blind to, and makes the fit that it is asked for by the fold's name.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.studies.judging import StudyInputs, Tables, read_tables
from components.experts.training.elsewhere import make_fit, needs_of, require_seen
from components.experts.training.folds import FoldWork, kept_fit
from components.experts.training.train import Plan, Until, planned
from components.spread import engines
from components.spread.choice import engine
from components.spread.failures import LostPiece
from components.spread.piece import Piece
from components.timeline import Settings as TimelineSettings

FIT_FOLD = "components.experts.studies.elsewhere:fit_fold"
FILES = ("training_set", "labels", "catalog", "selection", "learnable")


def fit_on_ray(
    inputs: StudyInputs, tables: Tables, leaf: Leaf, places: Mapping[int, Path], window: Until
) -> None:
    """Leave the fits of a leaf with each seed in the seed's folder, as `train_expert` would, which then takes
    them from there; where Ray is not the engine, leave them to it.

    Raises
    ------
    ExpertError
        If the expert failed, or every process that worked on a fit died.
    """
    if engine() != "ray":
        return
    study = {one.name: getattr(inputs, one.name) for one in fields(inputs)}
    study |= {name: os.path.abspath(study[name]) for name in FILES if study[name]}
    study["timeline"] = inputs.timeline.model_dump_json()
    common = {"study": study, "window": window, "leaf": leaf.model_dump_json()}
    pieces = []
    for seed, place in places.items():
        work, plan = planned(tables.given, inputs.assignment(leaf, seed), place, None, window)
        own_place = {**common, "seed": seed, "work_folder": os.path.abspath(place)}
        for number, fold in enumerate(plan.every):
            own = plan.own(work, number)
            if kept_fit(own, fold) is None:
                folder = Path(own_place["work_folder"], fold.name)
                pieces.append(Piece(own.key, folder, {**own_place, "fold": fold.name}))
    try:
        engines.map(FIT_FOLD, pieces, **asdict(needs_of(inputs.assignment(leaf, inputs.seed))))
    except LostPiece as error:
        raise ExpertError(f"Expert {leaf.expert}: {error}") from error


def fit_fold(arguments: Mapping[str, Any], folder: Path) -> None:
    """Make one fit of a study into an empty folder; the arguments are those of `fit_on_ray`."""
    study = arguments["study"]
    require_seen([study[name] for name in FILES if study[name]])
    common = {name: value for name, value in arguments.items() if name != "fold"}
    make_fit(*_planned(json.dumps(common)), arguments["fold"], folder)


@lru_cache(maxsize=1)
def _planned(common: str) -> tuple[FoldWork, Plan]:
    """What the fits of one seed have in common."""
    told = json.loads(common)
    inputs, tables = _tables(json.dumps(told["study"]), told["window"])
    assignment = inputs.assignment(Leaf.model_validate_json(told["leaf"]), told["seed"])
    return planned(tables.given, assignment, Path(told["work_folder"]), None, told["window"])


@lru_cache(maxsize=1)
def _tables(study: str, window: Until) -> tuple[StudyInputs, Tables]:
    """The study, and its tables, read once by a process that makes several fits."""
    told = json.loads(study)
    timeline = TimelineSettings.model_validate_json(told.pop("timeline"))
    inputs = StudyInputs(timeline=timeline, **told)
    return inputs, read_tables(inputs, window)
