"""Puts the evidence of a fold's own eras together: which inputs the fold sees, which are core, which plus,
and why each of the others is not among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.metrics import adjusted_p_values
from components.selection.config import Settings
from components.selection.eras import METHODS, Evidence
from components.selection.evidence import CHOSEN, EVIDENCE, FIGURES, NUMBERS, STEADY_DIRECTION, reason_of
from components.selection.pooled import (
    inflation,
    luck,
    mean_correlation,
    mean_over,
    pooled_permutation,
    representatives,
    steady_share,
)
from components.selection.rolling import Rolling
from components.selection.rows import Rows

# Share of the methods that must vote for an input for it to appear in an era.
MAJORITY = 0.5
# Share of eras in which a core input appears at least.
CORE_SHARE = 0.5
# Of the core list and the rolling IC (Benjamini and Hochberg).
FALSE_DISCOVERY_RATE = 0.1
# Training windows with fewer bars count as short.
SHORT_HISTORY_BARS = 504


@dataclass(frozen=True)
class FoldChoice:
    """The inputs of a fold in the catalog's order, and its rows of the EVIDENCE table."""

    inputs: tuple[str, ...]
    evidence: pl.DataFrame


def choose_for_fold(
    rows: Rows,
    fold: str,
    bars: np.ndarray,
    evidence: Sequence[Evidence],
    measured: Rolling,
    settings: Settings,
) -> FoldChoice:
    """Decide for one fold from the evidence of the eras inside its training bars.

    Parameters
    ----------
    bars : the fold's training bars, sorted
    evidence : pairs of eras that lie in them
    measured : rolling IC of them
    """
    case = _weighed(rows, bars, evidence, measured, settings)
    decision = _decided(case, settings)
    size = len(rows.names)
    columns = {
        "fold": [fold] * size,
        "factor": rows.names,
        "group": rows.groups,
        "decision": decision.tolist(),
        "reason": [""] * size,
        "cluster": [rows.names[place] for place in case.stands_for],
        **_measured_columns(measured),
        **{name: mean_over([found.figures.get(name) for found in evidence], size) for name in FIGURES},
        **pooled_permutation(evidence, size),
        **case.columns(),
    }
    table = pl.DataFrame(columns, schema=dict(EVIDENCE.columns), strict=False).with_columns(
        pl.col(NUMBERS).fill_nan(None)
    )
    reasons = [reason_of(row, settings, case.chance) for row in table.iter_rows(named=True)]
    table = table.with_columns(pl.Series("reason", reasons)).sort("factor")
    taken = np.isin(decision, CHOSEN)
    return FoldChoice(tuple(name for name, of in zip(rows.names, taken, strict=True) if of), table)


@dataclass(frozen=True)
class _Case:
    """What a fold's decision rests on; arrays over F inputs.

    `left` are usable and stand for their cluster, `kept` of them are not explained by the others; `asked`
    counts the eras that could vote, `appearance` is the share in which the majority did, `p` and `q` how
    likely chance does so, `steady` the share of eras with the window's sign, `listed` the place on the
    rolling list (0: none).
    """

    coverage: np.ndarray
    strength: np.ndarray
    usable: np.ndarray
    stands_for: np.ndarray
    left: np.ndarray
    kept: np.ndarray
    vif: np.ndarray
    votes: dict[str, np.ndarray]
    vote_share: np.ndarray
    asked: np.ndarray
    appearance: np.ndarray
    p: np.ndarray
    q: np.ndarray
    steady: np.ndarray
    listed: np.ndarray
    chance: float

    def columns(self) -> dict[str, np.ndarray]:
        """The case as columns of EVIDENCE."""
        nothing = np.full(len(self.usable), np.nan)
        return {
            "eras": self.asked,
            "rolling_list_place": self.listed,
            "coverage": self.coverage,
            "vif": self.vif,
            "steady_share": self.steady,
            **{f"votes_{method}": self.votes.get(method, nothing) for method in METHODS},
            "vote_share": self.vote_share,
            "appearance": self.appearance,
            "appearance_p": self.p,
            "appearance_q": self.q,
        }


