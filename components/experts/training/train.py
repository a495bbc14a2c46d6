"""The trainer: fits an expert once a fold of the walk-forward on its past only, and once a split of the
cross-validation where there is one; keeps each on disk, and goes on where it was stopped.
"""

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import polars as pl

from components.contracts import (
    CROSS_VALIDATED,
    PREDICTIONS,
    ContractError,
    atomic_write_text,
    of_task,
    read_table,
    verify_bundle,
)
from components.contracts.classes import class_values
from components.contracts.documents.experts import ExpertStatus, FailedExpert, Fit, TrainedExpert
from components.contracts.documents.tasks import PredictedTask
from components.experts.errors import ExpertError
from components.experts.leaves import expert_module
from components.experts.protocol import Task
from components.experts.training.folds import PREDICTED, FoldWork, finish_fold, kept_fit, of_fold
from components.experts.training.frames import (
    LabelledRows,
    input_groups,
    labelled_at_news,
    require_news,
    seen,
    unlabelled_but,
    with_labels,
)
from components.experts.training.inputs import Assignment, StrPath, TrainingTables, refuse_other_samples
from components.memory.deaths import out_of_memory, peak_here, ran_out
from components.progress import warn
from components.scoring.moments import FEWEST_RANKED
from components.settings import config_hash
from components.timeline import (
    CrossValidation,
    Fold,
    Windows,
    bar_index,
    cross_validated_splits,
    resolve_windows,
    walk_forward,
)
from components.timeline.periods import is_coarser

Until = Literal["served", "test", "validation"]


@dataclass(frozen=True)
class Trained:
    """What came out:

    PREDICTIONS of validation and test, the folder of the served model, the status, and CROSS_VALIDATED
    predictions where the timeline asks for them.
    """

    predictions: pl.DataFrame
    model_folder: Path
    status: TrainedExpert
    cross_validated: pl.DataFrame | None = None


@dataclass(frozen=True)
class Plan:
    """What is fitted: the folds of the walk-forward, and the splits of the cross-validation, or None."""

    folds: Sequence[Fold]
    crossed: CrossValidation | None

    @property
    def every(self) -> tuple[Fold, ...]:
        """The folds, then the splits; each has a name of its own."""
        return (*self.folds, *(self.crossed.folds if self.crossed else ()))

    def own(self, work: FoldWork, number: int) -> FoldWork:
        """The work of the fit with this number among `every`.

        A split goes on from no warm model: that knows the bars that are tested.
        """
        fold = self.every[number]
        if number < len(self.folds):
            return of_fold(work, fold)
        bars = [part.tolist() for part in (fold.train, fold.early_stopping, fold.predict)]
        key = hashlib.sha256(json.dumps([work.key, bars]).encode()).hexdigest()
        return of_fold(replace(work, warm_from=None, key=key), fold)


class Elsewhere(Protocol):
    """Who can make several fits at once, each in a process of its own."""

    pays_from_s: float
    """CPU seconds of a fit from which that is worth the start of processes."""

    def fit(self, work: FoldWork, plan: Plan, numbers: Sequence[int]) -> None:
        """Leave these fits of the plan in the work folder, as `finish_fold` would, or leave them to it."""


def train_expert(
    tables: TrainingTables,
    assignment: Assignment,
    work_folder: Path,
    *,
    warm_from: StrPath | None = None,
    until: Until = "served",
    after_fold: Callable[[int, int, pl.DataFrame], None] | None = None,
    elsewhere: Elsewhere | None = None,
    shared: TrainedExpert | None = None,
) -> Trained:
    """Fit the expert of a leaf in every walk-forward fold, once more for serving, and then in every split of
    the cross-validation that the timeline asks for.

    Parameters
    ----------
    work_folder : each finished fold stays here (`<fold>/predictions.parquet`, `<fold>/model`); a later call
        with the same tables and assignment takes it from here, with the same numbers as an unbroken run
    warm_from : folder of a fitted model of the same expert; used in the folds whose predictions all lie after
        what that model has seen, and for the served model
    until : `test` leaves out the model for serving and the cross-validation, `validation` also the folds that
        predict test bars; `model_folder` is then that of the last fold
    after_fold : called with number, total and PREDICTIONS of the expert's own task after each fold; may raise
        `Stopped`, which is let through
    elsewhere : makes what is left once a fit took long enough; without it all is fitted here, in turn
    shared : status of processes that shared the fits and left them in the work folder for this call

    Raises
    ------
    ContractError, ConfigError, TimelineError
        If data, leaf and timeline do not fit together: nothing can be trained.
    ExpertError
        If the expert raised or gave predictions that break the contract.
    """
    started = time.monotonic()
    work, plan = planned(tables, assignment, Path(work_folder), warm_from, until)
    folds, fits = plan.folds, []
    made = (
        {fit.fold for fit in (*shared.folds, *shared.cross_validation) if not fit.resumed} if shared else ()
    )
    for fold, fit in zip(plan.every, _fits(work, plan, elsewhere, made), strict=True):
        fits.append(fit)
        if after_fold and len(fits) <= len(folds) and len(fold.predict):
            after_fold(len(fits) - 1, len(folds), of_task(_predicted(work, fold), *work.tasks[0]))
    predictions = pl.concat([_predicted(work, fold) for fold in folds if len(fold.predict)], how="diagonal")
    crossed = _crossed(work, plan) if plan.crossed else None
    seconds = time.monotonic() - started + (shared.seconds if shared else 0.0)
    status = _status(work, fits[: len(folds)], fits[len(folds) :], predictions, seconds)
    return Trained(predictions, work.folder / folds[-1].name / "model", status, crossed)


