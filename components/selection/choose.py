"""Puts the evidence of a fold's own eras together: which inputs the fold sees, which are core, which plus,
and why each of the others is not among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.contracts import Table
from components.metrics import adjusted_p_values
from components.selection.config import Settings
from components.selection.eras import METHODS, Evidence, clusters
from components.selection.rolling import Rolling
from components.selection.rows import Rows

FIGURES = (
    "mutual_information",
    "importance_share",
    "shap_share",
    "path_order",
    "elimination_rank",
    "gene_frequency",
)
TEXT = ("fold", "factor", "group", "decision", "reason", "cluster")
WHOLE = ("eras", "half_life_bars", "proposed_lag_bars", "rolling_list_place")
NUMBERS = (
    "coverage",
    "vif",
    "ic",
    "ic_t",
    "ic_q",
    "rolling_ic",
    "rolling_ic_t",
    "lag_ic",
    "lag_q",
    "steady_share",
    *FIGURES,
    "permutation_loss",
    "permutation_std",
    "permutation_low",
    "permutation_high",
    "gate_weight",
    *(f"votes_{method}" for method in METHODS),
    "votes_gate_weight",
    "vote_share",
    "appearance",
    "appearance_p",
    "appearance_q",
)
# One row a fold and input: what each stage found inside the fold's training bars, the decision and the
# reason.
EVIDENCE = Table(
    name="selection_evidence",
    version=1,
    columns={
        **dict.fromkeys(TEXT, pl.String()),
        **dict.fromkeys(WHOLE, pl.Int64()),
        **dict.fromkeys(NUMBERS, pl.Float64()),
    },
    key=("fold", "factor"),
)
CHOSEN = ("core", "plus", "filled")


@dataclass(frozen=True)
class FoldChoice:
    """The inputs of a fold in the catalog's order, and its rows of the EVIDENCE table."""

    inputs: tuple[str, ...]
    evidence: pl.DataFrame


def choose(
    rows: Rows,
    fold: str,
    window: tuple[int, int],
    evidence: Sequence[Evidence],
    measured: Rolling,
    settings: Settings,
    gate_weights: Mapping[str, float] | None = None,
) -> FoldChoice:
    """Decide for one fold from the evidence of the eras inside its training bars.

    Parameters
    ----------
    window : the fold's training bars as [first, end)
    evidence : pairs of eras that lie in the window
    measured : rolling IC of the window
    gate_weights : weight of each input in an expert's gate, learned in this fold's training bars
    """
    size = len(rows.names)
    coverage = np.array(
        [np.isfinite(rows.values[rows.slice(*window), column]).mean() for column in range(size)]
    )
    usable = (coverage >= settings.filter.least_coverage) & (
        np.mean([found.usable for found in evidence], axis=0) >= 0.5
    )
    correlation = _mean_correlation(evidence)
    strength = np.where(np.isfinite(measured.t), np.abs(measured.t), 0.0)
    stands_for = _representatives(
        usable, correlation, strength, coverage, settings.filter.largest_correlation
    )
    left = usable & (stands_for == np.arange(size))
    vif, kept = _inflation(left, correlation, strength, settings.filter.largest_vif)
    votes, weights, vote_share, appears = _votes(rows, evidence, settings, gate_weights)
    chance = float(np.mean([found.chance for found in evidence]))
    asked = np.isfinite(appears).sum(axis=0)
    appearance = np.nansum(appears, axis=0) / np.maximum(asked, 1)
    p = _luck(np.nansum(appears, axis=0), asked, chance)
    q = adjusted_p_values(np.where(kept, p, np.nan))
    steady = _steady_share(evidence, measured.mean)
    listed = _rolling_list(kept, measured, window, settings)
    core = (
        kept
        & (appearance >= settings.core_share)
        & (q <= settings.false_discovery_rate)
        & ~(steady < settings.steady_direction)
    )
    plus = kept & ~core & ((p <= settings.plus_chance) | (listed > 0))
    order = np.lexsort((-strength, -appearance, np.where(kept, 0, np.where(left, 1, 2))))
    spare = order[(usable & ~core & ~plus)[order]]
    filled = np.isin(np.arange(size), spare[: max(settings.fewest_inputs - int(core.sum() + plus.sum()), 0)])
    decision = np.select(
        [core, plus, filled, ~usable, usable & ~left, left & ~kept],
        ["core", "plus", "filled", "no data", "duplicate", "collinear"],
        "left out",
    )
    columns = {
        "fold": [fold] * size,
        "factor": rows.names,
        "group": rows.groups,
        "decision": decision.tolist(),
        "reason": [""] * size,
        "cluster": [rows.names[place] for place in stands_for],
        "eras": asked,
        "half_life_bars": measured.half_life,
        "proposed_lag_bars": measured.lag,
        "rolling_list_place": listed,
        "coverage": coverage,
        "vif": vif,
        "ic": measured.mean,
        "ic_t": measured.t,
        "ic_q": measured.q,
        "rolling_ic": measured.weighted,
        "rolling_ic_t": measured.weighted_t,
        "lag_ic": measured.lag_ic,
        "lag_q": measured.lag_q,
        "steady_share": steady,
        **{name: _mean_over([found.figures.get(name) for found in evidence], size) for name in FIGURES},
        **_pooled_permutation(evidence, size),
        "gate_weight": weights,
        **{
            f"votes_{method}": votes.get(method, np.full(size, np.nan))
            for method in (*METHODS, "gate_weight")
        },
        "vote_share": vote_share,
        "appearance": appearance,
        "appearance_p": p,
        "appearance_q": q,
    }
    table = pl.DataFrame(columns, schema=dict(EVIDENCE.columns), strict=False).with_columns(
        pl.col(NUMBERS).fill_nan(None)
    )
    table = table.with_columns(
        pl.Series("reason", [_reason(row, settings, chance) for row in table.iter_rows(named=True)])
    ).sort("factor")
    return FoldChoice(
        tuple(name for name, taken in zip(rows.names, core | plus | filled, strict=True) if taken), table
    )


