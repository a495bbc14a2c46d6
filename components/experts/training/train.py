"""The walk-forward trainer: fits an expert once a fold on its past only, keeps each fold on disk, and goes on
where it was stopped.
"""

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import polars as pl

from components.contracts import (
    INDUSTRY_COLUMN,
    PREDICTIONS,
    REGIME_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
    AlphaloopError,
    CatalogEntry,
    ChosenInputs,
    ContractError,
    OutputError,
    atomic_write_text,
    content_sha256,
    read_table,
    target_labels,
    verify_bundle,
    write_manifest,
    write_table,
)
from components.experts.compose import compose, load_composed
from components.experts.errors import ExpertError, Stopped
from components.experts.leaves import Leaf, expert_module
from components.experts.neural.distributed import agreed, is_main, shared_path
from components.experts.protocol import Task
from components.experts.training.check import check_predictions
from components.progress import advance as report_progress
from components.progress import report, warn
from components.settings import config_hash
from components.timeline import Fold, TimelineError, bar_index, resolve_windows, walk_forward
from components.timeline import Settings as TimelineSettings

RESULT = "result.json"
CONTEXT_COLUMNS = (REGIME_COLUMN, VOLATILITY_COLUMN, SECTOR_COLUMN, INDUSTRY_COLUMN)
CHECKPOINTS = "checkpoints"
PARTS = pl.Enum(["history", "train", "early_stopping", "predict"])


@dataclass(frozen=True)
class Trained:
    """What came out:

    PREDICTIONS of validation and test, the folder of the served model, and a summary for people.
    """

    predictions: pl.DataFrame
    model_folder: Path
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """All that the folds of one training have in common.

    `rows` holds inputs, context, label, label_end and the bar's position.
    """

    rows: pl.DataFrame
    calendar: pl.Series
    bars: np.ndarray
    module: ModuleType
    leaf: Leaf
    task: Task
    target_end: int
    work_folder: Path
    key: str
    code: str
    warm_from: Path | None
    chosen: ChosenInputs | None

    @property
    def stage(self) -> str:
        return f"train {self.leaf.expert}"


