"""The out-of-fold table: every expert's predictions for the same rows side by side, with label and regime;
and its audit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.contracts import (
    CROSS_VALIDATED,
    OOF,
    PREDICTIONS,
    REGIME_COLUMN,
    REGIMES,
    SECTOR_COLUMN,
    AlphaloopError,
    ContractError,
    Stamp,
    check_table,
    map_table,
    of_task,
    read_stamp,
    require_one_origin,
    tasks_in,
)
from components.contracts.classes import CLASS_COLUMNS
from components.contracts.documents.experts import (
    CROSS_VALIDATED_FILE,
    SHARED_CODE_END,
    STATUS,
    TIMELINE,
    FailedExpert,
    TrainedExpert,
    read_status,
)
from components.contracts.documents.oof_audit import OofAudit
from components.stacking.config import Settings
from components.stacking.guests import may_take_part
from components.timeline.periods import is_of_ticks

KEY = ("timestamp", "symbol", "horizon")
ROW = ("timestamp", "symbol")
# What the table takes of a training set.
CONTEXT_COLUMNS = (REGIME_COLUMN, SECTOR_COLUMN)
Task = tuple[str, int]
# Share of the largest expert's rows that all experts must have in common: with less, the stack would learn
# from what is left by chance.
MIN_ROW_SHARE = 0.7
# Longest stretch of bars without any row that the audit accepts inside the table; a lost fold is longer.
MAX_GAP_BARS = 10
# How `train_window` writes a moment where it is of samples of order books.
MOMENT_FORM = "%Y-%m-%dT%H:%M:%S%.f"


class StackingError(AlphaloopError):
    """Too few experts are left, or their predictions do not belong together."""


def read_experts(
    folders: Sequence[Path], settings: Settings
) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """Predictions of all tasks by expert name, and the reason of each expert that failed.

    Raises
    ------
    StackingError
        If fewer than `min_experts` are left.
    ContractError
        If they were made from different data, by different code, settings of the timeline or walk-forward
        folds, or for different periods, or learned from bars after those they predict.
    """
    statuses = {folder: read_status(folder / STATUS) for folder in folders}
    failed = {
        status.expert: status.reason for status in statuses.values() if isinstance(status, FailedExpert)
    }
    paths = {
        status.expert: folder / "predictions.parquet"
        for folder, status in statuses.items()
        if isinstance(status, TrainedExpert)
    }
    if len(paths) < settings.min_experts:
        reasons = "\n".join(f"- {name}: {reason}" for name, reason in failed.items())
        raise StackingError(
            f"Only {len(paths)} expert{'s' if len(paths) != 1 else ''} left, {settings.min_experts} are"
            f" needed (stacking.min_experts). Failed:\n{reasons}\nMend or remove those in experts.leaves,"
            " then run again: finished experts are not trained anew."
        )
    for name in ("training_set", "labels"):
        require_one_origin(list(paths.values()), name)
    _require_one_making({name: read_stamp(path) for name, path in paths.items()})
    frames = {name: map_table(path, PREDICTIONS) for name, path in paths.items()}
    _require_one_period(frames)
    for name, frame in frames.items():
        _require_the_past(name, frame)
    _require_one_walk(frames)
    return frames, failed


def read_cross_validated(folders: Sequence[Path]) -> tuple[dict[str, pl.DataFrame], Stamp]:
    """CROSS_VALIDATED predictions of all tasks by expert name, without experts that failed, and the stamp of
    the first.

    Raises
    ------
    ContractError
        If they were made from different data, or for different periods, or an expert has none.
    """
    statuses = {folder: read_status(folder / STATUS) for folder in folders}
    paths = {
        status.expert: folder / CROSS_VALIDATED_FILE
        for folder, status in statuses.items()
        if isinstance(status, TrainedExpert)
    }
    for name in ("training_set", "labels"):
        require_one_origin(list(paths.values()), name)
    frames = {name: map_table(path, CROSS_VALIDATED) for name, path in paths.items()}
    _require_one_period(frames)
    return frames, read_stamp(next(iter(paths.values())))


def _require_one_making(stamps: Mapping[str, Stamp]) -> None:
    """Refuse experts that other code trained, beside their own families', or other settings of the timeline.

    A stamp without the settings of the timeline is of code that did not write them, so it is of other code.
    """
    first_name, first = next(iter(stamps.items()))
    for name, stamp in stamps.items():
        for what, found, wanted in (
            ("by other code", _shared_code(stamp), _shared_code(first)),
            ("under other timeline settings", stamp.inputs.get(TIMELINE), first.inputs.get(TIMELINE)),
        ):
            if found != wanted:
                raise ContractError(
                    f"Expert {name} was trained {what} than {first_name} ({found or 'unknown'} against"
                    f" {wanted or 'unknown'}). What one of them had learned from may be what the other"
                    " predicts: train both with this version and one config."
                )


def _shared_code(stamp: Stamp) -> str:
    """The version of the code that all experts share."""
    return stamp.code_version.partition(SHARED_CODE_END)[0]


def _require_one_period(frames: Mapping[str, pl.DataFrame]) -> None:
    """Refuse experts whose predictions are of different periods."""
    kinds = {name: frame["period"].unique().sort().to_list() for name, frame in frames.items()}
    first_name, first = next(iter(kinds.items()))
    for name, kind in kinds.items():
        if kind != first or len(kind) != 1:
            raise ContractError(
                f"Expert {name} predicts bars of the period {kind}, but {first_name} of {first}. All experts"
                " of a run must predict the same bars."
            )


def stacked_tasks(frames: Mapping[str, pl.DataFrame], judged: Task) -> list[Task]:
    """All (target, horizon) that an expert predicts, the judged one first.

    Raises
    ------
    StackingError
        If no expert predicts the judged one.
    """
    found = sorted({task for frame in frames.values() for task in tasks_in(frame)})
    if judged not in found:
        told = ", ".join(f"{target} over {horizon}" for target, horizon in found)
        raise StackingError(
            f"No expert that is left predicts {judged[0]} over {judged[1]} bars, by which the run is judged"
            f" (found: {told}). Mend those that failed, or add a leaf without a target and horizon of its own"
            " to experts.leaves."
        )
    return [judged, *(task for task in found if task != judged)]


def tells(frame: pl.DataFrame, task: Task) -> bool:
    """Whether predictions say anything of a task."""
    return task in tasks_in(frame)


def members_of(
    task: Task, frames: Mapping[str, pl.DataFrame], guests: Mapping[str, Task] | None = None
) -> dict[str, pl.DataFrame]:
    """What each expert that predicts the task says of it and, after these, what `guests` (by the task that
    they learned) say of theirs, those that may take part.
    """
    own = {name: of_task(frame, *task) for name, frame in frames.items() if tells(frame, task)}
    others = {
        name: of_task(frames[name], *learned)
        for name, learned in (guests or {}).items()
        if name in frames and name not in own and may_take_part(learned[0], task[0])
    }
    return own | others


def _require_one_walk(frames: Mapping[str, pl.DataFrame]) -> None:
    """Refuse experts that were trained in different walk-forward folds."""
    folds = {
        name: sorted(frame.select("fold", "train_window").unique().rows()) for name, frame in frames.items()
    }
    first_name = next(iter(folds))
    for name, windows in folds.items():
        if windows != folds[first_name]:
            other = next(iter(set(windows) ^ set(folds[first_name])))
            raise ContractError(
                f"Expert {name} was trained in other folds than {first_name}: (fold, train_window) {other} is"
                " only in one of them. What one of them had seen, the other predicts: train both with one"
                " `timeline` section."
            )


def _require_the_past(name: str, frame: pl.DataFrame) -> None:
    """Refuse predictions whose fit learned from days after them, or from samples after them."""
    until, moment = pl.col("train_window").str.split("..").list.last(), pl.col("timestamp")
    if len(frame) and is_of_ticks(frame["period"][0]):
        ahead = frame.filter(moment.dt.replace_time_zone(None) <= until.str.to_datetime(MOMENT_FORM))
    else:
        ahead = frame.filter(moment.dt.date() < until.str.to_date("%Y-%m-%d"))
    if len(ahead):
        fold, window, moment = ahead.select("fold", "train_window", "timestamp").row(0)
        raise ContractError(
            f"Expert {name}, {fold}: {len(ahead):,} predictions are of bars before the end of what its fit"
            f" learned from, {window}, first {moment}. Only predictions of the walk-forward can be stacked,"
            " not those of a cross-validation: train the expert again."
        )


def build_oof_table(
    experts: Mapping[str, pl.DataFrame], labels: pl.DataFrame, training_set: pl.DataFrame
) -> pl.DataFrame:
    """One row for each (timestamp, symbol) that all experts predicted.

    Parameters
    ----------
    experts : PREDICTIONS frames by name, each of one task; the first one's is that of the table
    labels : LABELS frame
    training_set : TRAINING_SET frame, for the regime at each row

    Returns
    -------
    OOF frame: `score_<expert>`, `uncertainty_<expert>` (in the unit of the target that it learned), of
    classes `p_down_<expert>`, `p_none_<expert>`, `p_up_<expert>`, label, `label_end`, log_return, regime; and
    the sector's code where the training set has one.
    """
    target = next(iter(experts.values()))["target"][0]
    table = None
    for name, frame in experts.items():
        given = [column for column in CLASS_COLUMNS if column in frame.columns]
        given = [column for column in given if frame[column].null_count() < len(frame)]
        columns = frame.select(
            *ROW, *(pl.col(column).alias(f"{column}_{name}") for column in ("score", "uncertainty", *given))
        )
        if table is None:
            table = frame.select(*KEY, "period", "target", "fold").join(columns, on=ROW, how="inner")
        else:
            table = table.join(columns, on=ROW, how="inner")
    known = labels.select(*KEY, pl.col(target).cast(pl.Float64).alias("label"), "label_end", "log_return")
    names = dict(enumerate(REGIMES))
    regimes = training_set.select(
        "timestamp",
        "symbol",
        pl.col(REGIME_COLUMN)
        .cast(pl.Int32)
        .replace_strict(names, default="unknown", return_dtype=pl.String)
        .alias("regime"),
        *(pl.col(name).cast(pl.Float64) for name in (SECTOR_COLUMN,) if name in training_set.columns),
    )
    table = table.join(known, on=KEY, how="left").join(regimes, on=("timestamp", "symbol"), how="left")
    return check_table(table.with_columns(pl.col("regime").fill_null("unknown")).sort(OOF.key), OOF)


def audit_oof(
    table: pl.DataFrame,
    experts: Mapping[str, pl.DataFrame],
    failed: Mapping[str, str],
    calendar: pl.Series,
) -> OofAudit:
    """Count duplicates, time going back, missing rows and odd gaps; `calendar` is the sorted distinct
    timestamps of the panel.
    """
    rows_by_expert = {name: len(frame) for name, frame in experts.items()}
    most = max(rows_by_expert.values(), default=0)
    counted = OofAudit(
        rows=len(table),
        experts=list(experts),
        failed_experts=dict(failed),
        rows_by_expert=rows_by_expert,
        rows_in_common_share=len(table) / most if most else 0.0,
        duplicates=int(table.select(pl.struct(KEY).is_duplicated().sum()).item()),
        time_reversals=int(table.select((pl.col("timestamp") < pl.col("timestamp").shift(1)).sum()).item()),
        missing_scores=_missing_scores(table),
        longest_gap_bars=_longest_gap(table, calendar),
        unlabelled=int(table["label"].null_count()) if len(table) else 0,
    )
    return counted.model_copy(update={"problems": _problems(counted)})


def _missing_scores(table: pl.DataFrame) -> int:
    scores = table.select(pl.col("^score_.*$"))
    if not len(scores):
        return 0
    absent = pl.all().is_null() | pl.all().is_nan() | pl.all().is_infinite()
    return int(scores.select(pl.sum_horizontal(absent).sum()).item() or 0)


def _longest_gap(table: pl.DataFrame, calendar: pl.Series) -> int:
    """Bars of the longest stretch inside the table that has no row."""
    positions = calendar.search_sorted(table["timestamp"].unique().sort())
    return int(positions.cast(pl.Int64).diff().max() or 1) - 1 if len(positions) > 1 else 0


def _problems(counted: OofAudit) -> list[str]:
    """What forbids to learn from the table, a sentence each."""
    problems = []
    if not counted.rows:
        problems.append("no row is predicted by all experts")
    if counted.duplicates:
        problems.append(f"{counted.duplicates:,} rows repeat a (timestamp, symbol, horizon)")
    if counted.time_reversals:
        problems.append(f"time goes back at {counted.time_reversals:,} rows")
    if counted.missing_scores:
        problems.append(f"{counted.missing_scores:,} scores are missing or not finite")
    if counted.rows and counted.rows_in_common_share < MIN_ROW_SHARE:
        problems.append(
            f"experts have {counted.rows_in_common_share:.0%} of their rows in common, {MIN_ROW_SHARE:.0%}"
            f" are needed (rows by expert: {counted.rows_by_expert}): leave out the one with fewest"
        )
    if counted.longest_gap_bars > MAX_GAP_BARS:
        problems.append(
            f"a stretch of {counted.longest_gap_bars} bars has no rows, {MAX_GAP_BARS} are the most: look for"
            " a fold that is missing"
        )
    return problems


def with_further(judged: OofAudit, audits: Mapping[Task, OofAudit]) -> OofAudit:
    """The judged table's audit with what forbids to learn from the rows of further tasks."""
    further = [
        f"{task[0]} over {task[1]} bars: {problem}"
        for task, audit in audits.items()
        if audit is not judged
        for problem in audit.problems
    ]
    return judged.model_copy(update={"problems": [*judged.problems, *further]}) if further else judged


def require_clean(audit: OofAudit) -> None:
    """Refuse a table that failed its audit.

    Raises
    ------
    StackingError
        Listing every problem.
    """
    if audit.problems:
        raise StackingError(
            "The out-of-fold table failed its audit, nothing is trained on it:\n"
            + "\n".join(f"- {problem}" for problem in audit.problems)
        )