def _rolling_list(
    kept: np.ndarray, measured: Rolling, window: tuple[int, int], settings: Settings
) -> np.ndarray:
    """Place on the list of the rolling IC, from 1; 0 for inputs that are not on it.

    It is shorter in degraded mode, with a short history.
    """
    short = window[1] - window[0] < settings.filter.short_history_bars
    longest = settings.filter.top_inputs_short if short else settings.filter.top_inputs
    place = _places(np.where(kept & np.isfinite(measured.weighted_t), np.abs(measured.weighted_t), -np.inf))
    return np.where(kept & (place <= longest) & (measured.q <= settings.false_discovery_rate), place, 0)


def _votes(
    rows: Rows, evidence: Sequence[Evidence], settings: Settings, gate_weights: Mapping[str, float] | None
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Share of eras in which each method votes for each input, the gate weights, the mean share of methods,
    and (eras, F) whether it appears; NaN where unusable.
    """
    weights = np.array(
        [
            float("nan") if gate_weights is None else gate_weights.get(name, float("nan"))
            for name in rows.names
        ]
    )
    gate = None
    if np.isfinite(weights).any():
        share = float(np.mean([found.chance for found in evidence]))
        gate = np.where(np.isfinite(weights), weights > np.nanquantile(weights, 1 - share), np.nan)
    shares = []
    for found in evidence:
        cast = [*found.votes.values(), *([] if gate is None else [np.where(found.usable, gate, np.nan)])]
        shares.append(_mean_over(cast, len(rows.names)))
    shares = np.stack(shares)
    appears = np.where(np.isfinite(shares), shares >= settings.majority, np.nan)
    votes = {
        method: _mean_over([found.votes.get(method) for found in evidence], len(rows.names))
        for method in METHODS
    }
    if gate is not None:
        votes["gate_weight"] = gate
    return votes, weights, _mean_over(list(shares), len(rows.names)), appears


def _mean_over(arrays: Sequence[np.ndarray | None], size: int) -> np.ndarray:
    """Mean of what is finite, place by place; NaN where nothing is."""
    found = [array for array in arrays if array is not None]
    if not found:
        return np.full(size, np.nan)
    stacked = np.stack(found)
    known = np.isfinite(stacked)
    return np.where(
        known.any(axis=0), np.where(known, stacked, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )


def _mean_correlation(evidence: Sequence[Evidence]) -> np.ndarray:
    size = len(evidence[0].usable)
    return _mean_over([found.correlation.ravel() for found in evidence], size * size).reshape(size, size)


def _representatives(
    usable: np.ndarray, correlation: np.ndarray, strength: np.ndarray, coverage: np.ndarray, largest: float
) -> np.ndarray:
    """For each input the position of the strongest of its cluster by the IC's t-statistic, then coverage,
    then the catalog's order.
    """
    places, stands_for = np.flatnonzero(usable), np.arange(len(usable))
    if not len(places):
        return stands_for
    number = clusters(np.nan_to_num(correlation[np.ix_(places, places)]), largest)
    for cluster in np.unique(number):
        members = places[number == cluster]
        stands_for[members] = members[
            np.lexsort((-coverage[members].round(6), -strength[members].round(6)))[0]
        ]
    return stands_for


def _inflation(
    left: np.ndarray, correlation: np.ndarray, strength: np.ndarray, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Variance inflation factor of each input among those left (a ridge of 1e-6 stands in for a missing
    inverse), and which stay: of those above the limit the weakest goes, one by one.
    """
    kept, vif = left.copy(), np.full(len(left), np.nan)
    while kept.any():
        places = np.flatnonzero(kept)
        among = np.nan_to_num(correlation[np.ix_(places, places)])
        np.fill_diagonal(among, 1 + 1e-6)
        # Correlations averaged over eras need not be positive definite; the smallest eigenvalues are lifted.
        values, vectors = np.linalg.eigh((among + among.T) / 2)
        now = ((vectors**2) / np.maximum(values, 1e-6)).sum(axis=1)
        vif[places] = now
        over = places[now > largest]
        if not len(over):
            break
        kept[over[np.argmin(strength[over])]] = False
    return vif, kept


def _luck(appeared: np.ndarray, asked: np.ndarray, chance: float) -> np.ndarray:
    """Chance that a useless input appears in so many eras or more: a binomial tail."""
    from scipy.stats import binom

    return np.where(asked > 0, binom.sf(appeared - 1, np.maximum(asked, 1), chance), np.nan)


def _steady_share(evidence: Sequence[Evidence], mean: np.ndarray) -> np.ndarray:
    """Share of eras whose mean RankIC has the sign of the window's; NaN for inputs that order nothing."""
    signs = np.stack([found.figures["era_ic"] for found in evidence])
    known = np.isfinite(signs)
    share = (known & (np.sign(signs) == np.sign(mean))).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0) & np.isfinite(mean), share, np.nan)