def train_expert(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    *,
    leaf: Leaf,
    timeline: TimelineSettings,
    period: str,
    horizon: int,
    target: str,
    seed: int,
    work_folder: Path,
    warm_from: Path | None = None,
    code: str = "",
    data_key: str | None = None,
    chosen: ChosenInputs | None = None,
    learnable: pl.DataFrame | None = None,
    until: Literal["served", "test", "validation"] = "served",
    after_fold: Callable[[int, int, pl.DataFrame], None] | None = None,
) -> Trained:
    """Fit the expert of a leaf in every walk-forward fold and once more for serving.

    Parameters
    ----------
    training_set : TRAINING_SET frame; its distinct timestamps are the calendar
    labels : LABELS frame; rows of `horizon` and the column `target` are learned from
    catalog : says which columns are inputs and to which group they belong
    work_folder : each finished fold stays here (`<fold>/predictions.parquet`, `<fold>/model`); a later call
        with the same data, leaf, timeline, seed and code takes it from here, with the same numbers as an
        unbroken run
    warm_from : folder of a fitted model of the same expert; used in the folds whose predictions all lie after
        what that model has seen, and for the served model
    data_key : hash of the tables where the caller knows one; computed when left out
    chosen : inputs of each fold, chosen on its training window; all of the leaf's modality where left out
    learnable : LEARNABLE frame; rows that it lacks are predicted but not learned from
    until : `test` leaves out the model for serving, `validation` also the folds that predict test bars;
        `model_folder` is then that of the last fold
    after_fold : called with number, total and PREDICTIONS after each fold; may raise `Stopped`, which is let
        through

    Raises
    ------
    ContractError, ConfigError, TimelineError
        If data, leaf and timeline do not fit together: nothing can be trained.
    ExpertError
        If the expert raised or gave predictions that break the contract.
    """
    started = time.monotonic()
    module = expert_module(leaf)
    if leaf.period != period:
        raise ContractError(
            f"The leaf of {leaf.expert} is for period {leaf.period}, but the panel's period is {period}. Name"
            f" the leaf {leaf.expert}/{period}/{leaf.modality}."
        )
    groups = _inputs(training_set, catalog, leaf.modality)
    also = tuple((task.target, task.horizon) for task in leaf.also)
    rows = _with_labels(training_set, labels, list(groups), ((target, horizon), *also))
    rows = rows if learnable is None else _unlabelled_but(rows, learnable)
    calendar, bars = bar_index(rows["timestamp"])
    windows = resolve_windows(calendar, timeline)
    folds = walk_forward(windows, timeline, longest_horizon=int(labels["horizon"].max()))
    if until != "served":
        end = windows.validation[1] if until == "validation" else windows.test[1]
        folds = [fold for fold in folds if len(fold.predict) and int(fold.predict[-1]) < end]
    task = Task(
        period=period,
        horizon=horizon,
        target=target,
        groups=groups,
        seed=seed,
        threads=leaf.threads,
        also=also,
        tracking=leaf.tracking,
    )
    key = _key(
        data_key or _data_key(training_set, labels, catalog, learnable), leaf, timeline, task, code, warm_from
    )
    job = _Job(
        rows,
        calendar,
        bars,
        module,
        leaf,
        task,
        windows.test[1],
        Path(work_folder),
        key,
        code,
        Path(warm_from) if warm_from else None,
        chosen,
    )
    results = []
    for number, fold in enumerate(folds):
        results.append(_finish_fold(_of_fold(job, fold), fold, number, len(folds)))
        if after_fold and len(fold.predict):
            after_fold(
                number,
                len(folds),
                read_table(job.work_folder / fold.name / "predictions.parquet", PREDICTIONS),
            )
    predictions = pl.concat(
        [
            read_table(job.work_folder / fold.name / "predictions.parquet", PREDICTIONS)
            for fold in folds
            if len(fold.predict)
        ]
    )
    summary = _summary(job, results, predictions, time.monotonic() - started)
    return Trained(predictions, job.work_folder / folds[-1].name / "model", summary)


def train_guarded(
    train: Callable[[], Trained], *, expert: str, work_folder: Path
) -> tuple[Trained | None, dict[str, Any]]:
    """Run `train`; an expert's own failure becomes a loud warning and a status, so that the run goes on
    without it.

    Bad data, settings or an output that can't be written concern all experts: those errors are raised on.

    Returns
    -------
    What was trained, or None, and the status: `expert`, `status` (`trained` or `failed`), `reason`, and the
    summary or the `trace_file`.
    """
    try:
        trained = train()
    except ExpertError as error:
        return failed(error, expert=expert, work_folder=work_folder)
    return trained, {"expert": expert, "status": "trained", "reason": "", **trained.summary}


def failed(error: ExpertError, *, expert: str, work_folder: Path) -> tuple[None, dict[str, Any]]:
    """The loud warning and the status of an expert that failed; the trace goes to a file."""
    trace = Path(work_folder) / "failure.txt"
    atomic_write_text(trace, "".join(traceback.format_exception(error)))
    warn(f"train {expert}", f"{expert} FAILED and is left out: {error}\nTrace: {trace}")
    return None, {"expert": expert, "status": "failed", "reason": str(error), "trace_file": str(trace)}


def _of_fold(job: _Job, fold: Fold) -> _Job:
    """The job with the inputs that are chosen for this fold alone, in the order of the catalog."""
    if job.chosen is None:
        return job
    names = job.chosen.of(fold.name)
    unknown = [name for name in names if name not in job.task.groups]
    if unknown or not names:
        found = (
            f"the input {unknown[0]!r}, which is not among the {len(job.task.groups)} of {job.leaf.expert}'s"
            " modality"
            if unknown
            else "no input at all"
        )
        raise ContractError(
            f"The selection chose for {fold.name} {found}. Run selection again on this run's factors."
        )
    whole = getattr(job.module.Expert, "whole_groups", ())
    groups = {name: group for name, group in job.task.groups.items() if name in set(names) or group in whole}
    left_out = [name for name in job.task.groups if name not in groups and name not in CONTEXT_COLUMNS]
    key = hashlib.sha256(json.dumps([job.key, list(groups)]).encode()).hexdigest()
    return replace(job, rows=job.rows.drop(left_out), task=replace(job.task, groups=groups), key=key)


