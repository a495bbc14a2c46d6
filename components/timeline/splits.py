"""The windows, and the walk-forward through validation and test.

Splits are made over positions in the calendar, the sorted distinct timestamps of the panel, so that all
symbols of a bar fall on the same side. A label made at bar i is known at bar i + entry lag + horizon; purging
removes the training bars whose labels reach into what is predicted, the embargo removes some more beside
them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
import polars as pl

from components.contracts import AlphaloopError
from components.timeline.config import Settings, Span
from components.timeline.entry import ENTRY_LAG_BARS, label_reach

FEWEST_TRAIN_BARS = 20


class TimelineError(AlphaloopError):
    """Windows, folds, purge, embargo and horizon do not fit together or to the data."""


@dataclass(frozen=True)
class Windows:
    """The four windows as half-open ranges [start, end) of bar positions."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]
    backtest: tuple[int, int]


@dataclass(frozen=True)
class Fold:
    """Bar positions of one fit:

    `train` and `early_stopping`, which is the newer, may be learned from, `predict` never. All sorted; those
    of a cross-validation may have holes.
    """

    name: str
    train: np.ndarray
    early_stopping: np.ndarray
    predict: np.ndarray

    @property
    def stretches(self) -> list[np.ndarray]:
        """The training bars, cut where one is missing."""
        return consecutive(self.train)

    @property
    def forward(self) -> bool:
        """Whether all that is learned from lies before all that is predicted."""
        return not len(self.predict) or bool(self.early_stopping[-1] < self.predict[0])


def consecutive(bars: np.ndarray) -> list[np.ndarray]:
    """Sorted positions cut where one is missing."""
    return np.split(bars, np.flatnonzero(np.diff(bars) > 1) + 1) if len(bars) else []