def _fits(work: FoldWork, plan: Plan, elsewhere: Elsewhere | None, made: Collection[str]) -> Iterator[Fit]:
    """All fits of the plan, in its order; `made` names those that were made for this call."""
    longest, made = 0.0, {*made}
    for number, fold in enumerate(plan.every):
        own = plan.own(work, number)
        if elsewhere and longest >= elsewhere.pays_from_s:
            rest = range(number, len(plan.every))
            left = [one for one in rest if kept_fit(plan.own(work, one), plan.every[one]) is None]
            if left:
                elsewhere.fit(work, plan, left)
            made |= {plan.every[one].name for one in left}
            elsewhere = None
        began = time.process_time()
        fit = finish_fold(own, fold, number, len(plan.every), made_now=fold.name in made)
        longest = max(longest, time.process_time() - began)
        yield fit


def train_guarded(
    train: Callable[[], Trained], *, expert: str, work_folder: Path
) -> tuple[Trained | None, ExpertStatus]:
    """Run `train`; an expert's own failure becomes a loud warning and a status, so that the run goes on
    without it.

    Bad data, settings or an output that can't be written concern all experts: those errors are raised on.

    Returns
    -------
    What was trained, or None, and the status.
    """
    try:
        trained = train()
    except ExpertError as error:
        return None, failed(error, expert=expert, work_folder=work_folder)
    return trained, trained.status


def failed(error: ExpertError, *, expert: str, work_folder: Path) -> FailedExpert:
    """The loud warning and the status of an expert that failed; the trace goes to a file."""
    trace = Path(work_folder) / "failure.txt"
    atomic_write_text(trace, "".join(traceback.format_exception(error)))
    name = f"train {expert}"
    reason = out_of_memory(name, peak_here()) if ran_out(error) else str(error)
    warn(name, f"{expert} FAILED and is left out: {reason}\nTrace: {trace}")
    return FailedExpert(expert=expert, reason=reason, trace_file=str(trace))


def planned(
    tables: TrainingTables, assignment: Assignment, folder: Path, warm_from: StrPath | None, until: Until
) -> tuple[FoldWork, Plan]:
    """What the fits have in common, and the fits up to the window that is asked for."""
    leaf, timeline = assignment.leaf, assignment.timeline
    module = expert_module(leaf)
    refuse_other_samples(leaf, assignment.period)
    coarser = is_coarser(leaf.period, assignment.period)
    if leaf.period != assignment.period and not coarser:
        raise ContractError(
            f"The leaf of {leaf.expert} is for period {leaf.period}, finer than the panel's bars of"
            f" {assignment.period}. Name the leaf {leaf.expert}/{assignment.period}/{leaf.modality}."
        )
    task = _task(tables, assignment)
    tasks = ((task.target, task.horizon), *task.also)
    rows = with_labels(tables.training_set, tables.labels, list(task.groups), tasks)
    rows = rows if tables.learnable is None else unlabelled_but(rows, tables.learnable)
    rows = labelled_at_news(rows, leaf.period) if coarser else rows
    if task.transform == "rank_gaussian" and not class_values(task.target):
        _say_where_few_are_ranked(rows, leaf.expert)
    calendar, bars = bar_index(rows["timestamp"])
    windows = resolve_windows(calendar, timeline)
    longest = int(tables.labels["horizon"].max())
    folds = walk_forward(windows, timeline, longest_horizon=longest)
    work = FoldWork(
        table=LabelledRows(rows, calendar, bars, windows.test[1]),
        module=module,
        leaf=leaf,
        task=task,
        folder=folder,
        key=_key(tables.key, assignment, task, warm_from),
        code=assignment.code,
        warm_from=Path(warm_from) if warm_from else None,
        chosen=tables.chosen,
    )
    crossed = (
        cross_validated_splits(windows, timeline, longest_horizon=longest) if until == "served" else None
    )
    plan = Plan(_until(folds, windows, until), crossed)
    if coarser:
        require_news(work.table, plan.every, leaf.expert, leaf.period)
    return work, plan