def _finish_fold(job: _Job, fold: Fold, number: int, total: int) -> dict[str, Any]:
    """The fold's result, from disk where it is finished already."""
    folder = job.work_folder / fold.name
    kept = _kept(job, fold, folder)
    if agreed(float(kept is not None)):
        report_progress(job.stage, number + 1, total, f"{fold.name}: kept from before")
        return {**kept, "resumed": True}
    started = time.monotonic()
    with shared_path(folder) as temporary:
        temporary.mkdir()
        about = _fit_fold(
            job,
            fold,
            temporary,
            lambda share, what: report_progress(
                job.stage, number + min(max(share, 0.0), 1.0), total, f"{fold.name}: {what}"
            ),
        )
        result = {"key": job.key, "fold": fold.name, **about, "seconds": round(time.monotonic() - started, 2)}
        (temporary / RESULT).write_text(json.dumps(result, indent=1), encoding="utf-8")
    report_progress(job.stage, number + 1, total, f"{fold.name}: done")
    return {**result, "resumed": False}


def _kept(job: _Job, fold: Fold, folder: Path) -> dict[str, Any] | None:
    """A finished result of the same key whose files are whole, or None."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if result.get("key") != job.key:
            return None
        verify_bundle(folder / "model")
        if len(fold.predict):
            read_table(folder / "predictions.parquet", PREDICTIONS)
    except (OSError, ValueError, AlphaloopError):
        return None
    return result


def _fit_fold(job: _Job, fold: Fold, folder: Path, advance: Callable[[float, str], None]) -> dict[str, Any]:
    """Fit, save and predict one fold into `folder`."""
    first, last = job.calendar[int(fold.train[0])], job.calendar[int(fold.early_stopping[-1])]
    train_window = f"{first:%Y-%m-%d}..{last:%Y-%m-%d}"
    expert = _call(
        job, fold, "Expert", lambda: compose(job.module, _settings(job), job.leaf.ensemble, job.leaf.regimes)
    )
    lookback = int(getattr(expert, "lookback_bars", 0))
    frame = _fit_frame(job, fold, lookback)
    warm = _warm_start(job, fold)
    checkpoints = job.work_folder / CHECKPOINTS / fold.name
    task = replace(
        job.task, checkpoints=checkpoints, key=f"{job.key} {fold.name}", name=f"{job.leaf.expert} {fold.name}"
    )
    _call(job, fold, "fit", lambda: expert.fit(frame, task, advance=advance, warm_start=warm))
    model = folder / "model"
    model.mkdir()
    _call(job, fold, "save", lambda: expert.save(model))
    if not len(fold.predict) and hasattr(expert, "export"):
        _call(job, fold, "export", lambda: expert.export(model))
    if is_main():
        shutil.rmtree(checkpoints, ignore_errors=True)
    write_manifest(
        model,
        {
            "expert": job.leaf.expert,
            "module": job.module.__name__,
            "leaf": job.leaf.model_dump(mode="json", exclude={"tracking"}),  # an address may hold a password
            "period": job.task.period,
            "horizon": job.task.horizon,
            "target": job.task.target,
            "seed": job.task.seed,
            "columns": list(job.task.groups),
            "groups": dict(job.task.groups),
            "lookback_bars": lookback,
            "fold": fold.name,
            "train_window": train_window,
            "known_until": job.calendar[_known_bar(job, fold)].isoformat(),
            "code_version": job.code,
        },
    )
    about = {
        "train_window": train_window,
        "inputs": len(job.task.groups),
        "train_rows": int((frame["part"] == "train").sum()),
        "warm": warm is not None,
    }
    if not len(fold.predict):
        return {**about, "predicted_rows": 0}
    frame = _predict_frame(job, fold, lookback)
    wanted = frame.filter(pl.col("part") == "predict").select("timestamp", "symbol")
    found = _call(job, fold, "predict", lambda: expert.predict(frame))
    table = _stamped(
        check_predictions(found, wanted, expert=job.leaf.expert, fold=fold.name), job, fold, train_window
    )
    write_table(
        table,
        folder / "predictions.parquet",
        PREDICTIONS,
        code_version=job.code,
        config_hash=config_hash(job.leaf),
        train_window=train_window,
    )
    return {**about, "predicted_rows": len(table)}


def _call(job: _Job, fold: Fold, what: str, function: Callable[[], Any]) -> Any:
    """Call into the expert; whatever it raises becomes an ExpertError, but for an output that can't be
    written.
    """
    try:
        return function()
    except (OutputError, Stopped):
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, AlphaloopError) else f"{type(error).__name__}: {error}"
        raise ExpertError(f"Expert {job.leaf.expert}, {fold.name}: {what} failed: {reason}") from error


def _settings(job: _Job) -> Any:
    return job.module.Settings.model_validate(job.leaf.settings)


def _inputs(training_set: pl.DataFrame, catalog: Sequence[CatalogEntry], modality: str) -> dict[str, str]:
    """Group of each input that the modality sees."""
    groups = {
        entry.column: entry.group
        for entry in catalog
        if entry.role == "input"
        and entry.column in training_set.columns
        and entry.modality in ("base", modality)
    }
    absent = [
        entry.column
        for entry in catalog
        if entry.role == "input" and entry.column not in training_set.columns
    ]
    if absent:
        raise ContractError(
            f"The catalog names the input {absent[0]!r}, but the training set has no such column"
            f" ({len(absent)} absent). Run the features stage again."
        )
    missing = [name for name in (REGIME_COLUMN, VOLATILITY_COLUMN) if name not in training_set.columns]
    if missing or not groups:
        raise ContractError(
            f"The training set lacks {missing[0] if missing else 'any input column'}. Run features and"
            " training set again with their defaults."
        )
    return groups


def _with_labels(
    training_set: pl.DataFrame, labels: pl.DataFrame, inputs: list[str], tasks: Sequence[tuple[str, int]]
) -> pl.DataFrame:
    """The training set with the labels of the tasks (Float64:

    `label`, then `also_0` ...) and the time at which the last of a row's labels was known, `label_end`; row
    order is kept.
    """
    context = [name for name in CONTEXT_COLUMNS if name not in inputs and name in training_set.columns]
    rows = training_set.select("timestamp", "symbol", "sector", *inputs, *context)
    names = ["label", *(f"also_{number}" for number in range(len(tasks) - 1))]
    for name, (target, horizon) in zip(names, tasks, strict=True):
        wanted = target_labels(labels, horizon, target).rename({"label": name, "label_end": f"end of {name}"})
        rows = rows.join(wanted, on=("timestamp", "symbol"), how="left", maintain_order="left")
        endless = rows.filter(pl.col(name).is_not_null() & pl.col(f"end of {name}").is_null())
        if len(endless):
            first = endless.select("timestamp", "symbol").row(0)
            raise ContractError(
                f"{len(endless):,} labels of {target} over {horizon} bars don't say when they became known"
                f" (label_end is null), first at {first}."
            )
    ends = [f"end of {name}" for name in names]
    return rows.with_columns(pl.max_horizontal(ends).alias("label_end")).drop(ends)


def _label_columns(rows: pl.DataFrame) -> list[str]:
    return [name for name in rows.columns if name == "label" or name.startswith("also_")]


def _unlabelled_but(rows: pl.DataFrame, learnable: pl.DataFrame) -> pl.DataFrame:
    """The rows, those that are not in `learnable` without their labels."""
    kept = rows.select("timestamp", "symbol").join(
        learnable.select("timestamp", "symbol", pl.lit(True).alias("kept")),
        on=("timestamp", "symbol"),
        how="left",
        maintain_order="left",
    )
    return rows.with_columns(
        pl.when(kept["kept"].is_not_null()).then(name).alias(name)
        for name in (*_label_columns(rows), "label_end")
    )


def _slice(job: _Job, start: int, end: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of the bars [start, end), without copying them, and the bar of each row."""
    first, last = np.searchsorted(job.bars, [max(start, 0), end])
    return job.rows.slice(int(first), int(last - first)), job.bars[first:last]