def bar_index(timestamps: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """The calendar (sorted distinct timestamps) and each row's position in it, shape (rows,), int64."""
    calendar = timestamps.unique().sort()
    return calendar, calendar.search_sorted(timestamps).to_numpy().astype(np.int64)


def resolve_windows(calendar: pl.Series, settings: Settings) -> Windows:
    """Turn dates, or shares where dates are left out, into bar positions.

    Raises
    ------
    TimelineError
        If a window is empty, overlaps the one before, or the backtest begins before the test window.
    """
    total = len(calendar)
    if total < 20:
        raise TimelineError(
            f"The panel has only {total} bars; at least 20 are needed to split them. Give a longer panel."
        )
    first_validation = int(total * settings.train_share)
    first_test = int(total * (settings.train_share + settings.validation_share))
    train = _span(calendar, settings.train, 0, _start(calendar, settings.validation, first_validation))
    validation = _span(calendar, settings.validation, train[1], _start(calendar, settings.test, first_test))
    test = _span(calendar, settings.test, validation[1], total)
    backtest = _span(calendar, settings.backtest, *test)
    named = {"train": train, "validation": validation, "test": test, "backtest": backtest}
    for name, (start, end) in named.items():
        if end - start < 1:
            raise TimelineError(
                f"timeline.{name} holds no bars: the panel runs from {calendar[0]:%Y-%m-%d} to"
                f" {calendar[-1]:%Y-%m-%d}. Set timeline.{name}.start and .end inside it."
            )
    for earlier, later in (("train", "validation"), ("validation", "test")):
        if named[earlier][1] > named[later][0]:
            raise TimelineError(
                f"timeline.{earlier} ends {calendar[named[earlier][1] - 1]:%Y-%m-%d}, after timeline.{later}"
                f" begins {calendar[named[later][0]]:%Y-%m-%d}: what is learned would be judged on itself."
                f" Let {earlier} end before {later} begins."
            )
    if backtest[0] < test[0]:
        raise TimelineError(
            f"timeline.backtest begins {calendar[backtest[0]]:%Y-%m-%d}, before timeline.test"
            f" ({calendar[test[0]]:%Y-%m-%d}): the stacker learned from those bars. Let the backtest begin"
            " with the test window or later."
        )
    return Windows(**named)


def check_gaps(settings: Settings, longest_horizon: int) -> None:
    """Refuse a purge that is shorter than a label reaches, and a rolling window that gaps use up.

    Raises
    ------
    TimelineError
        If purge_bars is shorter than the longest horizon and the entry bar, or train_bars leaves too few bars
        to learn from beside early stopping, purge and embargo.
    """
    reach = label_reach(longest_horizon)
    if settings.purge_bars < reach:
        raise TimelineError(
            f"timeline.purge_bars={settings.purge_bars} is shorter than a label reaches, {reach} bars"
            f" (horizon {longest_horizon}, entered {ENTRY_LAG_BARS} bar later): labels of the last"
            f" {reach - settings.purge_bars} training bars reach into what is predicted. Set"
            f" timeline.purge_bars to {reach} or more."
        )
    if settings.train_bars:
        settings = settings.with_embargo(longest_horizon)
        train, stopping = part_for_stopping(np.arange(settings.train_bars), settings)
        if len(train) < FEWEST_TRAIN_BARS:
            raise TimelineError(
                f"timeline.train_bars={settings.train_bars} leaves {len(train)} bars to learn from after"
                f" {len(stopping)} for early stopping (early_stopping_share="
                f"{settings.early_stopping_share:g}) and a gap of purge_bars={settings.purge_bars} +"
                f" embargo_bars={settings.embargo_bars}; {FEWEST_TRAIN_BARS} are needed. Raise"
                " timeline.train_bars, or leave it out."
            )


def walk_forward(windows: Windows, settings: Settings, *, longest_horizon: int) -> list[Fold]:
    """Folds that predict the validation and the test window once, each from its past only, and a `final` one.

    A fold never straddles the border of validation and test. Before each predicted block, and between the
    training and the early-stopping bars, `purge_bars + embargo_bars` bars are left out; more before a block
    where `timeline.train` ends earlier before validation than that. The last fold, `final`, predicts
    nothing: it fits the model that is served, on all bars up to the end of the test window whose labels are
    known then.
    """
    check_gaps(settings, longest_horizon)
    settings = settings.with_embargo(longest_horizon)
    gap = max(settings.purge_bars + settings.embargo_bars, windows.validation[0] - windows.train[1])
    blocks = [
        block
        for window in (windows.validation, windows.test)
        for block in _steps(*window, settings.fold_bars)
    ]
    folds = [
        _fold(f"fold_{number:02d}", windows.train[0], block[0] - gap, block, settings)
        for number, block in enumerate(blocks)
    ]
    end = windows.test[1] - label_reach(longest_horizon)
    last = _fold("final", windows.train[0], end, np.arange(0), settings)
    return [*folds, last]


def _steps(start: int, end: int, step: int) -> list[np.ndarray]:
    """Blocks of `step` bars; a remainder shorter than half a step joins the block before it."""
    starts = list(range(start, end, step))
    if len(starts) > 1 and end - starts[-1] < step / 2:
        starts.pop()
    return [np.arange(a, b) for a, b in zip(starts, [*starts[1:], end], strict=True)]


def _fold(name: str, first: int, end: int, predict: np.ndarray, settings: Settings) -> Fold:
    """Train on [first, end), its newest share kept for early stopping, with the gap between the two."""
    if settings.train_bars:
        first = max(first, end - settings.train_bars)
    train, stopping = part_for_stopping(np.arange(first, max(end, first)), settings)
    gap = settings.purge_bars + settings.embargo_bars
    if len(train) < FEWEST_TRAIN_BARS:
        raise TimelineError(
            f"{name} has {len(train)} training bars left after {len(stopping)} bars for early stopping and"
            f" twice a gap of {gap} (purge_bars={settings.purge_bars} +"
            f" embargo_bars={settings.embargo_bars}); {FEWEST_TRAIN_BARS} are needed. Lengthen timeline.train"
            " or the panel."
        )
    return Fold(name, train, stopping, predict)


def part_for_stopping(known: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Sorted bars that may be learned from as training bars and, the newest share of them, early-stopping
    bars, with the purge and the embargo between the two.
    """
    if not len(known):
        return known, known
    stopping = known[-max(int(len(known) * settings.early_stopping_share), 1) :]
    gap = settings.purge_bars + settings.embargo_bars
    return known[known < stopping[0] - gap], stopping


def _start(calendar: pl.Series, span: Span, default: int) -> int:
    return (
        default
        if span.start is None
        else int(calendar.search_sorted(_moment(span.start, calendar), side="left"))
    )


def _span(calendar: pl.Series, span: Span, first: int, end: int) -> tuple[int, int]:
    start = _start(calendar, span, first)
    if span.end is not None:
        end = int(calendar.search_sorted(_moment(span.end + timedelta(days=1), calendar), side="left"))
    return start, end


def _moment(day, calendar: pl.Series) -> pl.Series:
    return pl.Series([datetime.combine(day, time(), UTC)], dtype=calendar.dtype)[0]
