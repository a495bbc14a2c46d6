"""One stack a task: that of the judged one, and of each further one that an expert predicts."""

from dataclasses import dataclass, replace

import polars as pl

from components.contracts import ALL_PREDICTIONS, OOF, check_table, of_task, tasks_in
from components.contracts.documents.comparison import FurtherStack
from components.scoring.form import FURTHER, task_folder
from components.stacking.combine import Stacked, stack_experts
from components.stacking.config import Settings
from components.timeline import Settings as TimelineSettings
from components.timeline import Windows

Task = tuple[str, int]
SCORE = "score_"
# Columns of an OOF table that stay where all their values are unknown.
_ALWAYS = tuple(OOF.columns)


@dataclass(frozen=True)
class Course:
    """The four windows as bar positions, the sorted distinct timestamps they count in, and the timeline."""

    windows: Windows
    calendar: pl.Series
    timeline: TimelineSettings


def stack_tasks(
    oof: pl.DataFrame,
    predictions: pl.DataFrame,
    judged: Task,
    settings: Settings,
    course: Course,
    *,
    seed: int,
) -> Stacked:
    """The stack of the judged task, as `stack_experts` makes it, with the predictions of each further task's
    stack, what was chosen for it, and its served form below `further/<task>/`.

    Parameters
    ----------
    oof : OOF frame
    predictions : ALL_PREDICTIONS frame of the same experts
    """
    own = _stacked(oof, predictions, judged, settings, course, seed)
    further = {
        task: _stacked(oof, predictions, task, settings, course, seed)
        for task in tasks_in(oof)
        if task != judged
    }
    if not further:
        return own
    told = [
        FurtherStack(
            target=target,
            horizon=horizon,
            **one.comparison.model_dump(include={"chosen", "reason", "experts", "weights"}),
        )
        for (target, horizon), one in further.items()
    ]
    files = {
        f"{FURTHER}/{task_folder(*task)}/{name}": content
        for task, one in further.items()
        for name, content in one.model.items()
    }
    together = pl.concat([own.predictions, *(one.predictions for one in further.values())], how="diagonal")
    return replace(
        own,
        predictions=check_table(together.sort(ALL_PREDICTIONS.key), ALL_PREDICTIONS),
        comparison=own.comparison.model_copy(update={"further": told}),
        model=own.model | files,
    )


def _stacked(
    oof: pl.DataFrame,
    predictions: pl.DataFrame,
    task: Task,
    settings: Settings,
    course: Course,
    seed: int,
) -> Stacked:
    """The stack of one task. The embargo is that of its label, or of a longer one that a guest learned."""
    rows, said = of_task(oof, *task), of_task(predictions, *task)
    empty = [name for name in rows.columns if rows[name].null_count() == len(rows) and name not in _ALWAYS]
    rows = rows.drop(empty)
    guests = {
        name: _longest(predictions, name)
        for name in (column.removeprefix(SCORE) for column in rows.columns if column.startswith(SCORE))
        if name not in set(said["expert"])
    }
    if said["expert"].n_unique() + len(guests) == 1:
        settings = settings.model_copy(update={"combiners": []})
    return stack_experts(
        rows,
        said,
        settings,
        course.windows,
        course.calendar,
        embargo_bars=course.timeline.embargo(max([task[1], *guests.values()])),
        seed=seed,
        guests=list(guests),
    )


def _longest(predictions: pl.DataFrame, expert: str) -> int:
    """Bars of the longest label that an expert learned."""
    return int(predictions.filter(pl.col("expert") == expert)["horizon"].max())
