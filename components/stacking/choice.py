"""Whether a combiner is better than equal weights by more than luck: paired over the bars of the validation
window, each predicted by what was learned from the other bars, and counting all that were tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.comparison import Candidate
from components.metrics import degrees_of_freedom, fewest_values, standard_error, t_value
from components.stacking.combiners import EQUAL, daily_rank_ics, fit_combiner, raw_output
from components.stacking.config import Settings

# Stretches of the validation window that are left out in turn. Five leave four fifths to learn from.
FOLDS = 5
# Of the largest of the t values under chance; the error of an adjusted 0.05 is then 0.001.
DRAWS = 40_000


@dataclass(frozen=True)
class PurgedFold:
    """A stretch of bars, and the rows beside it whose labels overlap none of its, less the embargo."""

    learned: pl.DataFrame
    left_out: pl.DataFrame


def purged_folds(judged: pl.DataFrame, calendar: pl.Series, embargo_bars: int) -> list[PurgedFold]:
    """FOLDS stretches of as many bars each; none where there are fewer bars than that.

    Parameters
    ----------
    judged : rows with known labels, of the window that chooses
    calendar : sorted distinct timestamps of the panel, in which the embargo is counted
    """
    moments = judged["timestamp"].unique().sort()
    if len(moments) < FOLDS:
        return []
    folds = []
    for places in np.array_split(np.arange(len(moments)), FOLDS):
        first, last = moments[int(places[0])], moments[int(places[-1])]
        left_out = judged.filter(pl.col("timestamp").is_between(first, last))
        begins = max(calendar.search_sorted(first) - embargo_bars, 0)
        ends = calendar.search_sorted(left_out["label_end"].max(), side="right") - 1 + embargo_bars
        before = pl.col("label_end") < calendar[begins]
        after = pl.col("timestamp") > calendar[min(max(ends, 0), len(calendar) - 1)]
        folds.append(PurgedFold(judged.filter(before | after), left_out))
    return folds


def cross_validated(
    method: str, folds: list[PurgedFold], experts: list[str], settings: Settings, seed: int
) -> pl.DataFrame:
    """`timestamp` and `rank_ic` of a combiner at each bar of the folds, learned from the rows beside it."""
    parts = [
        daily_rank_ics(
            fold.left_out.select(
                "timestamp",
                "label",
                rank_ic=pl.Series(
                    raw_output(fit_combiner(method, fold.learned, experts, settings, seed), fold.left_out)
                ),
            ),
            ["rank_ic"],
        )
        for fold in folds
    ]
    return (
        pl.concat(parts) if parts else pl.DataFrame(schema={"timestamp": pl.Datetime, "rank_ic": pl.Float64})
    )


def compare(daily: Mapping[str, pl.DataFrame], horizon: int, seed: int) -> list[Candidate]:
    """Each combiner against equal weights, these first.

    Parameters
    ----------
    daily : `cross_validated` by combiner, of the same bars
    horizon : bars that a label spans
    """
    base = daily[EQUAL].filter(pl.col("rank_ic").is_not_null())
    gains = {
        name: base.join(frame, on="timestamp", how="left", maintain_order="left")
        .select(pl.col("rank_ic_right").fill_null(0.0) - pl.col("rank_ic"))
        .to_series()
        .to_numpy()
        for name, frame in daily.items()
        if name != EQUAL
    }
    adjusted = adjusted_p_values(gains, horizon, seed)
    bars, level = len(base), float(base["rank_ic"].mean() or 0.0)
    found = [
        Candidate(
            name=name,
            rank_ic=level + float(gain.mean()) if bars else level,
            difference=float(gain.mean()) if bars else 0.0,
            t=t_value(gain, horizon=horizon),
            p=adjusted.get(name, 1.0),
            bars=bars,
            folds=FOLDS if bars else 0,
            folds_better=sum(bool(part.mean() > 0) for part in np.array_split(gain, FOLDS))
            if bars >= FOLDS
            else 0,
        )
        for name, gain in gains.items()
    ]
    own = Candidate(
        name=EQUAL,
        rank_ic=level,
        difference=0.0,
        t=None,
        p=None,
        bars=bars,
        folds=FOLDS if bars else 0,
        folds_better=0,
    )
    return [own, *found]


def adjusted_p_values(gains: Mapping[str, np.ndarray], horizon: int, seed: int) -> dict[str, float]:
    """The chance that the largest of all t values reaches each one's, without any gain: Hothorn, Bretz and
    Westfall (2008), *Simultaneous inference in general parametric models*, drawn with the degrees of freedom
    of `standard_error` and with the correlation that the gains have.

    Never below the one-sided chance of one alone, never above that times their number. Gains without a t
    value (too few bars, or constant) have no entry and don't count as tried.
    """
    errors = {name: standard_error(gain, horizon=horizon) for name, gain in gains.items()}
    names = [name for name, error in errors.items() if np.isfinite(error)]
    if not names:
        return {}
    values_KT = np.stack([gains[name] for name in names])
    t_K = values_KT.mean(axis=1) / np.array([errors[name] for name in names])
    freedom = degrees_of_freedom(values_KT.shape[1], horizon)
    root_KK = _root(np.atleast_2d(np.corrcoef(values_KT)))
    generator = np.random.default_rng(seed)
    means_KD = root_KK @ generator.standard_normal((len(names), DRAWS))
    squares_KD = np.zeros_like(means_KD)
    for _ in range(freedom):
        squares_KD += (root_KK @ generator.standard_normal((len(names), DRAWS))) ** 2
    largest_D = (means_KD / np.sqrt(squares_KD / freedom)).max(axis=0)
    return {
        name: float((1 + (largest_D >= t).sum()) / (1 + DRAWS)) for name, t in zip(names, t_K, strict=True)
    }


def choose(candidates: list[Candidate], level: float, horizon: int) -> tuple[str, str]:
    """The combiner to use and why: of those that beat equal weights with an adjusted chance below `level` the
    one with the largest mean, else equal weights.
    """
    equal = next(one for one in candidates if one.name == EQUAL)
    others = [one for one in candidates if one.name != EQUAL]
    base = f"equal weights (RankIC {equal.rank_ic:.4f} on {equal.bars:,} validation bars)"
    if level == 0:
        return EQUAL, f"stacking.level is 0: {base}, whatever the others reach"
    if equal.bars < fewest_values(horizon):
        return EQUAL, f"{base}: {fewest_values(horizon)} bars are needed to tell a better one from luck"
    better = [one for one in others if one.p is not None and one.p < level]
    if better:
        best = max(better, key=lambda one: one.difference)
        return best.name, (
            f"RankIC {best.rank_ic:.4f} against {equal.rank_ic:.4f} with equal weights on {best.bars:,}"
            f" validation bars, better in {best.folds_better} of {best.folds} folds, {_odds(best, others)}"
        )
    nearest = max((one for one in others if one.t is not None), key=lambda one: one.t, default=None)
    if nearest is None:
        return EQUAL, f"{base}: nothing that was tried differs from them"
    return EQUAL, (
        f"{base}: nothing is better by more than luck; nearest comes {nearest.name} with"
        f" {nearest.difference:+.4f}, {_odds(nearest, others)}, {level:g} would do"
    )


def _odds(one: Candidate, others: list[Candidate]) -> str:
    tried = sum(other.t is not None for other in others)
    return f"t {one.t:.1f}, a chance of {one.p:.3f} with {tried} tried"


def _root(correlation_KK: np.ndarray) -> np.ndarray:
    """A matrix whose product with its transpose is the correlation, also of gains that are the same."""
    values, vectors = np.linalg.eigh(correlation_KK)
    return vectors * np.sqrt(np.maximum(values, 0.0))
