"""Can a classifier tell current rows from reference rows? Judged on bars and symbols that it did not see.

Neighbouring bars resemble each other, and a symbol keeps its place in the cross-section for months: a
classifier that may learn either by heart tells any two windows apart. So it is judged on contiguous blocks of
bars, with a gap beside them, and on the half of the symbols that it did not learn from.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from components.contracts.documents.drift_reference import ColumnReference
from components.drift.config import Settings

if TYPE_CHECKING:
    from lightgbm import Dataset

BLOCKS = 4
FEWEST_BARS = 2 * BLOCKS
# Bars left out beside a held-out block, as a share of the current window: neighbours resemble each other.
GAP_SHARE = 1 / 12
ROUNDS = 30
MOST_ROWS = 8_000
# Effective rows that a column must have, as a share of its rows, for the classifier to look at it.
LEAST_INDEPENDENT = 0.1
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "max_bin": 63,
    "verbosity": -1,
}


@dataclass(frozen=True)
class ComparedRows:
    """What is told apart: values (N, F) with NaN for missing, the bar of each row (N,), numbered without
    holes, and its half of the symbols (N,), 0 or 1.
    """

    values: np.ndarray
    bars: np.ndarray
    halves: np.ndarray

    def where(self, chosen: np.ndarray) -> "ComparedRows":
        """Some of the rows, their bars numbered anew."""
        return ComparedRows(
            self.values[chosen], np.unique(self.bars[chosen], return_inverse=True)[1], self.halves[chosen]
        )


def separation(
    reference: ComparedRows, current: ComparedRows, settings: Settings
) -> tuple[float, np.ndarray]:
    """Area under the curve over held-out blocks, their mean, and each column's share of the gain, shape (F,).

    Bars of each side are cut into contiguous blocks; a classifier learns from one half of the symbols in all
    but one block of each side, less a gap, and is judged on the other half in those. A side of more than
    MOST_ROWS rows is sampled. NaN and zeros where a side has too few bars.
    """
    values = np.concatenate([reference.values, current.values])
    places = np.split(np.arange(len(values)), [len(reference.values)])
    return _told_apart((reference, current), places, _binned(values, settings), settings)


def usual_separation(reference: ComparedRows, window_bars: int, settings: Settings) -> list[float]:
    """The same for windows of the reference against the bars that lie at least a window away; `auc_windows`
    of them, evenly spaced.
    """
    total = int(reference.bars.max(initial=-1)) + 1
    if total < 4 * window_bars or window_bars < FEWEST_BARS:
        return []
    binned = _binned(reference.values, settings)
    areas = []
    for start in np.unique(np.linspace(0, total - window_bars, settings.auc_windows).astype(int)):
        inside = (reference.bars >= start) & (reference.bars < start + window_bars)
        far = (reference.bars < start - window_bars) | (reference.bars >= start + 2 * window_bars)
        sides, places = zip(
            *((reference.where(part), np.flatnonzero(part)) for part in (far, inside)), strict=True
        )
        areas.append(_told_apart(sides, places, binned, settings)[0])
    return [area for area in areas if np.isfinite(area)]


def _binned(values: np.ndarray, settings: Settings) -> "Dataset":
    """Values (N, F) in bins, once for all classifiers: where the borders of bins lie has nothing to do with
    which side a row is of.
    """
    import lightgbm

    return lightgbm.Dataset(values, label=np.zeros(len(values)), params=_parameters(settings))


def _parameters(settings: Settings) -> dict[str, str | int | float | bool]:
    fixed = {"min_sum_hessian_in_leaf": 1e-3, "deterministic": True, "force_col_wise": True}
    return PARAMETERS | fixed | {"num_threads": settings.threads, "seed": settings.seed}


def _told_apart(
    sides: Sequence[ComparedRows], places: Sequence[np.ndarray], binned: "Dataset", settings: Settings
) -> tuple[float, np.ndarray]:
    """`separation` of two sides whose rows have these places in what is `binned`."""
    import lightgbm

    sides, places = zip(
        *(_at_most(*one, settings.seed) for one in zip(sides, places, strict=True)), strict=True
    )
    values, places = np.concatenate([side.values for side in sides]), np.concatenate(places)
    if min(len(np.unique(side.bars)) for side in sides) < FEWEST_BARS:
        return float("nan"), np.zeros(values.shape[1])
    current = sides[1]
    gap = max(round(GAP_SHARE * (int(current.bars.max()) + 1)), 1)
    blocks = [_blocks(side.bars) for side in sides]
    target = np.repeat([0, 1], [len(side.values) for side in sides])
    areas, gains = [], np.zeros(values.shape[1])
    for number, half in product(range(BLOCKS), range(2 if len(np.unique(current.halves)) > 1 else 1)):
        masks = [_split(side, block[number], gap, half) for side, block in zip(sides, blocks, strict=True)]
        held, learned = (np.concatenate(parts) for parts in zip(*masks, strict=True))
        share = target[learned].mean()
        if not 0 < share < 1 or not 0 < target[held].mean() < 1:
            continue
        # A subset has its rows in the order of their places.
        learned = np.flatnonzero(learned)[np.argsort(places[learned])]
        weight = np.where(target[learned] == 1, 1 - share, share)
        data = binned.subset(places[learned]).construct().set_label(target[learned]).set_weight(weight)
        booster = lightgbm.train(_parameters(settings), data, ROUNDS)
        areas.append(_area(booster.predict(values[held], num_threads=settings.threads), target[held]))
        gains += booster.feature_importance("gain")
    return (float(np.mean(areas)) if areas else float("nan")), (
        gains / gains.sum() if gains.sum() > 0 else gains
    )


def usual_limit(areas: Sequence[float], level: float) -> float | None:
    """The area that a further window passes with a chance of `level`: a prediction interval on the logit
    scale; None with fewer than three windows.

    Windows of the reference have neighbours on both sides, while current bars lie beyond its end: a tenth of
    the level is taken.
    """
    if len(areas) < 3:
        return None
    from scipy.stats import t

    clipped = np.clip(areas, 1e-3, 1 - 1e-3)
    logits = np.log(clipped / (1 - clipped))
    limit = logits.mean() + t.isf(level / 10, len(logits) - 1) * logits.std(ddof=1) * np.sqrt(
        1 + 1 / len(logits)
    )
    return float(max(1 / (1 + np.exp(-limit)), *areas))


def told_apart_by(columns: Mapping[str, ColumnReference]) -> list[str]:
    """The columns that the classifier may look at: those in which a bar's rows are mostly independent,
    without the score.

    What all symbols share, the calendar and the market's state, has one value a bar, and levels that rise and
    fall together hardly more: so few that they tell any two windows apart. Their own tests know how few.
    """

    def tells(about: ColumnReference) -> bool:
        independent = about.effective_rows >= LEAST_INDEPENDENT * about.rows
        return about.kind != "score" and about.rows > 0 and not about.shared and independent

    return [name for name, about in columns.items() if tells(about)]


def halves_of(symbols: Sequence[str]) -> dict[str, int]:
    """Which half each symbol falls into: the same in every table and at every time."""
    return {symbol: zlib.crc32(symbol.encode()) >> 7 & 1 for symbol in symbols}


def fill_missing(values: np.ndarray, sketches: np.ndarray, seed: int) -> np.ndarray:
    """Draws from the reference in place of NaN, so that rows are not told apart by what is missing, which has
    a rule of its own; `sketches` (Q, F).
    """
    draws = np.random.default_rng(seed).integers(0, len(sketches), size=values.shape)
    return np.where(np.isfinite(values), values, np.take_along_axis(sketches, draws, axis=0))


def _blocks(bars: np.ndarray) -> list[tuple[int, int]]:
    """First and last bar of each of BLOCKS contiguous blocks."""
    return [(int(part[0]), int(part[-1])) for part in np.array_split(np.unique(bars), BLOCKS)]


def _split(side: ComparedRows, block: tuple[int, int], gap: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of what is judged and what is learned from; with rows of one half only, symbols are
    not held out.
    """
    first, last = block
    several = len(np.unique(side.halves)) > 1
    held = (side.bars >= first) & (side.bars <= last)
    learned = (side.bars < first - gap) | (side.bars > last + gap)
    return (held & (side.halves == half), learned & (side.halves != half)) if several else (held, learned)


def _at_most(side: ComparedRows, places: np.ndarray, seed: int) -> tuple[ComparedRows, np.ndarray]:
    """A side and the places of its rows, both sampled where it has more than MOST_ROWS."""
    if len(places) <= MOST_ROWS:
        return side, places
    chosen = np.sort(np.random.default_rng(seed).choice(len(places), MOST_ROWS, replace=False))
    return ComparedRows(side.values[chosen], side.bars[chosen], side.halves[chosen]), places[chosen]


def _area(scores: np.ndarray, target: np.ndarray) -> float:
    """Mann and Whitney's statistic as a share: the chance that a current row scores above a reference row,
    ties counting half.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    positive = int(target.sum())
    return float(
        (rank[place][target == 1].sum() - positive * (positive + 1) / 2)
        / (positive * (len(target) - positive))
    )