def _weighed(
    rows: Rows,
    bars: np.ndarray,
    evidence: Sequence[Evidence],
    measured: Rolling,
    settings: Settings,
) -> _Case:
    size, limits = len(rows.names), settings.filter
    inside = np.isin(rows.bars, bars)
    coverage = np.array([np.isfinite(rows.values[inside, column]).mean() for column in range(size)])
    usable = (coverage >= limits.least_coverage) & (
        np.mean([found.usable for found in evidence], axis=0) >= 0.5
    )
    correlation = mean_correlation(evidence)
    strength = np.where(np.isfinite(measured.t), np.abs(measured.t), 0.0)
    stands_for = representatives(usable, correlation, strength, coverage, limits.largest_correlation)
    left = usable & (stands_for == np.arange(size))
    vif, kept = inflation(left, correlation, strength, limits.largest_vif)
    votes, vote_share, appears = _votes(evidence, size)
    chance = float(np.mean([found.chance for found in evidence]))
    asked, appeared = np.isfinite(appears).sum(axis=0), np.nansum(appears, axis=0)
    p = luck(appeared, asked, chance)
    return _Case(
        coverage=coverage,
        strength=strength,
        usable=usable,
        stands_for=stands_for,
        left=left,
        kept=kept,
        vif=vif,
        votes=votes,
        vote_share=vote_share,
        asked=asked,
        appearance=appeared / np.maximum(asked, 1),
        p=p,
        q=adjusted_p_values(np.where(kept, p, np.nan)),
        steady=steady_share(evidence, measured.mean),
        listed=_rolling_list(kept, measured, len(bars), settings),
        chance=chance,
    )


def _decided(case: _Case, settings: Settings) -> np.ndarray:
    """The decision on each input, (F,) text."""
    core = (
        case.kept
        & (case.appearance >= CORE_SHARE)
        & (case.q <= FALSE_DISCOVERY_RATE)
        & ~(case.steady < STEADY_DIRECTION)
    )
    plus = case.kept & ~core & ((case.p <= settings.plus_chance) | (case.listed > 0))
    last_resort = np.where(case.kept, 0, np.where(case.left, 1, 2))
    order = np.lexsort((-case.strength, -case.appearance, last_resort))
    spare = order[(case.usable & ~core & ~plus)[order]]
    wanting = max(settings.fewest_inputs - int(core.sum() + plus.sum()), 0)
    filled = np.isin(np.arange(len(core)), spare[:wanting])
    return np.select(
        [core, plus, filled, ~case.usable, case.usable & ~case.left, case.left & ~case.kept],
        ["core", "plus", "filled", "no data", "duplicate", "collinear"],
        "left out",
    )


def _measured_columns(measured: Rolling) -> dict[str, np.ndarray]:
    return {
        "half_life_bars": measured.half_life,
        "ic": measured.mean,
        "ic_t": measured.t,
        "ic_q": measured.q,
        "rolling_ic": measured.weighted,
        "rolling_ic_t": measured.weighted_t,
    }


def _rolling_list(kept: np.ndarray, measured: Rolling, bars: int, settings: Settings) -> np.ndarray:
    """Place on the list of the rolling IC of so many bars, from 1; 0 for inputs that are not on it.

    It is shorter in degraded mode, with a short history.
    """
    short = bars < SHORT_HISTORY_BARS
    longest = settings.filter.top_inputs_short if short else settings.filter.top_inputs
    place = _places(np.where(kept & np.isfinite(measured.weighted_t), np.abs(measured.weighted_t), -np.inf))
    return np.where(kept & (place <= longest) & (measured.q <= FALSE_DISCOVERY_RATE), place, 0)


def _votes(evidence: Sequence[Evidence], size: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Share of eras in which each method votes for each input, the mean share of methods, and (eras, F)
    whether it appears; NaN where unusable.
    """
    shares = np.stack([mean_over(list(found.votes.values()), size) for found in evidence])
    appears = np.where(np.isfinite(shares), shares >= MAJORITY, np.nan)
    votes = {method: mean_over([found.votes.get(method) for found in evidence], size) for method in METHODS}
    return votes, mean_over(list(shares), size), appears


def _places(values: np.ndarray) -> np.ndarray:
    """Place of each value, 1 for the largest."""
    place = np.empty(len(values), dtype=np.int64)
    place[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return place