def _known_bar(job: _Job, fold: Fold) -> int:
    """The last bar before the fold predicts; for the served model the last of the test window.

    What was known then may be learned from.
    """
    return (int(fold.predict[0]) if len(fold.predict) else job.target_end) - 1


def _fit_frame(job: _Job, fold: Fold, lookback: int) -> pl.DataFrame:
    """Frame for `fit`: ends with the last early-stopping bar; labels outside train and early stopping are
    null.

    Raises
    ------
    TimelineError
        If a label to learn from became known only after the fold's last known bar, or a train label only
        after early stopping began.
    """
    learned = [
        _part(job, bars, name)
        for bars, name in ((fold.train, "train"), (fold.early_stopping, "early_stopping"))
    ]
    _refuse_late(learned[0], job.calendar[int(fold.early_stopping[0])], fold, "early stopping begins")
    _refuse_late(
        learned[1], job.calendar[_known_bar(job, fold)], fold, "the last bar before predictions begin"
    )
    pieces = learned
    if lookback:
        before = _history(job, int(fold.train[0]) - lookback, int(fold.train[0]))
        between = _history(job, int(fold.train[-1]) + 1, int(fold.early_stopping[0]))
        pieces = [before, learned[0], between, learned[1]]
    return pl.concat(pieces, rechunk=False).drop("label_end")