def _crossed(work: FoldWork, plan: Plan) -> pl.DataFrame:
    """CROSS_VALIDATED predictions of all splits."""
    crossed, calendar = plan.crossed, work.table.calendar
    tables = []
    for number, fold in enumerate(crossed.folds):
        found = _predicted(work, fold)
        groups = crossed.group_of(calendar.search_sorted(found["timestamp"]).to_numpy())
        about = {
            "split": np.full(len(found), number),
            "group": groups,
            "path": crossed.path_of[number, groups],
        }
        table = found.with_columns(pl.Series(name, values, pl.Int32) for name, values in about.items())
        tables.append(table.select(*CROSS_VALIDATED.columns))
    return pl.concat(tables).sort(CROSS_VALIDATED.key)


def _say_where_few_are_ranked(rows: pl.DataFrame, expert: str) -> None:
    """A warning where most bars have too few labels to be ranked."""
    labels = rows.drop_nulls("label").group_by("timestamp").len()["len"]
    thin = int((labels < FEWEST_RANKED).sum())
    if 2 * thin > len(labels):
        warn(
            f"train {expert}",
            f"{thin:,} of {len(labels):,} bars have fewer than {FEWEST_RANKED} labelled symbols: z-scores are"
            " learned there instead of ranks. Set labels.transform: zscore to learn them everywhere.",
        )


def _task(tables: TrainingTables, assignment: Assignment) -> Task:
    leaf = assignment.leaf
    coarser = leaf.period if leaf.period != assignment.period else ""
    groups = input_groups(tables.training_set, tables.catalog, leaf.modality, coarser)
    return Task(
        period=assignment.period,
        horizon=assignment.horizon,
        target=assignment.target,
        groups=seen(leaf, groups),
        seed=assignment.seed,
        threads=leaf.threads,
        also=tuple((task.target, task.horizon) for task in leaf.also),
        tracking=leaf.tracking,
        transform=leaf.transform,
    )


def _until(folds: Sequence[Fold], windows: Windows, until: Until) -> Sequence[Fold]:
    if until == "served":
        return folds
    end = windows.validation[1] if until == "validation" else windows.test[1]
    return [fold for fold in folds if len(fold.predict) and int(fold.predict[-1]) < end]


def _predicted(work: FoldWork, fold: Fold) -> pl.DataFrame:
    return read_table(work.folder / fold.name / PREDICTED, PREDICTIONS)


def _key(tables: str, assignment: Assignment, task: Task, warm_from: StrPath | None) -> str:
    """SHA-256 over all that a fold's numbers depend on."""
    parts = [
        tables,
        # The leaf says the number of threads too; where the steps are logged changes no number.
        config_hash(assignment.leaf.model_copy(update={"tracking": ""})),
        config_hash(assignment.timeline.walking()),
        task.period,
        task.horizon,
        task.target,
        dict(task.groups),
        task.seed,
        assignment.code,
        verify_bundle(warm_from)["sha256"] if warm_from else "",
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _status(
    work: FoldWork, fits: Sequence[Fit], splits: Sequence[Fit], predictions: pl.DataFrame, seconds: float
) -> TrainedExpert:
    expert, task = work.leaf.expert, work.task
    predictions = of_task(predictions, *work.tasks[0])
    by_fold = predictions.group_by("fold").agg(pl.col("score").n_unique() == 1)
    constant = by_fold.filter("score")["fold"].sort().to_list()
    if constant and expert != "median":
        warn(
            work.stage,
            f"{expert} gives every row the same score in {', '.join(constant)}: it found nothing"
            " that orders the symbols there.",
        )
    first, last = predictions["timestamp"].min(), predictions["timestamp"].max()
    return TrainedExpert(
        expert=expert,
        period=task.period,
        modality=work.leaf.modality,
        horizon=task.horizon,
        target=task.target,
        further=tuple(PredictedTask(target=target, horizon=horizon) for target, horizon in task.also),
        inputs=fits[-1].inputs,
        rows=len(predictions),
        train_window=fits[-1].train_window,
        predicted=f"{first:%Y-%m-%d}..{last:%Y-%m-%d}",
        folds=tuple(fits),
        cross_validation=tuple(splits),
        resumed_folds=sum(fit.resumed for fit in (*fits, *splits)),
        constant_folds=tuple(constant),
        seconds=round(seconds, 2),
    )
