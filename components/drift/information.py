"""What the scores are worth, now and month by month, against the reference's out-of-sample scores."""

import numpy as np
import polars as pl

from components.contracts.documents.drift import InformationRatio, Month
from components.contracts.documents.drift_reference import InformationReference
from components.metrics import degrees_of_freedom, ic_summary, information_coefficient, standard_error

FEWEST_BARS = 3


def rank_ic(scores: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Columns `timestamp`, `rank_ic` of the bars that have one. `scores`: `timestamp`, `symbol`, `score`."""
    known = information_coefficient(scores, labels, rank=True)
    return (
        known.filter(pl.col("ic").is_not_null())
        .select("timestamp", pl.col("ic").alias("rank_ic"))
        .sort("timestamp")
    )


def information_ratio(
    reference: InformationReference | None, scores: pl.DataFrame, labels: pl.DataFrame | None, horizon: int
) -> InformationRatio | None:
    """Mean over spread of the scores' RankIC by bar, now, by month, and in the reference out of sample; None
    where nothing is known.

    `usual` is the lowest of windows of the reference as long as now. `p` is one-sided: the chance of a mean
    RankIC so far below the reference's if nothing had changed; None where the reference is too short to know.
    """
    if reference is None or labels is None:
        return None
    daily = rank_ic(scores, labels)
    now = ic_summary(daily["rank_ic"], horizon=horizon)
    if now["bars"] < FEWEST_BARS or not np.isfinite(now["icir"]):
        return None
    then = np.array(reference.rank_ic, dtype=float)
    usual = ic_summary(then, horizon=horizon)
    return InformationRatio(
        reference=usual["icir"],
        current=now["icir"],
        usual=_lowest_window(then, min(now["bars"], len(then))),
        drop=float(1 - now["icir"] / usual["icir"]) if usual["icir"] > 0 else None,
        p=_chance_of_fall(then, daily["rank_ic"].to_numpy(), now, horizon),
        reference_rank_ic=usual["mean"],
        rank_ic=now["mean"],
        reference_bars=usual["bars"],
        bars=now["bars"],
        monthly=_monthly(daily),
    )


def _chance_of_fall(
    then: np.ndarray, now: np.ndarray, summary: dict[str, float], horizon: int
) -> float | None:
    """Chance of a mean RankIC so far below the reference's; None where the reference has too few bars to know
    how far a mean strays.
    """
    from scipy.stats import t as student

    error_then, freedom_then = standard_error(then, horizon=horizon), degrees_of_freedom(len(then), horizon)
    if not np.isfinite(error_then):
        return None
    # Few current bars say little about their own dependence: had nothing changed, it would be the
    # reference's.
    error_now, freedom_now = error_then * np.sqrt(len(then) / summary["bars"]), freedom_then
    own = standard_error(now, horizon=horizon)
    if own > error_now:
        error_now, freedom_now = own, degrees_of_freedom(len(now), horizon)
    # Both sides' degrees of freedom are combined as Welch and Satterthwaite do.
    noise = float(np.hypot(error_then, error_now))
    freedom = noise**4 / (error_then**4 / freedom_then + error_now**4 / freedom_now)
    return float(student.sf(float(then.mean() - summary["mean"]) / noise, freedom))


def _lowest_window(values: np.ndarray, length: int) -> float:
    """The lowest mean over spread in windows of so many bars."""
    windows = np.lib.stride_tricks.sliding_window_view(values, length)
    spread = windows.std(axis=1, ddof=1)
    return float(np.min(windows.mean(axis=1) / np.where(spread > 0, spread, np.inf)))


def _monthly(daily: pl.DataFrame) -> tuple[Month, ...]:
    months = daily.group_by(pl.col("timestamp").dt.strftime("%Y-%m").alias("month"), maintain_order=True).agg(
        mean=pl.col("rank_ic").mean(), std=pl.col("rank_ic").std(), bars=pl.len()
    )
    return tuple(
        Month(
            month=row["month"],
            information_ratio=row["mean"] / row["std"] if row["std"] else None,
            rank_ic=row["mean"],
            bars=row["bars"],
        )
        for row in months.to_dicts()
    )
