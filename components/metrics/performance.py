"""What a series of portfolio returns is worth: Sharpe ratios, drawdown, hits, turnover and costs."""

from datetime import timedelta

import numpy as np
import polars as pl

from components.metrics.inference import degrees_of_freedom, long_run_variance, standard_error
from components.timeline.periods import BARS_A_DAY, is_daily

# By convention; five days a week would be 261, the rest are holidays.
EQUITY_DAYS = 252
YEAR_DAYS = 365.25
# A day of the typical week stands for so many days of a year, where the market never rests and where it does.
NEVER_RESTS, RESTS = YEAR_DAYS / 7, EQUITY_DAYS / 5
# Quantile of the bars a week that counts as typical: holidays make weeks shorter, hardly anything longer.
TYPICAL_WEEK = 0.75


def bars_per_year(period: str, calendar: pl.Series) -> float:
    """How many bars a year has, for annualising: those of a typical week times the weeks of a year.

    A year has 365.25 / 7 weeks where the market never closes, and 252 / 5 where it rests on some weekday, so
    that daily bars come out at 252 and hourly ones of seven a session at 1,764. Weeks are cut from the
    calendar's first day on, whole ones only; the typical one is the upper quartile of those that have a bar,
    so that gaps, holidays and single far-off stamps do not count. Below a whole week the period decides: 252
    daily bars unless one falls on a Saturday or Sunday; intraday ones as many a day as come.

    The convention of 252 is wrong by what a market's holidays differ from it: shares in China have 243 days,
    currencies about 259. A Sharpe ratio is wrong by half of that share.

    Parameters
    ----------
    period : length of a bar, such as `1d` or `1h`
    calendar : sorted distinct timestamps (ends of bars)
    """
    days = (calendar - timedelta(microseconds=1)).dt.date()
    weeks = _whole_weeks(days)
    if weeks.is_empty():
        return _less_than_a_week(period, days)
    bars = weeks["bars"].quantile(TYPICAL_WEEK, "nearest")
    open_days = weeks["open_days"].quantile(TYPICAL_WEEK, "nearest")
    return float(bars * (NEVER_RESTS if open_days == 7 else RESTS))


def _whole_weeks(days: pl.Series) -> pl.DataFrame:
    """`bars` and `open_days` of each whole week, counted from the first day on, that has any."""
    placed = days.to_frame("day").with_columns(
        (pl.col("day") - pl.col("day").min()).dt.total_days().alias("passed")
    )
    whole = (placed["passed"].max() + 1) // 7 if len(days) else 0
    weeks = placed.group_by(pl.col("passed") // 7).agg(
        pl.len().alias("bars"), pl.col("day").n_unique().alias("open_days")
    )
    return weeks.filter(pl.col("passed") < whole)


def _less_than_a_week(period: str, days: pl.Series) -> float:
    if is_daily(period):
        at_weekends = bool((days.dt.weekday() > 5).any())
        return YEAR_DAYS if at_weekends else float(EQUITY_DAYS)
    round_the_clock = BARS_A_DAY[period]
    a_day = days.value_counts()["count"].max() or round_the_clock
    return float(a_day * (YEAR_DAYS if a_day == round_the_clock else EQUITY_DAYS))


def sharpe_ratio(returns: np.ndarray, *, bars_per_year: float) -> np.ndarray | float:
    """Mean over sample standard deviation of returns a bar, times sqrt(bars_per_year); no risk-free rate
    (Sharpe 1994).

    Parameters
    ----------
    returns : shape (..., bars)

    Returns
    -------
    Shape (...); NaN for fewer than 2 bars or a constant series.
    """
    returns = np.asarray(returns, dtype=float)
    if returns.shape[-1] < 2:
        return np.full(returns.shape[:-1], np.nan)[()]
    deviation = returns.std(axis=-1, ddof=1)
    mean = returns.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            deviation > 1e-14 * np.maximum(np.abs(mean), 1e-300),
            mean / deviation * np.sqrt(bars_per_year),
            np.nan,
        )[()]


def sharpe_interval(returns: np.ndarray, *, level: float, bars_per_year: float) -> tuple[float, float]:
    """Interval that holds the true Sharpe ratio with a chance of `level`: the annual ratio, and Student's t
    times its standard error to both sides.

    The error is that of the mean in units of the deviation, or where that is larger the one that allows for
    the deviation being estimated too (Lo 2002, *The Statistics of Sharpe Ratios*); both by `standard_error`,
    so that dependence and few bars are allowed for. One large gain raises mean and deviation together, by
    which the second alone would be taken in.

    Parameters
    ----------
    returns : shape (n,), of bars, in order of time, not overlapping

    Returns
    -------
    Lower and upper limit; both NaN for fewer than `fewest_values(1)` returns or a constant series.
    """
    from scipy.stats import t as student

    returns = np.asarray(returns, dtype=float)
    ratio = float(sharpe_ratio(returns, bars_per_year=1))
    if not np.isfinite(ratio):
        return float("nan"), float("nan")
    standardised = (returns - returns.mean()) / returns.std(ddof=1)
    both = standardised - ratio / 2 * (standardised**2 - 1)
    error = max(standard_error(part, horizon=1) for part in (standardised, both))
    freedom = degrees_of_freedom(len(returns), 1)
    reach = float(student.isf((1 - level) / 2, freedom)) * error if freedom else float("nan")
    low, high = (bound * np.sqrt(bars_per_year) for bound in (ratio - reach, ratio + reach))
    return float(low), float(high)


