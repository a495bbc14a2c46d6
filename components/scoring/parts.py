"""What a bundle says of the parts of its model: inputs, context, where each expert's served form lies; and
that they fit together.
"""

from pathlib import Path
from typing import Any

import numpy as np

from components.contracts import (
    BETA_COLUMN,
    INDUSTRY_COLUMN,
    REGIME_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
    read_json,
    require_json,
)
from components.scoring.expert import ServedExpert
from components.scoring.form import FURTHER, ScoringError, task_folder
from components.scoring.stacker import Stacker
from components.sizing import LIMITED_BY

# Every model takes the first two; the others where an expert or the limits of its book do.
CONTEXT = (REGIME_COLUMN, VOLATILITY_COLUMN, SECTOR_COLUMN, INDUSTRY_COLUMN, BETA_COLUMN)
ALWAYS = 2


def form_folder(expert: Path, task: tuple[str, int]) -> Path:
    """Where the served form of an expert for a task lies: below `further` where it is none that it learned
    first; ScoringError where it is not there.
    """
    further = expert / FURTHER / task_folder(*task)
    if further.exists():
        return further
    manifest = read_json(expert / "manifest.json") or {}
    if list(task) in [[one.get("target"), one.get("horizon")] for one in manifest.get("tasks", ())[1:]]:
        raise ScoringError(
            f"{further} is missing, but {expert.name} learned {task[0]} over {task[1]} bars beside its own"
            " task. Train the model again."
        )
    return expert


def further_tasks(manifest: dict[str, Any], folder: Path, judged: tuple[str, int]) -> list[tuple[str, int]]:
    """The (target, horizon) that a bundle answers beside the judged one; one that names none answers that
    alone.
    """
    told = manifest.get("tasks", [])
    try:
        found = [(one["target"], one["horizon"]) for one in told]
        whole = all(isinstance(target, str) and type(horizon) is int for target, horizon in found)
        whole = whole and len(set(found)) == len(found)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise ScoringError(
            f"{folder}: the manifest's `tasks` are {str(told)[:100]}; expected a target and a horizon each,"
            " and each once. Train the model again."
        )
    return [task for task in found if task != judged]


def columns_of(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inputs in the order that the bundle's feature service has, and the context columns that it gives
    beside.
    """
    path = folder / "features.json"
    values = require_json(path, remedy="Train the model again.", error=ScoringError)
    try:
        return tuple(values["columns"]), tuple(values["context"])
    except (KeyError, TypeError) as error:
        raise ScoringError(
            f"{path} does not say which inputs the model takes ({type(error).__name__}: {error}). Train the"
            " model again."
        ) from error


def require_classes(folder: Path, experts: tuple[ServedExpert, ...], stacker: Stacker) -> None:
    """Refuse experts that answer in other classes than the stack does, but for those that learned another
    task.
    """
    wanted = stacker.head.pool.values if stacker.head.pool else ()
    for expert in experts:
        if expert.classes != wanted and expert.name not in stacker.guests:
            raise ScoringError(
                f"{folder}: expert {expert.name} answers in the classes {list(expert.classes)}, the stack in"
                f" {list(wanted)}. Train the model again."
            )


def context_of(
    folder: Path,
    given: tuple[str, ...],
    experts: tuple[ServedExpert, ...],
    stacker: Stacker,
    manifest: dict[str, Any],
) -> tuple[str, ...]:
    """The context columns that the model takes: regime and volatility, and what its experts, its stack and
    the limits of its book take beside.
    """
    for expert in experts:
        unknown = [name for name in expert.form.context if name not in CONTEXT]
        if unknown:
            raise ScoringError(
                f"{folder}: expert {expert.name} takes the context column {unknown[0]!r}; this version knows"
                f" {list(CONTEXT)}. Train the model again."
            )
    config = manifest.get("config", {})
    limits = config.get("backtest", {}) if isinstance(config, dict) else None
    if not isinstance(limits, dict):
        raise ScoringError(
            f"{folder}: the manifest's `config` is no config ({str(config)[:100]}). Train the model again."
        )
    # Bundles from before books had limits name none.
    of_book = {name for setting, name in LIMITED_BY.items() if limits.get(setting) is not None}
    of_stack = {SECTOR_COLUMN} if stacker.by_sector else set()
    taken = {name for expert in experts for name in expert.form.context} | of_book | of_stack
    wanted = tuple(name for number, name in enumerate(CONTEXT) if number < ALWAYS or name in taken)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise ScoringError(
            f"{folder / 'features.json'} has the context columns {list(given)}, which lack {missing[0]!r}."
            " Train the model again."
        )
    return wanted


def places_of(folder: Path, expert: ServedExpert, columns: tuple[str, ...]) -> np.ndarray | None:
    """Positions of the expert's inputs among the bundle's, None where it takes all of them.

    Both name them in the same order.
    """
    own = expert.form.columns
    if own == columns:
        return None
    number = {name: place for place, name in enumerate(columns)}
    places = np.array([number.get(name, -1) for name in own], dtype=np.intp)
    wrong = np.flatnonzero((places < 0) | (np.diff(places, prepend=-1) <= 0))
    if len(wrong):
        raise ScoringError(
            f"{folder}: expert {expert.name} takes {len(own)} inputs, features.json names {len(columns)}; its"
            f" input number {int(wrong[0]) + 1}, {own[int(wrong[0])]}, is not there or stands in another"
            " order. Train the model again."
        )
    return places


def about(manifest: dict[str, Any], folder: Path, name: str) -> Any:
    if name not in manifest:
        raise ScoringError(f"{folder}: the manifest does not say the {name}. Train the model again.")
    return manifest[name]
