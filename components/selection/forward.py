"""Forward comparison: the chosen inputs against all of them on the bars that a fold predicts.

Reported, never used to choose.
"""

from dataclasses import asdict, dataclass

import numpy as np

from components.contracts.documents.fields import Figure
from components.metrics import block_bootstrap_interval
from components.selection.config import Settings
from components.selection.models import prepare
from components.selection.purpose import Purpose
from components.selection.rows import Rows, bar_starts
from components.timeline import Fold

ROUNDS = 120
# Rows that subset and full set learn from in the forward comparison; evenly spaced bars where there are
# more.
FORWARD_ROWS = 120_000


@dataclass(frozen=True)
class Forward:
    """Mean RankIC of subset and full set on a fold's predicted bars, their difference and its 95 % interval
    by block bootstrap over bars.
    """

    fold: str
    inputs: int
    all_inputs: int
    subset: Figure
    full: Figure
    difference: Figure
    low: Figure
    high: Figure
    bars: int


def compare(
    rows: Rows,
    fold: Fold,
    chosen: tuple[str, ...],
    purpose: Purpose,
    settings: Settings,
) -> tuple[Forward, np.ndarray]:
    """Fit the family's model on the fold's train bars with both sets and rank the predicted bars; also the
    difference of each bar (bars,).
    """
    from components.selection.kernels import rank_correlations

    train = rows.slice(int(fold.train[0]), int(fold.train[-1]) + 1)
    stride = max(purpose.horizon, -(-(train.stop - train.start) // FORWARD_ROWS))
    learned = train.start + np.flatnonzero((rows.bars[train] % stride == 0) & np.isfinite(rows.target[train]))
    ahead = rows.slice(int(fold.predict[0]), int(fold.predict[-1]) + 1)
    judged = ahead.start + np.flatnonzero(np.isfinite(rows.target[ahead]))
    starts = bar_starts(rows.bars[judged])
    daily = []
    for columns in ([rows.names.index(name) for name in chosen], list(range(len(rows.names)))):
        model = prepare(
            purpose.family,
            _taken(rows.values, learned, columns),
            rounds=ROUNDS,
            threads=settings.threads,
            seed=purpose.seed,
        ).fit(rows.target[learned])
        outputs = model.outputs(_taken(rows.values, judged, columns))
        daily.append(np.nan_to_num(rank_correlations(outputs[:, None], rows.target[judged], starts)[:, 0]))
    difference = daily[0] - daily[1]
    low, high = interval(difference, purpose, settings)
    found = Forward(
        fold.name,
        len(chosen),
        len(rows.names),
        float(daily[0].mean()),
        float(daily[1].mean()),
        float(difference.mean()),
        low,
        high,
        len(difference),
    )
    return found, difference


def interval(difference: np.ndarray, purpose: Purpose, settings: Settings) -> tuple[float, float]:
    """95 % interval of a mean over dependent bars."""
    block = max(settings.block_bars, 2 * purpose.horizon)
    return block_bootstrap_interval(
        difference,
        lambda draws: draws.mean(axis=1),
        block_bars=block,
        draws=settings.forward_draws,
        level=0.95,
        seed=purpose.seed,
    )


def together(
    found: list[Forward], differences: list[np.ndarray], purpose: Purpose, settings: Settings
) -> Forward:
    """All folds as one series of bars."""
    joined = np.concatenate(differences)
    low, high = interval(joined, purpose, settings)
    bars = np.array([one.bars for one in found])
    mean = {
        name: float(np.average([asdict(one)[name] for one in found], weights=bars))
        for name in ("subset", "full")
    }
    return Forward(
        "all",
        round(np.mean([one.inputs for one in found])),
        found[0].all_inputs,
        mean["subset"],
        mean["full"],
        float(joined.mean()),
        low,
        high,
        len(joined),
    )


def _taken(values: np.ndarray, places: np.ndarray, columns: list[int]) -> np.ndarray:
    taken = np.empty((len(places), len(columns)), dtype=np.float32)
    for position, column in enumerate(columns):
        taken[:, position] = values[places, column]
    return taken