def _pooled_permutation(evidence: Sequence[Evidence], size: int) -> dict[str, np.ndarray]:
    """Mean loss over eras, the mean standard deviation over draws, and the 95 % interval from the spread of
    the eras (Student's t).
    """
    from scipy.stats import t

    losses = np.stack([found.figures.get("permutation_loss", np.full(size, np.nan)) for found in evidence])
    known = np.isfinite(losses).sum(axis=0)
    mean = _mean_over(list(losses), size)
    spread = np.sqrt(
        np.where(known > 1, np.nansum((losses - mean) ** 2, axis=0) / np.maximum(known - 1, 1), np.nan)
    )
    half = t.isf(0.025, np.maximum(known - 1, 1)) * spread / np.sqrt(np.maximum(known, 1))
    deviation = _mean_over([found.figures.get("permutation_std") for found in evidence], size)
    return {
        "permutation_loss": mean,
        "permutation_std": deviation,
        "permutation_low": mean - half,
        "permutation_high": mean + half,
    }


def _places(values: np.ndarray) -> np.ndarray:
    """Place of each value, 1 for the largest."""
    place = np.empty(len(values), dtype=np.int64)
    place[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return place


def _reason(row: Mapping[str, Any], settings: Settings, chance: float) -> str:
    """The decision of a row of EVIDENCE in a few words."""
    chosen, seen = settings.filter, f"appears in {row['appearance']:.0%} of {row['eras']} eras"
    if row["decision"] == "no data":
        low = row["coverage"] < chosen.least_coverage
        return (
            f"{row['coverage']:.0%} of rows hold a value, {chosen.least_coverage:.0%} are needed"
            if low
            else "does not vary, or has too few values, in most eras"
        )
    if row["decision"] == "duplicate":
        return (
            f"correlates by more than {chosen.largest_correlation:g} with {row['cluster']}, whose IC is"
            " stronger"
        )
    if row["decision"] == "collinear":
        return f"the others explain it (VIF {row['vif']:.0f}, limit {chosen.largest_vif:g}); {seen}"
    if row["decision"] == "core":
        return f"{seen}, chance gives {chance:.0%}; q = {row['appearance_q']:.3f}"
    if row["decision"] == "plus":
        listed = (
            f"; number {row['rolling_list_place']} of the rolling-IC list"
            if row["rolling_list_place"]
            else ""
        )
        turning = row["steady_share"] is not None and row["steady_share"] < settings.steady_direction
        lacking = "direction changes between eras" if turning else f"q = {row['appearance_q']:.2f}"
        return f"{seen}{listed}; not core: {lacking}"
    return f"taken to reach {settings.fewest_inputs} inputs; {seen}" if row["decision"] == "filled" else seen