def _predict_frame(job: _Job, fold: Fold, lookback: int) -> pl.DataFrame:
    """Frame for `predict`: `lookback` bars of history and the fold's bars, all labels null, nothing after."""
    history = _history(job, int(fold.predict[0]) - lookback, int(fold.predict[0]))
    return pl.concat([history, _part(job, fold.predict, "predict", labelled=False)], rechunk=False).drop(
        "label_end"
    )


def _history(job: _Job, start: int, end: int) -> pl.DataFrame:
    return _part(job, np.arange(max(start, 0), max(end, 0)), "history", labelled=False)


def _part(job: _Job, bars: np.ndarray, part: str, *, labelled: bool = True) -> pl.DataFrame:
    """Rows of the consecutive `bars` with their part; without their labels unless `labelled`."""
    rows = job.rows.clear() if not len(bars) else _slice(job, int(bars[0]), int(bars[-1]) + 1)[0]
    columns = [pl.lit(part, dtype=PARTS).cast(pl.String).alias("part")]
    if not labelled:
        columns += [pl.lit(None, dtype=pl.Float64).alias(name) for name in _label_columns(rows)]
    return rows.with_columns(columns)


def _refuse_late(rows: pl.DataFrame, known: Any, fold: Fold, what: str) -> None:
    late = rows.filter(
        pl.any_horizontal(pl.col(name).is_not_null() for name in _label_columns(rows))
        & (pl.col("label_end") > known)
    )
    if len(late):
        timestamp, symbol, end = late.select("timestamp", "symbol", "label_end").row(0)
        raise TimelineError(
            f"{fold.name}: {len(late):,} labels became known after {known} ({what}), first {symbol} at"
            f" {timestamp}, known at {end}: they would carry the future into training. Raise"
            " timeline.purge_bars to the longest horizon plus the entry bar."
        )


