"""Cross-validation before the test window: purged k-fold and combinatorial purged splits over bars (Lopez de
Prado 2018, chapters 7 and 12).

The bars are cut into groups. Each split leaves one or more of them out, learns from the others and predicts
what was left out: also from bars after it. So what it predicts is never served, stacked for the verdict or
judged by a gate: it says how much a model's result owes to the stretch that it happened to learn from.

Purging leaves out, before a tested group, the bars whose labels reach into it, and after it the bars in which
its own labels are not yet known; the embargo leaves out some more after it, because they still resemble it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from components.timeline.config import Settings
from components.timeline.entry import label_reach
from components.timeline.splits import (
    FEWEST_TRAIN_BARS,
    Fold,
    TimelineError,
    Windows,
    check_gaps,
    part_for_stopping,
)

UNTESTED = -1


@dataclass(frozen=True)
class CrossValidation:
    """Groups of bars and the splits over them.

    `groups` are half-open ranges [start, end) of bar positions, in time's order. `folds` has one fit a split,
    named `cv_00` on. `path_of`, shape (splits, groups), says to which backtest path a split's predictions of
    a group belong, UNTESTED where it learns from the group: every path holds each group once.
    """

    groups: tuple[tuple[int, int], ...]
    folds: tuple[Fold, ...]
    path_of: np.ndarray

    @property
    def paths(self) -> int:
        """How many backtest paths there are: C(groups, tested) * tested / groups."""
        return int(self.path_of.max()) + 1

    def group_of(self, bars: np.ndarray) -> np.ndarray:
        """The group in which each bar lies, shape of `bars`; all of them lie in one."""
        return np.searchsorted([start for start, _ in self.groups], bars, side="right") - 1


def cross_validated_splits(
    windows: Windows, settings: Settings, *, longest_horizon: int
) -> CrossValidation | None:
    """The splits over the bars before the test window; None under the scheme `walk_forward`.

    They end where labels begin to reach into the test window, so that nothing of it is seen.

    Raises
    ------
    TimelineError
        If the purge is shorter than a label reaches, or the groups or what is left of them are too short.
    """
    if settings.scheme == "walk_forward":
        return None
    check_gaps(settings, longest_horizon)
    settings = settings.with_embargo(longest_horizon)
    first = windows.train[0]
    end = min(windows.validation[1], windows.test[0] - label_reach(longest_horizon))
    tested = settings.test_groups if settings.scheme == "combinatorial" else 1
    _require_room(end - first, settings, tested)
    groups = [group + first for group in _blocks(end - first, settings.groups)]
    splits = combinatorial_purged(
        end - first,
        n_folds=settings.groups,
        n_test_folds=tested,
        purge_bars=settings.purge_bars,
        embargo_bars=settings.embargo_bars,
    )
    folds = [
        _fold(f"cv_{number:02d}", known + first, predict + first, settings)
        for number, (known, predict) in enumerate(splits)
    ]
    return CrossValidation(
        tuple((int(group[0]), int(group[-1]) + 1) for group in groups),
        tuple(folds),
        assign_paths(settings.groups, tested),
    )


def assign_paths(n_groups: int, n_tested: int) -> np.ndarray:
    """Which path each split's predictions of each group belong to, shape (splits, groups): the first split
    that tests a group gives it to the first path, the next to the second; UNTESTED elsewhere.
    """
    chosen = np.array(list(combinations(range(n_groups), n_tested)))
    tests = np.zeros((len(chosen), n_groups), dtype=bool)
    np.put_along_axis(tests, chosen, True, axis=1)
    return np.where(tests, tests.cumsum(axis=0) - 1, UNTESTED)


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


def _require_room(n_bars: int, settings: Settings, tested: int) -> None:
    """Refuse groups that purge and embargo use up."""
    shortest = max(n_bars, 0) // settings.groups
    sides = 2 if tested > 1 else 1
    gap = sides * settings.purge_bars + settings.embargo_bars
    if shortest <= gap:
        raise TimelineError(
            f"timeline.groups={settings.groups} cut the {max(n_bars, 0)} bars before the test window into"
            f" groups of {shortest}, but beside what is tested {gap} bars of a group are left out"
            f" ({'twice ' if sides == 2 else ''}purge_bars={settings.purge_bars} +"
            f" embargo_bars={settings.embargo_bars}): nothing of it would be left to learn from. Lower"
            " timeline.groups, give a longer panel, or set timeline.scheme to walk_forward."
        )


def _fold(name: str, known: np.ndarray, predict: np.ndarray, settings: Settings) -> Fold:
    train, stopping = part_for_stopping(known, settings)
    if len(train) < FEWEST_TRAIN_BARS:
        raise TimelineError(
            f"{name}, a split of the cross-validation, has {len(train)} training bars left beside"
            f" {len(predict)} tested ones, {len(stopping)} for early stopping, and purge_bars="
            f"{settings.purge_bars} and embargo_bars={settings.embargo_bars} around them;"
            f" {FEWEST_TRAIN_BARS} are needed. Lower timeline.test_groups, raise timeline.groups, or give a"
            " longer panel."
        )
    return Fold(name, train, stopping, predict)
