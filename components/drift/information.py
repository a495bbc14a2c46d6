"""What the scores are worth, now and month by month, against the reference's out-of-sample scores."""

import numpy as np
import polars as pl

from components.contracts.documents.drift import InformationRatio, Month
from components.contracts.documents.drift_reference import InformationReference
from components.metrics import hac_lags, ic_summary, information_coefficient, newey_west_t

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
    """Mean over spread of the scores' daily RankIC, now, by month, and in the reference out of sample; None
    where nothing is known.

    `usual` is the lowest of windows of the reference as long as now. `p` is one-sided: the chance of a mean
    RankIC so far below the reference's if nothing had changed, with Newey and West's errors of both.
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
    """Chance of a mean RankIC so far below the reference's; None where neither side varies."""
    from scipy.stats import t as student

    errors = [_standard_error(values, horizon) for values in (then, now)]
    # So few current bars say little about their own dependence: had nothing changed, it would be the
    # reference's.
    errors[1] = max(errors[1], errors[0] * np.sqrt(len(then) / summary["bars"]))
    # Bartlett's kernel has about 1.5 degrees of freedom for each stretch as long as its lags; both sides' are
    # combined as Welch and Satterthwaite do.
    freedoms = [1.5 * len(values) / (hac_lags(len(values), horizon) + 1) for values in (then, now)]
    freedom = sum(error**2 for error in errors) ** 2 / max(
        sum(error**4 / own for error, own in zip(errors, freedoms, strict=True)), 1e-300
    )
    difference = float(then.mean() - summary["mean"])
    noise = float(np.hypot(*errors))
    return float(student.sf(difference / noise, max(freedom, 1.0))) if noise > 0 else None


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


def _standard_error(values: np.ndarray, horizon: int) -> float:
    """Newey and West's, with the share of the variance added back that estimating the mean takes away."""
    lags = hac_lags(len(values), horizon)
    t = newey_west_t(values, lags=lags)
    error = (
        abs(float(values.mean()) / t)
        if np.isfinite(t) and t != 0
        else float(values.std(ddof=1) / np.sqrt(len(values)))
    )
    return error / np.sqrt(max(1 - (lags + 1) / len(values), 0.1))
