"""One fold of a training: taken from disk where it is finished, else fitted, saved and predicted
into a folder that appears as a whole.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from components.contracts import (
    PREDICTIONS,
    AlphaloopError,
    ChosenInputs,
    ContractError,
    OutputError,
    read_table,
    verify_bundle,
    write_manifest,
    write_table,
)
from components.contracts.classes import CLASS_COLUMNS, class_values
from components.contracts.documents.experts import Fit, KeptFit
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import Leaf
from components.experts.model_each import expert_of, load_warm
from components.experts.neural.distributed import agreed, is_main, shared_path
from components.experts.protocol import Advance, Expert, Task
from components.experts.rows import all_to_learn
from components.experts.training.check import check_predictions
from components.experts.training.frames import (
    CONTEXT_COLUMNS,
    LabelledRows,
    fit_frame,
    known_bar,
    predict_frames,
)
from components.progress import advance as report_progress
from components.progress import report
from components.settings import config_hash
from components.timeline import Fold
from components.timeline.periods import is_of_ticks

RESULT, PREDICTED = "result.json", "predictions.parquet"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class FoldWork:
    """All that the folds of one training have in common.

    `key` is a hash over all that their numbers depend on.
    """

    table: LabelledRows
    module: ModuleType
    leaf: Leaf
    task: Task
    folder: Path
    key: str
    code: str
    warm_from: Path | None
    chosen: ChosenInputs | None

    @property
    def stage(self) -> str:
        """The training's name in the terminal."""
        return f"train {self.leaf.expert}"

    @property
    def tasks(self) -> tuple[tuple[str, int], ...]:
        """The (target, horizon) that are predicted, the expert's own first."""
        return ((self.task.target, self.task.horizon), *self.task.also)


def of_fold(work: FoldWork, fold: Fold) -> FoldWork:
    """The work with the inputs that are chosen for this fold alone, in the order of the catalog.

    Raises
    ------
    ContractError
        If the selection chose no input for the fold, or one that is not among the expert's.
    """
    if work.chosen is None:
        return work
    names = work.chosen.of(fold.name)
    unknown = [name for name in names if name not in work.task.groups]
    if unknown or not names:
        found = (
            f"the input {unknown[0]!r}, which is not among the {len(work.task.groups)} of"
            f" {work.leaf.expert}'s modality"
            if unknown
            else "no input at all"
        )
        raise ContractError(
            f"The selection chose for {fold.name} {found}. Run selection again on this run's factors."
        )
    whole = getattr(work.module.Expert, "whole_groups", ())
    groups = {name: group for name, group in work.task.groups.items() if name in set(names) or group in whole}
    left_out = [name for name in work.task.groups if name not in groups and name not in CONTEXT_COLUMNS]
    return replace(
        work,
        table=work.table.without(left_out),
        task=replace(work.task, groups=groups),
        key=hashlib.sha256(json.dumps([work.key, list(groups)]).encode()).hexdigest(),
    )


def finish_fold(work: FoldWork, fold: Fold, number: int, total: int, *, made_now: bool = False) -> Fit:
    """The fold's fit, from disk where it is finished already; `made_now`: for this call, elsewhere."""
    folder = work.folder / fold.name
    kept = kept_fit(work, fold)
    if agreed(float(kept is not None)):
        how = "done" if made_now else "kept from before"
        report_progress(work.stage, number + 1, total, f"{fold.name}: {how}")
        return kept.model_copy(update={"resumed": not made_now})

    def advance(share: float, what: str) -> None:
        report_progress(work.stage, number + min(max(share, 0.0), 1.0), total, f"{fold.name}: {what}")

    with shared_path(folder) as temporary:
        temporary.mkdir()
        fit = fit_into(work, fold, temporary, advance)
    report_progress(work.stage, number + 1, total, f"{fold.name}: done")
    return fit


def kept_fit(work: FoldWork, fold: Fold) -> Fit | None:
    """A finished fit of the same key whose files are whole, or None."""
    folder = work.folder / fold.name
    try:
        kept = KeptFit.read(folder / RESULT)
        if kept.key != work.key:
            return None
        verify_bundle(folder / "model")
        if len(fold.predict):
            read_table(folder / PREDICTED, PREDICTIONS)
    except (OSError, ValueError, AlphaloopError):
        return None
    return kept.fit


