"""Eras: training bars are cut into eras of one length on one grid for all folds, and each pair of neighbours
is looked at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.selection.config import Settings
from components.selection.errors import SelectionError
from components.timeline import Fold

FEWEST_BLOCKS = 4


@dataclass(frozen=True)
class Pair:
    """Two neighbouring eras: learned from are the bars [first, middle), judged on [middle + gap, end)."""

    first: int
    middle: int
    end: int


def block_of(settings: Settings, horizon: int, era_bars: int) -> int:
    """Bars of a block: those of the settings, shorter where an era would hold fewer than six, never under
    twice the horizon.
    """
    return max(2 * horizon, min(settings.block_bars, era_bars // 6))


def era_length(folds: Sequence[Fold], settings: Settings, horizon: int, gap_bars: int) -> int:
    """Bars of an era: the setting, or less where the shortest training window would hold too few of them.

    Raises
    ------
    SelectionError
        If that leaves an era too short to judge in.
    """
    shortest = min(len(fold.train) for fold in folds)
    era = min(settings.era_bars, shortest // settings.fewest_eras)
    needed = fewest_era_bars(horizon, gap_bars)
    if era < needed or -(-era // block_of(settings, horizon, era)) < FEWEST_BLOCKS:
        raise SelectionError(
            f"The shortest training window holds {shortest} bars, so {settings.fewest_eras} eras have {era}"
            f" bars each; horizon {horizon} and a gap of {gap_bars} bars need {needed}. Lengthen"
            f" timeline.train to about {needed * settings.fewest_eras} training bars or more, raise"
            " selection.era_bars, or set selection.mode to off."
        )
    return era


def era_length_of_splits(splits: Sequence[Fold], settings: Settings, horizon: int, gap_bars: int) -> int:
    """Bars of an era where training bars have holes: so few that every split holds two eras side by side,
    wherever the grid lies in its longest stretch.

    Raises
    ------
    SelectionError
        If that leaves an era too short to judge in.
    """
    shortest = min(max(map(len, split.stretches)) for split in splits)
    era = min(settings.era_bars, (shortest + 1) // 3)
    needed = fewest_era_bars(horizon, gap_bars)
    if era < needed or -(-era // block_of(settings, horizon, era)) < FEWEST_BLOCKS:
        raise SelectionError(
            f"A split of the cross-validation learns from {shortest} bars in a row at most, so its eras have"
            f" {era} bars; horizon {horizon} and a gap of {gap_bars} bars need {needed}. Lower"
            f" timeline.groups, give a longer panel ({3 * needed} training bars in a row), or set"
            " selection.mode to off."
        )
    return era


def fewest_era_bars(horizon: int, gap_bars: int) -> int:
    """Bars that an era needs to be judged in."""
    return max(FEWEST_BLOCKS * 2 * horizon, gap_bars + 3 * horizon, 15)


def pairs_of(folds: Sequence[Fold], era_bars: int) -> list[Pair]:
    """Pairs of neighbouring eras on one grid from the first training bar on that lie in the training bars of
    at least one fold.
    """
    first, last = min(int(fold.train[0]) for fold in folds), max(int(fold.train[-1]) for fold in folds)
    pairs = [
        Pair(start, start + era_bars, start + 2 * era_bars)
        for start in range(first, last + 2 - 2 * era_bars, era_bars)
    ]
    return [pair for pair in pairs if any(lies_in(pair, fold) for fold in folds)]


def lies_in(pair: Pair, fold: Fold) -> bool:
    """Whether all bars of both eras are among the fold's training bars."""
    first, end = np.searchsorted(fold.train, [pair.first, pair.end])
    return bool(end - first == pair.end - pair.first)
