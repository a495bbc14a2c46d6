"""What one model earns that no run has judged: the returns that the backtest of a run would give it."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from components.backtest.market_facts import MarketFacts
from components.backtest.portfolios import run_portfolio
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts import tradable_rows


@dataclass(frozen=True)
class TestWindow:
    """The test window of a market as its backtest trades it."""

    market: MarketFacts
    terms: Terms

    @cached_property
    def prices(self) -> Prices:
        """The same for every model."""
        return self.market.prices("backtest", self.terms)

    def net_returns(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """`timestamp` and `net_return` of long_short after costs, of the scores in the test window."""
        scores = tradable_rows(self.market.inside(predictions, "test"), self.market.universe)
        test = run_portfolio("long_short", scores, self.prices, self.terms)
        return test.returns.select("timestamp", "net_return")
