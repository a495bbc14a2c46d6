"""What trading the scores earns: the portfolios' returns as one table, and their figures."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from components.backtest.capacity import capacity
from components.backtest.config import Settings
from components.backtest.engine import Backtest, run_backtest
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import (
    BookLimits,
    CapacityRow,
    Portfolio,
    PortfolioEvents,
    Portfolios,
)
from components.metrics import (
    information_ratio,
    performance_summary,
    sharpe_interval,
)

PORTFOLIOS = ("long_short", "long_only")
BENCHMARK = "universe"
RETURNS_SCHEMA = (
    "timestamp",
    "expert",
    "strategy",
    "window",
    "gross_return",
    "cost",
    "net_return",
    "benchmark_return",
    "turnover",
    "exposure",
    "net_exposure",
    "n_long",
    "n_short",
)


def trade(
    expert: str,
    predictions: pl.DataFrame,
    prices: Prices,
    benchmark: Backtest,
    window: str,
    terms: Terms,
) -> tuple[Portfolios, list[pl.DataFrame]]:
    """Trade one expert's scores in every portfolio: their figures, and a frame of RETURNS_SCHEMA each."""
    figures, frames = {}, []
    for strategy in PORTFOLIOS:
        test = run_portfolio(strategy, predictions, prices, terms)
        frame = tagged(test, expert, window, benchmark if strategy == "long_only" else None)
        curve = capacity(prices, predictions, test, strategy, terms)
        figures[strategy] = _figures(frame, test, curve, terms)
        frames.append(frame)
    return Portfolios(**figures), frames


def trade_long_short(predictions: pl.DataFrame, prices: Prices, terms: Terms) -> Portfolio:
    """The figures of one model's scores in the long_short portfolio alone."""
    test = run_portfolio("long_short", predictions, prices, terms)
    curve = capacity(prices, predictions, test, "long_short", terms)
    return _figures(tagged(test, "", "", None), test, curve, terms)


def run_portfolio(strategy: str, predictions: pl.DataFrame, prices: Prices, terms: Terms) -> Backtest:
    """One of the portfolios of `run_backtest` by all of the terms."""
    return run_backtest(
        prices,
        predictions,
        terms.settings,
        horizon=terms.horizon,
        strategy=strategy,
        bars_per_year=terms.bars_per_year,
    )


def trade_benchmark(predictions: Mapping[str, pl.DataFrame], prices: Prices, terms: Terms) -> Backtest:
    """Every name that any expert scored, alike, held as long as the portfolios, without costs and stops."""
    scored = (
        pl.concat([frame.select("timestamp", "symbol") for frame in predictions.values()])
        .unique()
        .with_columns(score=pl.lit(1.0), uncertainty=pl.lit(1.0))
    )
    prices = replace(prices, charges=None)
    free = terms.settings.model_copy(
        update={
            "cost_bps_per_side": 0.0,
            "stop_loss_share": None,
            "drawdown_stop": None,
            "consecutive_loss_stop": None,
            "volatility_ceiling": None,
        }
    )
    return run_backtest(prices, scored, free, horizon=terms.horizon, strategy=BENCHMARK)


def tagged(test: Backtest, expert: str, window: str, benchmark: Backtest | None) -> pl.DataFrame:
    """The returns of one backtest as RETURNS_SCHEMA; without a benchmark its return is 0."""
    frame = test.returns.with_columns(pl.lit(expert).alias("expert"), pl.lit(window).alias("window"))
    if benchmark is None:
        return frame.with_columns(pl.lit(0.0).alias("benchmark_return")).select(RETURNS_SCHEMA)
    other = benchmark.returns.select("timestamp", pl.col("gross_return").alias("benchmark_return"))
    return (
        frame.join(other, on="timestamp", how="left", maintain_order="left")
        .with_columns(pl.col("benchmark_return").fill_null(0.0))
        .select(RETURNS_SCHEMA)
    )


def _figures(returns: pl.DataFrame, test: Backtest, curve: list[CapacityRow], terms: Terms) -> Portfolio:
    settings, yearly = terms.settings, terms.bars_per_year
    net, gross, benchmark = (
        returns[name].to_numpy() for name in ("net_return", "gross_return", "benchmark_return")
    )

    def interval(values: np.ndarray) -> tuple[float, float]:
        return sharpe_interval(values, level=settings.interval_level, bars_per_year=yearly)

    unknown = dict.fromkeys(Portfolio.model_fields)
    summary = performance_summary(returns, horizon=terms.horizon, bars_per_year=yearly)
    own = {
        "sharpe_gross_interval": interval(gross),
        "sharpe_net_interval": interval(net),
        "interval_level": settings.interval_level,
        "information_ratio_net": information_ratio(net, benchmark, bars_per_year=yearly),
        "events": PortfolioEvents(**test.events),
        "capacity": curve,
        "limits": _limits(test, settings),
    }
    # A portfolio that never traded has no summary but its number of bars.
    return Portfolio(**{**unknown, **summary, **own})


def _limits(test: Backtest, settings: Settings) -> BookLimits | None:
    """How often each limit took something from the books that were asked for."""
    wanted = test.wanted
    took = {
        "sector": (settings.max_sector_weight, wanted.by_sector),
        "beta": (settings.max_beta, wanted.by_beta),
        "volatility": (settings.volatility_target, wanted.by_volatility),
    }
    if settings.sizing == "equal" and all(limit is None for limit, _ in took.values()):
        return None
    gross = np.abs(wanted.weights).sum(axis=1)
    asked = (gross > 0) | np.any([bars for _, bars in took.values()], axis=0)
    if not asked.any():
        return BookLimits(sector=None, beta=None, volatility=None, gross=0.0)
    shares = {
        name: None if limit is None else float(bars[asked].mean()) for name, (limit, bars) in took.items()
    }
    return BookLimits(**shares, gross=float(gross[asked].mean()))
