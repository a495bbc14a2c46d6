"""Walk-forward, purged k-fold and combinatorial purged splits over bars (Lopez de Prado 2018, chapters 7 and
12).

Splits are made over positions in the calendar, the sorted distinct timestamps of the panel, so that all
symbols of a bar fall on the same side. A label made at bar i is known at bar i + entry lag + horizon; purging
removes the training bars whose labels reach into what is predicted, the embargo removes some more beside
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import combinations

import numpy as np
import polars as pl

from components.contracts import AlphaloopError
from components.timeline.config import Settings, Span
from components.timeline.entry import ENTRY_LAG_BARS, label_reach


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

    `train` and `early_stopping` may be learned from, `predict` never. All sorted.
    """

    name: str
    train: np.ndarray
    early_stopping: np.ndarray
    predict: np.ndarray


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
    """Refuse a purge that is shorter than a label reaches.

    Raises
    ------
    TimelineError
        If purge_bars is shorter than the longest horizon and the entry bar.
    """
    reach = label_reach(longest_horizon)
    if settings.purge_bars < reach:
        raise TimelineError(
            f"timeline.purge_bars={settings.purge_bars} is shorter than a label reaches, {reach} bars"
            f" (horizon {longest_horizon}, entered {ENTRY_LAG_BARS} bar later): labels of the last"
            f" {reach - settings.purge_bars} training bars reach into what is predicted. Set"
            f" timeline.purge_bars to {reach} or more."
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


def purged_kfold(
    n_bars: int, *, n_folds: int = 5, purge_bars: int, embargo_bars: int = 20
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) bar positions of `n_folds` contiguous test blocks.

    Training bars before a block are purged by `purge_bars`; those after it by `purge_bars + embargo_bars`,
    because the block's labels are known only `purge_bars` later and the bars beyond still resemble it.
    """
    for block in _blocks(n_bars, n_folds):
        yield _without(n_bars, [block], purge_bars, embargo_bars), block


def combinatorial_purged(
    n_bars: int, *, n_folds: int = 6, n_test_folds: int = 2, purge_bars: int, embargo_bars: int = 20
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) for every choice of `n_test_folds` out of `n_folds` blocks, purged around each
    block.
    """
    blocks = _blocks(n_bars, n_folds)
    if not 1 <= n_test_folds < n_folds:
        raise TimelineError(f"n_test_folds={n_test_folds} must be at least 1 and below n_folds={n_folds}.")
    for chosen in combinations(blocks, n_test_folds):
        yield _without(n_bars, list(chosen), purge_bars, embargo_bars), np.concatenate(chosen)


def _blocks(n_bars: int, n_folds: int) -> list[np.ndarray]:
    if not 2 <= n_folds <= n_bars:
        raise TimelineError(
            f"{n_bars} bars can't be cut into {n_folds} folds. Choose between 2 and {n_bars}."
        )
    return np.array_split(np.arange(n_bars), n_folds)


def _without(n_bars: int, blocks: list[np.ndarray], purge_bars: int, embargo_bars: int) -> np.ndarray:
    keep = np.ones(n_bars, dtype=bool)
    for block in blocks:
        keep[max(block[0] - purge_bars, 0) : block[-1] + 1 + purge_bars + embargo_bars] = False
    return np.flatnonzero(keep)


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
    gap = settings.purge_bars + settings.embargo_bars
    stopping_bars = max(int((end - first) * settings.early_stopping_share), 1)
    train_end = end - stopping_bars - gap
    if train_end - first < 20:
        raise TimelineError(
            f"{name} has {max(train_end - first, 0)} training bars left after {stopping_bars} bars for early"
            f" stopping and twice a gap of {gap} (purge_bars={settings.purge_bars} +"
            f" embargo_bars={settings.embargo_bars}); 20 are needed. Lengthen timeline.train or the panel."
        )
    return Fold(name, np.arange(first, train_end), np.arange(end - stopping_bars, end), predict)


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
