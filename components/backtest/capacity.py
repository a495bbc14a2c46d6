"""What a strategy earns against the capital that is traded with, when orders move prices."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from components.backtest.engine import Backtest, run_backtest
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import CapacityRow
from components.metrics import cost_share, sharpe_ratio

CAPITALS = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9)
# Stops that depend on net returns: with one of them the positions depend on the capital.
STOPS_BY_MONEY = ("drawdown_stop", "consecutive_loss_stop", "volatility_ceiling")


def capacity(
    prices: Prices, predictions: pl.DataFrame, test: Backtest, strategy: str, terms: Terms
) -> list[CapacityRow]:
    """A row for each of CAPITALS; none where the price that orders move is unknown, or nothing was traded.

    The capital stays the same over time: what is earned is taken out.

    Parameters
    ----------
    test : the backtest of `predictions` as the settings have it
    """
    if test.impact is None or not (test.returns["turnover"] > 0).any():
        return []
    yearly = terms.bars_per_year
    return [
        CapacityRow(
            capital=capital,
            sharpe_net=float(sharpe_ratio(gross - cost, bars_per_year=yearly)),
            return_net=float((gross - cost).mean() * yearly),
            cost_share=cost_share(gross, cost),
        )
        for capital, gross, cost in _by_capital(prices, predictions, test, strategy, terms)
    ]


def _by_capital(
    prices: Prices, predictions: pl.DataFrame, test: Backtest, strategy: str, terms: Terms
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Capital, gross returns and costs. Where no stop depends on money the positions are the same for each
    capital, and impact grows with its root.
    """
    settings = terms.settings
    stops = any(getattr(settings, name) is not None for name in STOPS_BY_MONEY)
    for capital in CAPITALS:
        if stops:
            traded = run_backtest(
                prices,
                predictions,
                settings.model_copy(update={"capital": capital}),
                horizon=terms.horizon,
                strategy=strategy,
                bars_per_year=terms.bars_per_year,
            ).returns
            yield capital, traded["gross_return"].to_numpy(), traded["cost"].to_numpy()
        else:
            more = np.sqrt(capital) - np.sqrt(settings.capital or 0.0)
            gross, cost = (test.returns[name].to_numpy() for name in ("gross_return", "cost"))
            yield capital, gross, cost + test.impact * more
