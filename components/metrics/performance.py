"""What a series of portfolio returns is worth: Sharpe ratios, drawdown, hits, turnover and costs."""

from datetime import timedelta

import numpy as np
import polars as pl

from components.timeline.periods import is_daily

EQUITY_DAYS = 252
YEAR = timedelta(days=365.25)


def bars_per_year(period: str, calendar: pl.Series) -> float:
    """How many bars a year has, for annualising.

    252 for daily bars of a market that rests at weekends; otherwise measured: bars of the calendar over the
    years that it spans.

    Parameters
    ----------
    period : length of a bar, such as `1d` or `1h`
    calendar : sorted distinct timestamps
    """
    span = (calendar[-1] - calendar[0]) / YEAR if len(calendar) > 1 else 0.0
    measured = (len(calendar) - 1) / span if span > 0 else float(EQUITY_DAYS)
    return float(EQUITY_DAYS) if is_daily(period) and (measured < 300 or span < 0.1) else float(measured)


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


def horizon_adjusted_sharpe(returns: np.ndarray, *, horizon: int, bars_per_year: float) -> float:
    """Sharpe ratio of returns that each span `horizon` bars: mean / std * sqrt(bars_per_year / horizon)."""
    return float(sharpe_ratio(returns, bars_per_year=bars_per_year / horizon))


def overlap_corrected_sharpe(returns: np.ndarray, *, lags: int, bars_per_year: float) -> float:
    """Sharpe ratio of a bar's returns, lowered by what they repeat of each other.

    SR * sqrt(bars_per_year) / sqrt(1 + 2 * sum over k <= lags of (1 - k / (lags + 1)) * rho_k), the
    autocorrelations rho_k weighted as in Lo (2002), *The Statistics of Sharpe Ratios*, so that the root stays
    real.
    """
    returns = np.asarray(returns, dtype=float)
    plain = float(sharpe_ratio(returns, bars_per_year=bars_per_year))
    if not np.isfinite(plain):
        return float("nan")
    centred = returns - returns.mean()
    rho = np.array([centred[k:] @ centred[:-k] for k in range(1, min(lags, len(returns) - 1) + 1)]) / (
        centred @ centred
    )
    inflation = 1 + 2 * float((1 - np.arange(1, len(rho) + 1) / (lags + 1)) @ rho)
    return float(plain / np.sqrt(inflation)) if inflation > 0 else float("nan")


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
    `bars`, `sharpe_gross`, `sharpe_net`, `sharpe_net_overlap_corrected` (lags = horizon),
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
            net, lags=horizon, bars_per_year=bars_per_year
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