def fit_into(work: FoldWork, fold: Fold, folder: Path, advance: Advance) -> Fit:
    """Fit, save and predict one fold into `folder`, with what `kept_fit` finds."""
    fit = _fitted(work, fold, folder, advance)
    KeptFit(key=work.key, fit=fit).write(folder / RESULT)
    return fit


def _fitted(work: FoldWork, fold: Fold, folder: Path, advance: Advance) -> Fit:
    started, settings = time.monotonic(), work.module.Settings
    expert = _call(
        work,
        fold,
        "Expert",
        lambda: expert_of(
            work.module, settings.model_validate(work.leaf.settings), work.leaf, work.task.also
        ),
    )
    lookback = int(getattr(expert, "lookback_bars", 0))
    if lookback and work.leaf.period != work.task.period:
        raise ExpertError(
            f"Expert {work.leaf.expert} reads windows of {lookback} bars, and there are no windows of"
            f" {work.leaf.period} in a run of {work.task.period}. Name its leaf of {work.task.period}."
        )
    frame = fit_frame(work.table, fold, lookback)
    warm = _warm_start(work, fold, expert)
    checkpoints = work.folder / CHECKPOINTS / fold.name
    name = f"{work.leaf.expert} {fold.name}"
    task = replace(work.task, checkpoints=checkpoints, key=f"{work.key} {fold.name}", name=name)
    _call(work, fold, "fit", lambda: expert.fit(frame, task, advance=advance, warm_start=warm))
    if hasattr(expert, "learn_all"):
        everything = all_to_learn(frame)
        _call(work, fold, "learn_all", lambda: expert.learn_all(everything, task, advance=advance))
    _save(work, fold, expert, lookback, folder / "model")
    if is_main():
        shutil.rmtree(checkpoints, ignore_errors=True)
    predicted = _predict(work, fold, expert, lookback, folder) if len(fold.predict) else 0
    return Fit(
        fold=fold.name,
        train_window=_train_window(work, fold),
        inputs=len(work.task.groups),
        train_rows=frame.select((pl.col("part") == "train") & pl.col("label").is_not_null()).sum().item(),
        warm=warm is not None,
        predicted_rows=predicted,
        seconds=round(time.monotonic() - started, 2),
    )


def _save(work: FoldWork, fold: Fold, expert: Expert, lookback: int, model: Path) -> None:
    """Write the fitted model, for serving in its served form too, and its manifest."""
    model.mkdir()
    _call(work, fold, "save", lambda: expert.save(model))
    if not len(fold.predict) and hasattr(expert, "export"):
        _call(work, fold, "export", lambda: expert.export(model))
    write_manifest(
        model,
        {
            "expert": work.leaf.expert,
            "module": work.module.__name__,
            "leaf": work.leaf.model_dump(mode="json", exclude={"tracking"}),  # an address may hold a password
            "period": work.task.period,
            "horizon": work.task.horizon,
            "target": work.task.target,
            "tasks": [{"target": target, "horizon": horizon} for target, horizon in work.tasks],
            "seed": work.task.seed,
            "columns": list(work.task.groups),
            "groups": dict(work.task.groups),
            "lookback_bars": lookback,
            "fold": fold.name,
            "train_window": _train_window(work, fold),
            "known_until": work.table.calendar[known_bar(work.table, fold)].isoformat(),
            "code_version": work.code,
        },
    )


def _predict(work: FoldWork, fold: Fold, expert: Expert, lookback: int, folder: Path) -> int:
    """Write what the expert predicts of the fold, of all its tasks; returns of how many rows."""
    frames = predict_frames(work.table, fold, lookback)
    found = [_predicted(work, fold, expert, frame) for frame in frames]
    tables = [
        _stamped(pl.concat(parts), work, fold, task)
        for task, parts in zip(work.tasks, zip(*found, strict=True), strict=True)
    ]
    table = pl.concat(tables, how="diagonal").sort(PREDICTIONS.key) if len(tables) > 1 else tables[0]
    write_table(
        table,
        folder / PREDICTED,
        PREDICTIONS,
        code_version=work.code,
        config_hash=config_hash(work.leaf),
        train_window=_train_window(work, fold),
    )
    return len(tables[0])


