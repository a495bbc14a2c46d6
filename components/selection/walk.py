"""What selection walks through: the rows, the folds of the walk-forward over them, the splits of a
cross-validation, and the windows they lie in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import CatalogEntry
from components.selection.config import Settings
from components.selection.purpose import Purpose
from components.selection.rows import Rows, read_rows
from components.timeline import (
    Fold,
    TimelineError,
    Windows,
    cross_validated_splits,
    resolve_windows,
    walk_forward,
)
from components.timeline import Settings as TimelineSettings


@dataclass(frozen=True)
class Walk:
    """Rows, folds and windows, what inputs are chosen for, and by which settings.

    `splits` are those of a cross-validation, none without one; `gap_bars` lie between what is learned from
    and what is judged on.
    """

    rows: Rows
    folds: Sequence[Fold]
    splits: Sequence[Fold]
    windows: Windows
    gap_bars: int
    purpose: Purpose
    settings: Settings


def walk_through(
    training_set: pl.DataFrame,
    labels: pl.DataFrame,
    catalog: Sequence[CatalogEntry],
    purpose: Purpose,
    settings: Settings,
    timeline: TimelineSettings,
) -> Walk:
    """Read the rows and lay the folds over them.

    Raises
    ------
    ContractError, TimelineError
        If tables and timeline do not fit together, or a training label became known too late.
    """
    rows = read_rows(training_set, labels, catalog, purpose)
    windows = resolve_windows(rows.calendar, timeline)
    longest = int(labels["horizon"].max())
    folds = walk_forward(windows, timeline, longest_horizon=longest)
    crossed = cross_validated_splits(windows, timeline, longest_horizon=longest)
    splits = crossed.folds if crossed else ()
    for fold in (*folds, *splits):
        _refuse_late(rows, fold)
    gap_bars = timeline.purge_bars + timeline.embargo(longest)
    return Walk(rows, folds, splits, windows, gap_bars, purpose, settings)


def _refuse_late(rows: Rows, fold: Fold) -> None:
    """TimelineError where a training label became known only after early stopping began."""
    part = rows.slice(int(fold.train[0]), int(fold.train[-1]) + 1)
    late = rows.label_end[part] > int(fold.early_stopping[0])
    late &= np.isin(rows.bars[part], fold.train)
    if late.any():
        place = part.start + int(np.flatnonzero(late)[0])
        raise TimelineError(
            f"{fold.name}: {int(late.sum()):,} labels became known after"
            f" {rows.calendar[int(fold.early_stopping[0])]} (early stopping begins), first of the bar"
            f" {rows.calendar[int(rows.bars[place])]}: they would carry the future into the choice. Raise"
            " timeline.purge_bars to the longest horizon plus the entry bar."
        )
