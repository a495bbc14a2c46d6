"""What a Sharpe ratio is worth when returns are skewed and depend on each other, and it is the best of many.

All Sharpe ratios are those of a bar, not annualised.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.metrics.blocks import dependent_bars
from components.metrics.inference import degrees_of_freedom, fewest_values, long_run_variance
from components.metrics.performance import sharpe_ratio

EULER = 0.5772156649015329


@dataclass(frozen=True)
class SharpeMoments:
    """Of `bars` returns: `sharpe` a bar, `skewness`, and `kurtosis` (3 for a normal distribution)."""

    sharpe: float
    skewness: float
    kurtosis: float
    bars: int

    @property
    def error(self) -> float:
        """Standard error of the Sharpe ratio of independent returns (Mertens 2002), with bars - 1 as Bailey
        and Lopez de Prado have it.
        """
        return float(np.sqrt(self.variance / (self.bars - 1))) if self.bars > 1 else float("nan")

    @property
    def variance(self) -> float:
        """Of the Sharpe ratio, times the number of bars."""
        return 1 - self.skewness * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


@dataclass(frozen=True)
class SharpeChance:
    """`probability` is the chance that the true Sharpe ratio lies above `benchmark`; NaN where `problem` says
    why.

    `effective_bars` is the number of independent bars that know as much as the `bars` there are.
    """

    probability: float
    sharpe: float
    benchmark: float
    error: float
    bars: int
    effective_bars: float
    problem: str


@dataclass(frozen=True)
class DeflatedSharpe:
    """`probability` is the chance that the true Sharpe ratio is above `luck`: what the best of `trials`
    models without skill is expected to reach. NaN where `problem` says why.

    `trials_without_sharpe` had no return that varies, and do not count.
    """

    probability: float
    sharpe: float
    luck: float
    trials: int
    trials_without_sharpe: int
    trial_deviation: float
    bars: int
    effective_bars: float
    problem: str


@dataclass(frozen=True)
class TrackRecord:
    """`bars_needed` for a Sharpe ratio like this to be above `benchmark` with a chance of `level`: infinite
    where it is not above it, NaN where `problem` says why.
    """

    bars_needed: float
    bars: int
    enough: bool
    benchmark: float
    level: float
    problem: str


@dataclass(frozen=True)
class BacktestLength:
    """`years` below which the best of `trials` models without skill is expected to reach the annual Sharpe
    ratio `annual_sharpe`; `years_bound` is the simple upper bound of it.
    """

    years: float
    years_bound: float
    trials: float
    annual_sharpe: float


def sharpe_moments(returns: np.ndarray) -> SharpeMoments:
    """Moments of returns of shape (bars,); NaN for fewer than 2 bars, a constant, or what is not finite."""
    returns = np.asarray(returns, dtype=float)
    sharpe = float(sharpe_ratio(returns, bars_per_year=1)) if np.isfinite(returns).all() else float("nan")
    if not np.isfinite(sharpe):
        return SharpeMoments(float("nan"), float("nan"), float("nan"), len(returns))
    standard = (returns - returns.mean()) / returns.std()
    return SharpeMoments(sharpe, float((standard**3).mean()), float((standard**4).mean()), len(returns))


def chance_above(moments: SharpeMoments, benchmark: float) -> float:
    """The probabilistic Sharpe ratio as published, for independent returns: the chance that the true Sharpe
    ratio lies above `benchmark` (Bailey and Lopez de Prado 2012, *The Sharpe ratio efficient frontier*).
    """
    from scipy.stats import norm

    return float(norm.cdf((moments.sharpe - benchmark) / moments.error))


def probabilistic_sharpe(returns: np.ndarray, *, benchmark: float = 0.0, horizon: int = 1) -> SharpeChance:
    """Chance that the true Sharpe ratio lies above a benchmark: Bailey and Lopez de Prado (2012).

    Their standard error takes returns to be independent. Where the same error by the long-run variance is
    larger it counts instead, with Student's t: persistent or overlapping returns know less than their number.
    Over how many bars they are alike the data say (`dependent_bars`).

    Parameters
    ----------
    returns : shape (bars,), in order of time
    benchmark : Sharpe ratio a bar
    horizon : bars that a return spans, where neighbouring ones overlap
    """
    moments, alike, problem = _moments_or_problem(returns, horizon)
    if problem:
        nan = float("nan")
        return SharpeChance(nan, moments.sharpe, benchmark, nan, moments.bars, nan, problem)
    error = _dependent_error(returns, moments, alike)
    probability = _chance(moments, benchmark, error, alike)
    effective = moments.bars * (moments.error / max(error, moments.error)) ** 2
    return SharpeChance(
        probability, moments.sharpe, benchmark, max(error, moments.error), moments.bars, effective, ""
    )


def expected_best(trials: float, deviation: float) -> float:
    """Sharpe ratio that the best of so many independent models without skill is expected to reach, theirs
    having this standard deviation; 0 for one.
    """
    from scipy.stats import norm

    if trials <= 1:
        return 0.0
    best = (1 - EULER) * norm.isf(1 / trials) + EULER * norm.isf(1 / (trials * np.e))
    return float(deviation * max(best, 0.0))


def deflated_sharpe(
    returns: np.ndarray,
    trial_sharpes: Sequence[float] | np.ndarray,
    *,
    unseen: int = 0,
    horizon: int = 1,
) -> DeflatedSharpe:
    """Chance that the true Sharpe ratio of a model is above what the best of all trials reaches by luck:
    Bailey and Lopez de Prado (2014), *The deflated Sharpe ratio*.

    Parameters
    ----------
    returns : shape (bars,), of the model that is judged, in order of time
    trial_sharpes : a bar, one for each model that was ever tried on these bars, this one too; what is not
        finite had no return that varies and does not count
    unseen : further models that were tried, whose Sharpe ratios nobody knows; they count as if theirs varied
        like the others'
    horizon : bars that a return spans, where neighbouring ones overlap
    """
    sharpes = np.asarray(trial_sharpes, dtype=float)
    known = sharpes[np.isfinite(sharpes)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    luck = expected_best(len(known) + unseen, deviation)
    judged = probabilistic_sharpe(returns, benchmark=luck, horizon=horizon)
    problem = judged.problem or ("" if len(known) else "no trial has a Sharpe ratio, not even the one judged")
    return DeflatedSharpe(
        float("nan") if problem else judged.probability,
        judged.sharpe,
        luck,
        len(known) + unseen,
        len(sharpes) - len(known),
        deviation,
        judged.bars,
        judged.effective_bars,
        problem,
    )


def minimum_track_record(
    returns: np.ndarray, *, benchmark: float = 0.0, level: float = 0.95, horizon: int = 1
) -> TrackRecord:
    """How many bars a Sharpe ratio like this needs to be above a benchmark with a chance of `level`: Bailey
    and Lopez de Prado (2012). Where returns depend on each other as many as the chance by their standard
    error asks for, with the degrees of freedom of these bars; the larger counts.

    Parameters are those of `probabilistic_sharpe`.
    """
    from scipy.stats import t as student

    moments, alike, problem = _moments_or_problem(returns, horizon)
    if problem:
        return TrackRecord(float("nan"), moments.bars, False, benchmark, level, problem)
    needed, error = bars_needed(moments, benchmark, level), _dependent_error(returns, moments, alike)
    if np.isfinite(needed) and np.isfinite(error):
        quantile = student.ppf(level, degrees_of_freedom(moments.bars, alike))
        needed = max(needed, moments.bars * (quantile * error / (moments.sharpe - benchmark)) ** 2)
    return TrackRecord(float(needed), moments.bars, bool(moments.bars >= needed), benchmark, level, "")


def bars_needed(moments: SharpeMoments, benchmark: float, level: float) -> float:
    """The minimum track record as published, for independent returns; infinite at or below the benchmark."""
    from scipy.stats import norm

    if not moments.sharpe > benchmark:
        return float("inf")
    return float(1 + moments.variance * (norm.ppf(level) / (moments.sharpe - benchmark)) ** 2)


def minimum_backtest_length(trials: float, *, annual_sharpe: float = 1.0) -> BacktestLength:
    """Years of bars that so many independent trials need, so that the best of them is not expected to reach
    an annual Sharpe ratio by luck: Bailey, Borwein, Lopez de Prado and Zhu (2014), *Pseudo-mathematics and
    financial charlatanism*.

    Raises
    ------
    ValueError
        For fewer than 1 trial or a Sharpe ratio that is not above 0.
    """
    if trials < 1 or not annual_sharpe > 0:
        raise ValueError(
            f"trials is {trials} and annual_sharpe {annual_sharpe}; at least 1 and more than 0 are wanted."
        )
    years = (expected_best(trials, 1.0) / annual_sharpe) ** 2
    return BacktestLength(years, float(2 * np.log(trials) / annual_sharpe**2), trials, annual_sharpe)


def _moments_or_problem(returns: np.ndarray, horizon: int) -> tuple[SharpeMoments, int, str]:
    """Moments, bars over which returns are alike, and why nothing can be said."""
    returns = np.asarray(returns, dtype=float)
    moments = sharpe_moments(returns)
    fewest = fewest_values(horizon)
    if not np.isfinite(returns).all():
        return (
            moments,
            0,
            f"{int((~np.isfinite(returns)).sum()):,} of {len(returns):,} returns are not finite",
        )
    if len(returns) < fewest:
        return moments, 0, f"{len(returns):,} bars, at least {fewest:,} are needed"
    if not np.isfinite(moments.sharpe):
        return moments, 0, "the return is the same in each bar"
    alike = dependent_bars(returns, horizon=horizon)
    if len(returns) < fewest_values(alike):
        return (
            moments,
            alike,
            (
                f"returns depend on each other over some {alike:,} bars, so {len(returns):,} bars say too"
                f" little: at least {fewest_values(alike):,} are needed"
            ),
        )
    return moments, alike, ""


def _dependent_error(returns: np.ndarray, moments: SharpeMoments, alike: int) -> float:
    """The standard error by the long-run variance of what each bar adds to the Sharpe ratio (Lo 2002)."""
    returns = np.asarray(returns, dtype=float)
    standard = (returns - returns.mean()) / returns.std(ddof=1)
    added = standard - moments.sharpe / 2 * (standard**2 - 1)
    variance = max(long_run_variance(part, horizon=alike) for part in (standard, added))
    return float(np.sqrt(variance / moments.bars))


def _chance(moments: SharpeMoments, benchmark: float, error: float, alike: int) -> float:
    """The more careful of both errors' answers."""
    from scipy.stats import t as student

    published = chance_above(moments, benchmark)
    if not np.isfinite(error):
        return published
    freedom = degrees_of_freedom(moments.bars, alike)
    dependent = float(student.cdf((moments.sharpe - benchmark) / error, freedom))
    return min(published, dependent, key=lambda chance: abs(chance - 0.5))