def _predicted(work: FoldWork, fold: Fold, expert: Expert, frame: pl.DataFrame) -> list[pl.DataFrame]:
    """What the expert predicts of one frame, a table for each of its tasks, checked."""
    wanted = frame.filter(pl.col("part") == "predict").select("timestamp", "symbol")
    ask = expert.predict_tasks if work.task.also else lambda rows: [expert.predict(rows)]
    found = _call(work, fold, "predict", lambda: ask(frame))
    return [
        check_predictions(
            table,
            wanted,
            expert=work.leaf.expert,
            fold=fold.name,
            classes=class_values(target),
        )
        for (target, _), table in zip(work.tasks, found, strict=True)
    ]


def _train_window(work: FoldWork, fold: Fold) -> str:
    calendar = work.table.calendar
    first, last = calendar[int(fold.train[0])], calendar[int(fold.early_stopping[-1])]
    form = "%Y-%m-%dT%H:%M:%S.%f" if is_of_ticks(work.task.period) else "%Y-%m-%d"
    return f"{first:{form}}..{last:{form}}"


def _stamped(predictions: pl.DataFrame, work: FoldWork, fold: Fold, task: tuple[str, int]) -> pl.DataFrame:
    """Predictions of one task as a PREDICTIONS table."""
    target, horizon = task
    about = {
        "period": work.task.period,
        "target": target,
        "expert": work.leaf.expert,
        "fold": fold.name,
        "train_window": _train_window(work, fold),
    }
    table = predictions.with_columns(
        pl.lit(horizon, dtype=pl.Int32).alias("horizon"),
        *(pl.lit(value).alias(name) for name, value in about.items()),
    )
    chances = [name for name in CLASS_COLUMNS if name in predictions.columns]
    return table.select(*PREDICTIONS.columns, *chances)


def _call(work: FoldWork, fold: Fold, what: str, function: Callable[[], Any]) -> Any:
    """Call into the expert; whatever it raises becomes an ExpertError, but for an output that can't be
    written.
    """
    try:
        return function()
    except (OutputError, Stopped):
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, AlphaloopError) else f"{type(error).__name__}: {error}"
        raise ExpertError(f"Expert {work.leaf.expert}, {fold.name}: {what} failed: {reason}") from error


def _warm_start(work: FoldWork, fold: Fold, expert: Expert) -> Any:
    """The model to go on from, or None where it has seen what this fold predicts."""
    if work.warm_from is None:
        return None
    leaf, columns = work.leaf, list(work.task.groups)
    manifest = verify_bundle(work.warm_from)
    other_inputs = manifest.get("columns") != columns
    if manifest.get("expert") == leaf.expert and other_inputs and work.chosen is not None:
        report(
            work.stage,
            f"{fold.name} starts from scratch: other inputs were chosen for it than the warm model has",
        )
        return None
    if manifest.get("expert") != leaf.expert or other_inputs:
        raise ContractError(
            f"{work.warm_from} holds a model of {manifest.get('expert')!r} on"
            f" {len(manifest.get('columns') or [])} inputs; {leaf.expert} on these {len(columns)}"
            " inputs can't go on from it. Give a model of the same expert and feature set."
        )
    learned = (manifest["target"], manifest["horizon"])
    if learned != work.tasks[0]:
        report(
            work.stage,
            f"{fold.name} starts from scratch: the warm model learned {learned[0]} over {learned[1]} bars",
        )
        return None
    if len(fold.predict) and manifest["known_until"] >= work.table.calendar[int(fold.predict[0])].isoformat():
        report(
            work.stage,
            f"{fold.name} starts from scratch: the warm model knows data up to"
            f" {manifest['known_until'][:10]}, which this fold predicts",
        )
        return None
    also = work.task.also
    return _call(work, fold, "load", lambda: load_warm(work.module, work.warm_from, expert, leaf, also))
