"""Experts that learned another task than the one that is stacked: which of them may take part, and in what
unit their uncertainty counts.

Combiners see an expert's standing among the symbols of a bar, which has no unit: a guest's score needs no
more than to order symbols by the label of the stack. Whether it does is told by rows whose label was known
before, and so is the width of its band.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.classes import class_values
from components.contracts.documents.experts import STATUS, TrainedExpert, read_status
from components.contracts.targets import NO_ORDERING
from components.metrics import t_value
from components.scoring.stacker import SMALLEST_WIDTH, Z90
from components.stacking.combiners import daily_rank_ics

# One chance in twenty that a guest without any relation to the label is let in.
LEAST_T = 1.645


def own_tasks(folders: list[Path]) -> dict[str, tuple[str, int]]:
    """The own (target, horizon) of each trained expert."""
    found = (read_status(folder / STATUS) for folder in folders)
    return {one.expert: (one.target, one.horizon) for one in found if isinstance(one, TrainedExpert)}


def may_take_part(own: str, target: str) -> bool:
    """Whether a score of the target `own` may be worth something for another target: both order symbols by
    what they earn, and the stack's is a number. A stack of classes pools probabilities, which are of its own
    classes alone.
    """
    return not class_values(target) and own not in NO_ORDERING and target not in NO_ORDERING


def relations(guests: Sequence[str], known: pl.DataFrame, horizon: int) -> dict[str, float | None]:
    """t value of each guest's RankIC against the stack's label over its bars; None where they are too few.

    Parameters
    ----------
    known : combiner's inputs of rows with known labels
    horizon : bars of the stack's label: what neighbouring bars have in common beyond chance, whatever a guest
        learned
    """
    if not guests:
        return {}
    daily = daily_rank_ics(known, [f"z_{name}" for name in guests])
    found = {name: t_value(daily[f"z_{name}"].drop_nulls().to_numpy(), horizon=horizon) for name in guests}
    return {name: float(t) if np.isfinite(t) else None for name, t in found.items()}


def taking_part(
    useful: Sequence[str], experts: Sequence[str], related: Mapping[str, float | None]
) -> list[str]:
    """Those that a stack is made of: the `useful` ones, guests (by their `relations`) only where theirs is
    clear; where none is left all `experts` that learned its task.
    """
    welcome = {name for name, t in related.items() if t is not None and t > LEAST_T}
    found = [name for name in useful if name not in related or name in welcome]
    return found or [name for name in experts if name not in related]


def fit_widths(guests: list[str], known: pl.DataFrame) -> dict[str, float]:
    """The factor by which each guest's uncertainty becomes one of the stack's label: four fifths of the known
    labels lie within it around the line through its scores. 1 where nothing is known.
    """
    if known.is_empty():
        return dict.fromkeys(guests, 1.0)
    label = known["label"].to_numpy()
    return {name: _width(known, name, label) for name in guests}


def _width(known: pl.DataFrame, name: str, label: np.ndarray) -> float:
    score = known[f"score_{name}"].to_numpy()
    deviation = score - score.mean()
    power = float(deviation @ deviation)
    slope = max(float(deviation @ (label - label.mean())) / power, 0.0) if power > 0 else 0.0
    error = np.abs(label - label.mean() - slope * deviation)
    given = np.maximum(known[f"uncertainty_{name}"].to_numpy(), SMALLEST_WIDTH)
    return max(float(np.quantile(error / given, 0.8)) / Z90, SMALLEST_WIDTH)


def in_unit(rows: pl.DataFrame, widths: Mapping[str, float]) -> pl.DataFrame:
    """The rows with the guests' uncertainties in the unit of the stack's label."""
    return rows.with_columns(pl.col(f"uncertainty_{name}") * factor for name, factor in widths.items())
