"""Adversarial validation: can a classifier tell the newest bars before a fold predicts from the rest of its
training window? Inputs only, no labels.

What all symbols of a bar share (calendar, state of the market) has one value a bar and tells any two spans
apart, so it is left out; symbols keep their place for months, so the classifier is judged on symbols it did
not learn from; neighbouring bars resemble each other, so it is judged on blocks of bars it did not learn
from, with a gap beside them. How well older windows of the same length are told apart is given beside it.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.contracts.documents.fields import Figure
from components.selection.config import Settings
from components.selection.rows import Rows

if TYPE_CHECKING:
    import lightgbm

BLOCKS = 4
ROUNDS = 30
NAMED = 10
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "max_bin": 31,
    "verbosity": -1,
}
# Newest bars before the fold predicts.
RECENT_BARS = 63


@dataclass(frozen=True)
class Adversarial:
    """Area under the curve of one fold, of older windows, whether it is flagged, and (input, share of the
    gain) of the heaviest; `reason` where it was not measured.
    """

    fold: str
    auc: Figure
    usual: tuple[float, ...]
    flagged: bool
    factors: tuple[tuple[str, float], ...]
    left_out: tuple[str, ...]
    reason: str = ""


def adversarial(
    rows: Rows, fold: str, window: tuple[int, int], *, settings: Settings, usual_windows: int, seed: int
) -> Adversarial:
    """Judge the window [first, end) of bars known before the fold predicts: its newest `RECENT_BARS` against
    the rest.

    Windows shorter than four times `RECENT_BARS` are not judged.
    """
    first, end = window
    recent = RECENT_BARS
    shared = _shared(rows, first, end)
    left_out = tuple(np.array(rows.names)[shared].tolist())
    reason = "no input differs between symbols" if shared.all() else ""
    if end - first < 4 * recent:
        reason = f"{end - first} bars are fewer than four times recent_bars={recent}"
    if reason:
        return Adversarial(fold, float("nan"), (), False, (), left_out, reason)
    columns = np.flatnonzero(~shared)
    # Half a window between the two sides: what lies right before the newest bars is neither.
    gap = recent // 2
    auc, gain = _separation(rows, columns, (first, end - recent - gap), [(end - recent, end)], settings, seed)
    usual = []
    for start, others in _older_windows(first, end, recent, gap, usual_windows):
        usual.append(_separation(rows, columns, (start, start + recent), others, settings, seed)[0])
    order = np.argsort(-gain)[:NAMED]
    named = tuple((rows.names[columns[k]], float(gain[k])) for k in order if gain[k] > 0)
    known = tuple(area for area in usual if np.isfinite(area))
    return Adversarial(fold, auc, known, bool(auc > settings.adversarial.auc), named, left_out)


def _older_windows(
    first: int, end: int, recent: int, gap: int, count: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """First bar of each of `count` older windows as long as the newest one, and the spans it is told from."""
    if not count:
        return
    for start in np.linspace(first + recent + gap, end - 2 * recent - gap, count).astype(int):
        spans = (first, start - gap), (start + recent + gap, end - recent)
        yield start, [(a, b) for a, b in spans if b - a >= 2 * BLOCKS]


def _shared(rows: Rows, first: int, end: int) -> np.ndarray:
    """Inputs that hardly differ between the symbols of a bar: their spread within bars is under a hundredth
    of that over all rows; shape (F,).
    """
    bars = np.unique(np.linspace(first, end - 1, 40).astype(int))
    within, everything = [], []
    for bar in bars:
        values = rows.values[rows.slice(int(bar), int(bar) + 1)]
        everything.append(values)
        within.append(_deviation(values))
    spread = np.nanmean(np.where(np.isfinite(within), within, 0.0), axis=0)
    return spread <= 0.01 * np.maximum(np.nan_to_num(_deviation(np.concatenate(everything))), 1e-12)


def _deviation(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0, dtype=float) / count
    return np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)


def _separation(
    rows: Rows,
    columns: np.ndarray,
    one: tuple[int, int],
    others: Sequence[tuple[int, int]],
    settings: Settings,
    seed: int,
) -> tuple[float, np.ndarray]:
    """Mean area under the curve over held-out blocks of bars and halves of the symbols, and each column's
    share of the gain.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng([seed, one[0]])
    half = np.random.default_rng(seed).permutation(rows.n_symbols) % 2
    sides = [_side(rows, [one], settings, rng), _side(rows, others, settings, rng)]
    place = np.concatenate(sides)
    target = np.repeat([0, 1], [len(side) for side in sides])
    block = np.concatenate([_blocks(rows.bars[side]) for side in sides])
    values = np.ascontiguousarray(rows.values[np.ix_(place, columns)])
    areas, gain = [], np.zeros(len(columns))
    for held_block, held_half in itertools.product(range(BLOCKS), (0, 1)):
        mine = half[rows.symbols[place]] == held_half
        held = (np.floor(block) == held_block) & mine
        near = np.abs(block - (held_block + 0.5)) < 0.75
        learned = ~near & ~mine
        if not (_has_both(target[held]) and _has_both(target[learned])):
            continue
        model = _classifier(values[learned], target[learned], settings.threads, seed)
        scores = model.predict(values[held], num_threads=settings.threads)
        areas.append(roc_auc_score(target[held], scores))
        gain += model.feature_importance("gain")
    return (float(np.mean(areas)) if areas else float("nan")), gain / gain.sum() if gain.sum() > 0 else gain


def _has_both(target: np.ndarray) -> bool:
    return len(target) > 0 and 0 < target.mean() < 1


def _classifier(values: np.ndarray, target: np.ndarray, threads: int, seed: int) -> "lightgbm.Booster":
    """A small forest; both sides weigh the same, however many rows they have."""
    import lightgbm

    share = target.mean()
    data = lightgbm.Dataset(values, label=target, weight=np.where(target == 1, 1 - share, share))
    reproducible = {
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "min_sum_hessian_in_leaf": 1e-3,
    }
    return lightgbm.train(PARAMETERS | reproducible, data, ROUNDS)


def _side(
    rows: Rows, spans: Sequence[tuple[int, int]], settings: Settings, rng: np.random.Generator
) -> np.ndarray:
    """Positions of at most `most_rows` rows of the spans of bars."""
    place = np.concatenate([np.arange(*rows.slice(a, b).indices(len(rows.bars))[:2]) for a, b in spans])
    most = settings.adversarial.most_rows
    return place if len(place) <= most else np.sort(rng.choice(place, most, replace=False))


def _blocks(bars: np.ndarray) -> np.ndarray:
    """Place of each row's bar in four contiguous blocks, as a number in [0, 4)."""
    _, number = np.unique(bars, return_inverse=True)
    return number / (number.max() + 1) * BLOCKS