def horizon_adjusted_sharpe(returns: np.ndarray, *, horizon: int, bars_per_year: float) -> float:
    """Sharpe ratio of returns that each span `horizon` bars: mean / std * sqrt(bars_per_year / horizon)."""
    return float(sharpe_ratio(returns, bars_per_year=bars_per_year / horizon))


def overlap_corrected_sharpe(returns: np.ndarray, *, horizon: int, bars_per_year: float) -> float:
    """Sharpe ratio of the bars' returns, their repeating each other taken out: mean over the root of the
    long-run variance, times sqrt(bars_per_year).

    What Lo (2002), *The Statistics of Sharpe Ratios*, gives for a long holding period. The long-run variance
    is that of `long_run_variance`. The root of an estimate with few degrees of freedom is too small on
    average, and what is divided by it too large, which Hedges' (1981) factor takes back. Of the estimators in
    tests/benchmarks/bench_significance.py it comes nearest the truth.

    Parameters
    ----------
    returns : shape (n,), in order of time; each may span `horizon` bars
    horizon : bars for which neighbouring returns are alike

    Returns
    -------
    NaN for fewer than `fewest_values` returns or a constant series.
    """
    from scipy.special import gammaln

    returns = np.asarray(returns, dtype=float)
    variance = long_run_variance(returns, horizon=horizon)
    if not np.isfinite(variance):
        return float("nan")
    freedom = degrees_of_freedom(len(returns), horizon)
    unbiased = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) * np.sqrt(2 / freedom)
    return float(unbiased * returns.mean() / np.sqrt(variance) * np.sqrt(bars_per_year))


def max_drawdown(returns: np.ndarray) -> float:
    """Largest loss from a peak of the compounded curve, as a share of that peak, in [0, 1].

    The curve starts at 1, which counts as a peak.
    """
    equity = np.concatenate([[1.0], np.cumprod(1 + np.asarray(returns, dtype=float))])
    return float((1 - equity / np.maximum.accumulate(equity)).max())


def hit_rate(returns: np.ndarray) -> float:
    """Share of the bars with a return other than 0 that gained; NaN where there are none."""
    moved = np.asarray(returns, dtype=float)
    moved = moved[moved != 0]
    return float((moved > 0).mean()) if len(moved) else float("nan")


def cost_share(gross_returns: np.ndarray, costs: np.ndarray) -> float:
    """Costs as a share of the gross profit, sums over all bars; NaN where the gross profit is not
    positive.
    """
    profit = float(np.sum(gross_returns))
    return float(np.sum(costs)) / profit if profit > 0 else float("nan")


def information_ratio(returns: np.ndarray, benchmark: np.ndarray, *, bars_per_year: float) -> float:
    """Sharpe ratio of the active return, returns - benchmark (Grinold and Kahn 2000)."""
    return float(
        sharpe_ratio(
            np.asarray(returns, dtype=float) - np.asarray(benchmark, dtype=float), bars_per_year=bars_per_year
        )
    )


def performance_summary(returns: pl.DataFrame, *, horizon: int, bars_per_year: float) -> dict[str, float]:
    """The figures of one strategy.

    Parameters
    ----------
    returns : columns `gross_return`, `cost`, `net_return`, `turnover`, `exposure`, one row a bar in order of
        time

    Returns
    -------
    `bars`, `sharpe_gross`, `sharpe_net`, `sharpe_net_overlap_corrected`,
    `annual_return_gross`, `annual_return_net` (arithmetic), `annual_volatility`, `max_drawdown` (net),
    `hit_rate` (net), `average_return_bps` (net, a bar), `turnover` (traded weight a bar, buys and sells),
    `annual_turnover`, `cost_share`, `average_exposure`. What can't be computed is NaN.
    """
    if returns.is_empty():
        return {"bars": 0}
    gross, cost, net = (returns[name].to_numpy() for name in ("gross_return", "cost", "net_return"))
    return {
        "bars": len(net),
        "sharpe_gross": float(sharpe_ratio(gross, bars_per_year=bars_per_year)),
        "sharpe_net": float(sharpe_ratio(net, bars_per_year=bars_per_year)),
        "sharpe_net_overlap_corrected": overlap_corrected_sharpe(
            net, horizon=horizon, bars_per_year=bars_per_year
        ),
        "annual_return_gross": float(gross.mean() * bars_per_year),
        "annual_return_net": float(net.mean() * bars_per_year),
        "annual_volatility": (
            float(net.std(ddof=1) * np.sqrt(bars_per_year)) if len(net) > 1 else float("nan")
        ),
        "max_drawdown": max_drawdown(net),
        "hit_rate": hit_rate(net),
        "average_return_bps": float(net.mean() * 1e4),
        "turnover": float(returns["turnover"].mean()),
        "annual_turnover": float(returns["turnover"].mean() * bars_per_year),
        "cost_share": cost_share(gross, cost),
        "average_exposure": float(returns["exposure"].mean()),
    }
