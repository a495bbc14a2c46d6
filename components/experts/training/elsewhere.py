"""Folds of one training in other processes: of this machine, or on Ray. Each reads the tables by their paths,
plans as the driver does, and makes the fit that it is asked for by the fold's name.
"""

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.contracts import ContractError
from components.experts.errors import ExpertError
from components.experts.leaves import is_neural
from components.experts.training.copies import seen_by_nodes
from components.experts.training.folds import FoldWork, fit_into
from components.experts.training.inputs import (
    Assignment,
    Inputs,
    as_arguments,
    from_arguments,
    read_inputs,
)
from components.experts.training.train import Plan, planned
from components.memory.deaths import peak_here
from components.progress import advance as report_progress
from components.progress import pass_on
from components.spread import engines
from components.spread.choice import engine
from components.spread.failures import LostPiece
from components.spread.local import slots
from components.spread.needs import Needs
from components.spread.piece import Piece

FIT_FOLD = "components.experts.training.elsewhere:fit_fold"
# CPU seconds. A process of this machine takes 3 to 6 of them before its first fit: imports, tables, labels.
# Shorter fits are made here, one after the other.
PAYS_FROM_S = 10.0
GIB = 2**30


def fit_fold(arguments: Mapping[str, Any], folder: Path) -> None:
    """Make one fit of a training into an empty folder.

    arguments : those of `as_arguments`, and `fold`, the name of the fit
    """
    require_seen(arguments["inputs"].values())
    common = {name: value for name, value in arguments.items() if name != "fold"}
    make_fit(*_planned(json.dumps(common)), arguments["fold"], folder)


def require_seen(paths: Iterable[str]) -> None:
    """Refuse to fit on a node that does not see what the driver sees."""
    for path in paths:
        if not Path(path).exists():
            raise ContractError(
                f"{path} is not seen from {socket.gethostname()}. Each node of Ray must have the run's folder"
                " at the same path, on a volume that all of them share; or set compute.engine to local."
            )


def make_fit(work: FoldWork, plan: Plan, name: str, folder: Path) -> None:
    """Make the fit of this name into an empty folder."""
    number = [fold.name for fold in plan.every].index(name)

    def advance(share: float, what: str) -> None:
        report_progress(work.stage, share, 1, what)

    fit_into(plan.own(work, number), plan.every[number], folder, advance)


@lru_cache(maxsize=1)
def _planned(common: str) -> tuple[FoldWork, Plan]:
    """What all fits of a training have in common, read once by a process that makes several of them."""
    inputs, assignment, work_folder = from_arguments(json.loads(common))
    tables, _ = read_inputs(inputs)
    return planned(tables, assignment, work_folder, inputs.warm_from, "served")


def elsewhere(inputs: Inputs, assignment: Assignment) -> "FitsElsewhere | None":
    """Who makes the fits of a training side by side: Ray, or processes of this machine; None where these
    would be one after the other anyway, or where the fits are shared among processes already.
    """
    if assignment.leaf.processes > 1:
        return None
    on_ray = engine() == "ray"
    made = FitsElsewhere(inputs, assignment, 0.0 if on_ray else PAYS_FROM_S)
    return made if on_ray or slots(made.needs()) > 1 else None


@dataclass(frozen=True)
class FitsElsewhere:
    """Makes fits of one training by `components.spread.engines.map`; see `train.Elsewhere`."""

    inputs: Inputs
    assignment: Assignment
    pays_from_s: float

    def needs(self) -> Needs:
        return needs_of(self.assignment)

    def fit(self, work: FoldWork, plan: Plan, numbers: Sequence[int]) -> None:
        """Leave these fits of the plan in the work folder, as `finish_fold` would, or leave them to it.

        Raises
        ------
        ExpertError
            If the expert failed, or every process that worked on a fit died.
        """
        needs = self.needs()
        if engine() == "local" and min(slots(needs), len(numbers)) == 1:
            return  # this process, which has the tables already, makes them
        done = {plan.every[number].name: 1.0 for number in range(len(plan.every)) if number not in numbers}

        def hear(piece: Piece, event: dict[str, Any]) -> None:
            if event["event"] != "advanced":
                pass_on(event)
                return
            done[piece.folder.name] = min(max(event["done"], 0.0), 1.0)
            what = f"{piece.folder.name}: {event['what']}"
            report_progress(work.stage, sum(done.values()), len(plan.every), what)

        try:
            with seen_by_nodes(self.inputs, work.folder) as inputs:
                pieces = [self._piece(inputs, work, plan, number) for number in numbers]
                engines.map(FIT_FOLD, pieces, **asdict(needs), hear=hear)
        except LostPiece as error:
            raise ExpertError(f"Expert {self.assignment.leaf.expert}: {error}") from error

    def _piece(self, inputs: Inputs, work: FoldWork, plan: Plan, number: int) -> Piece:
        common, name = as_arguments(inputs, self.assignment, work.folder), plan.every[number].name
        folder = Path(common["work_folder"]) / name
        return Piece(plan.own(work, number).key, folder, {**common, "fold": name})


def needs_of(assignment: Assignment) -> Needs:
    """What one fit needs: the leaf's threads, a GPU where it learns on one, and as much memory as this
    process took so far, which has read the same tables and, where it fitted, made the first fit.
    """
    return Needs(assignment.leaf.threads, int(_on_gpu(assignment)), (peak_here() or 0) / GIB)


def _on_gpu(assignment: Assignment) -> bool:
    if not is_neural(assignment.leaf):
        return False
    import torch

    return torch.cuda.is_available()