def _warm_start(job: _Job, fold: Fold) -> Any:
    """The model to go on from, or None where it has seen what this fold predicts."""
    if job.warm_from is None:
        return None
    manifest = verify_bundle(job.warm_from)
    if (
        manifest.get("expert") == job.leaf.expert
        and manifest.get("columns") != list(job.task.groups)
        and job.chosen is not None
    ):
        report(
            job.stage,
            f"{fold.name} starts from scratch: other inputs were chosen for it than the warm model has",
        )
        return None
    if manifest.get("expert") != job.leaf.expert or manifest.get("columns") != list(job.task.groups):
        raise ContractError(
            f"{job.warm_from} holds a model of {manifest.get('expert')!r} on"
            f" {len(manifest.get('columns') or [])} inputs; {job.leaf.expert} on these {len(job.task.groups)}"
            " inputs can't go on from it. Give a model of the same expert and feature set."
        )
    if len(fold.predict) and manifest["known_until"] >= job.calendar[int(fold.predict[0])].isoformat():
        report(
            job.stage,
            f"{fold.name} starts from scratch: the warm model knows data up to"
            f" {manifest['known_until'][:10]}, which this fold predicts",
        )
        return None
    return _call(
        job,
        fold,
        "load",
        lambda: load_composed(
            job.module, job.warm_from, whole=job.leaf.ensemble > 1 or job.leaf.regimes is not None
        ),
    )


def _stamped(predictions: pl.DataFrame, job: _Job, fold: Fold, train_window: str) -> pl.DataFrame:
    """Predictions as a PREDICTIONS table."""
    about = {
        "period": job.task.period,
        "target": job.task.target,
        "expert": job.leaf.expert,
        "fold": fold.name,
        "train_window": train_window,
    }
    table = predictions.with_columns(
        pl.lit(job.task.horizon, dtype=pl.Int32).alias("horizon"),
        *(pl.lit(value).alias(name) for name, value in about.items()),
    )
    return table.select(*PREDICTIONS.columns)


def _data_key(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    learnable: pl.DataFrame | None,
) -> str:
    return (
        f"{content_sha256(training_set)} {content_sha256(labels)} {catalog!r}"
        f" {'' if learnable is None else content_sha256(learnable)}"
    )


def _key(
    data_key: str, leaf: Leaf, timeline: TimelineSettings, task: Task, code: str, warm_from: Path | None
) -> str:
    """SHA-256 over all that a fold's numbers depend on."""
    warm = verify_bundle(warm_from)["sha256"] if warm_from else ""
    # Where the steps are logged changes no number.
    leaf = leaf.model_copy(update={"tracking": ""})
    parts = [
        data_key,
        config_hash(leaf),
        config_hash(timeline),
        task.period,
        task.horizon,
        task.target,
        dict(task.groups),
        task.seed,
        task.threads,
        code,
        warm,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _summary(
    job: _Job, results: list[dict[str, Any]], predictions: pl.DataFrame, seconds: float
) -> dict[str, Any]:
    constant = (
        predictions.group_by("fold")
        .agg(pl.col("score").n_unique() == 1)
        .filter("score")["fold"]
        .sort()
        .to_list()
    )
    if constant and job.leaf.expert != "median":
        warn(
            job.stage,
            f"{job.leaf.expert} gives every row the same score in {', '.join(constant)}: it found nothing"
            " that orders the symbols there.",
        )
    return {
        "period": job.task.period,
        "modality": job.leaf.modality,
        "horizon": job.task.horizon,
        "target": job.task.target,
        "inputs": results[-1]["inputs"],
        "rows": len(predictions),
        "train_window": results[-1]["train_window"],
        "predicted": f"{predictions['timestamp'].min():%Y-%m-%d}..{predictions['timestamp'].max():%Y-%m-%d}",
        "folds": [{name: value for name, value in result.items() if name != "key"} for result in results],
        "resumed_folds": sum(result["resumed"] for result in results),
        "constant_folds": constant,
        "seconds": round(seconds, 2),
    }
