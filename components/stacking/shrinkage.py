"""Weights of experts that are shrunk towards equal ones, as far as the data can't tell them apart."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import REGIMES
from components.metrics import long_run_variance
from components.stacking.inputs import standardised_scores

# Added to the experts' correlations, so that two that say the same don't cancel each other.
RIDGE = 1e-3
# Variances of the true weights that are tried, in units of the mean variance of the estimated ones; 0 is
# equal weights.
VARIANCES = (0.0, *np.geomspace(0.01, 100.0, 33).tolist())
# Bars of a regime below which it has the weights of all bars.
FEWEST_REGIME_BARS = 20


@dataclass(frozen=True)
class Estimate:
    """Least-squares weights of the experts [E], and the covariance [E, E] of their errors."""

    weights_E: np.ndarray
    covariance_EE: np.ndarray


def shrunk_weights(known: pl.DataFrame, experts: list[str]) -> dict[str, float] | None:
    """Non-negative weights by expert; None where none is left.

    The least-squares weights are taken for draws around a common weight. How far the true ones lie from it is
    estimated with it (Morris 1983, *Parametric empirical Bayes inference*; with several experts it is the
    estimate of James and Stein); where they differ by no more than the errors explain, all weights are equal.
    """
    weights_E = _shrunk_to_common(_estimate(known, experts))
    return _as_weights(np.maximum(weights_E, 0.0), experts)


def regime_weights(known: pl.DataFrame, experts: list[str]) -> dict[str, float] | None:
    """Weights by expert and by `expert|regime`, on top of these; None where none is left.

    The weights of a regime are shrunk towards those of all bars, by the same rule with one variance for all
    regimes: where regimes differ by no more than the errors explain, all have the same weights.
    """
    common_E = _shrunk_to_common(_estimate(known, experts))
    found = {
        regime: _estimate(rows, experts)
        for regime in REGIMES
        if (rows := known.filter(pl.col(f"regime_{regime}") == 1))["timestamp"].n_unique()
        >= FEWEST_REGIME_BARS
    }
    whole = _as_weights(np.maximum(common_E, 0.0), experts)
    if whole is None:
        return None
    variance = _likeliest_variance(list(found.values()), common_E)
    for regime in REGIMES:
        moved_E = _towards(common_E, found[regime], variance) if regime in found else common_E
        steps_E = np.maximum(moved_E, 0.0) - np.maximum(common_E, 0.0)
        whole |= {f"{name}|{regime}": float(step) for name, step in zip(experts, steps_E, strict=True)}
    return whole


def _estimate(known: pl.DataFrame, experts: list[str]) -> Estimate:
    """Least squares with bars of equal weight; errors of neighbouring bars belong together, where labels
    overlap their variance counts as often as in the long run.
    """
    rows = known.sort("timestamp")
    score_BE, label_B = standardised_scores(rows, experts), rows["label_z"].to_numpy()
    sizes_T = rows.group_by("timestamp", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    starts_T = np.concatenate([[0], np.cumsum(sizes_T)[:-1]])

    def mean_product(value_B: np.ndarray) -> np.ndarray:
        return np.add.reduceat(score_BE * value_B[:, None], starts_T) / sizes_T[:, None]

    row_weight_B = np.repeat(1.0 / (sizes_T * len(sizes_T)), sizes_T)
    gram_EE = score_BE.T @ (score_BE * row_weight_B[:, None]) + RIDGE * np.eye(len(experts))
    weights_E = np.linalg.solve(gram_EE, mean_product(label_B).mean(axis=0))
    score_TE = mean_product(label_B - score_BE @ weights_E)
    inverse_EE = np.linalg.inv(gram_EE)
    within_EE = np.atleast_2d(np.cov(score_TE.T)) * _overlap(score_TE, int(known["horizon"][0]))
    return Estimate(weights_E, inverse_EE @ within_EE @ inverse_EE / len(sizes_T))


def _overlap(score_TE: np.ndarray, horizon: int) -> float:
    """How many times the variance of one bar the long-run variance is; never below 1. Where the bars are too
    few to know, the horizon: the most that overlap makes of independent bars.
    """
    long_run = np.array([long_run_variance(column, horizon=horizon) for column in score_TE.T])
    known = np.isfinite(long_run)
    if not known.any():
        return float(horizon)
    return max(float(long_run[known].mean() / score_TE.var(axis=0)[known].mean()), 1.0)


def _shrunk_to_common(found: Estimate) -> np.ndarray:
    """Weights shrunk towards the common weight that fits them best."""
    variance = _likeliest_variance([found], None)
    return _towards(np.full(len(found.weights_E), _common(found, variance)[0]), found, variance)


def _towards(centre_E: np.ndarray, found: Estimate, variance: float) -> np.ndarray:
    """The expected true weights, where these vary about the centre with this variance."""
    total_EE = variance * np.eye(len(centre_E)) + found.covariance_EE
    return centre_E + variance * np.linalg.solve(total_EE, found.weights_E - centre_E)


def _common(found: Estimate, variance: float) -> tuple[float, float]:
    """The common weight by generalised least squares, and its precision."""
    ones_E = np.ones(len(found.weights_E))
    scaled_E = np.linalg.solve(variance * np.eye(len(ones_E)) + found.covariance_EE, ones_E)
    precision = float(ones_E @ scaled_E)
    return float(scaled_E @ found.weights_E) / precision, precision


def _likeliest_variance(found: list[Estimate], centre_E: np.ndarray | None) -> float:
    """The variance of the true weights about their centre that makes the estimates likeliest; without a
    centre it is the common weight, whose own error counts (restricted likelihood).
    """
    if not found:
        return 0.0
    unit = float(np.mean([np.trace(one.covariance_EE) / len(one.weights_E) for one in found]))
    fits = [sum(_log_likelihood(one, centre_E, unit * share) for one in found) for share in VARIANCES]
    return unit * VARIANCES[int(np.argmax(fits))]


def _log_likelihood(found: Estimate, centre_E: np.ndarray | None, variance: float) -> float:
    size = len(found.weights_E)
    restricted = 0.0
    if centre_E is None:
        common, precision = _common(found, variance)
        centre_E, restricted = np.full(size, common), np.log(precision)
    total_EE = variance * np.eye(size) + found.covariance_EE
    away_E = found.weights_E - centre_E
    _, log_determinant = np.linalg.slogdet(total_EE)
    return float(-0.5 * (log_determinant + restricted + away_E @ np.linalg.solve(total_EE, away_E)))


def _as_weights(weights_E: np.ndarray, experts: list[str]) -> dict[str, float] | None:
    if not weights_E.any():
        return None
    return dict(zip(experts, map(float, weights_E), strict=True))
