"""What one model earns that no run has judged: the returns that the backtest of a run would give it."""

from dataclasses import dataclass

import polars as pl

from components.backtest.charges import charged_prices
from components.backtest.engine import run_backtest
from components.backtest.terms import Terms
from components.contracts import tradable_rows
from components.timeline import Windows


@dataclass(frozen=True)
class TestWindow:
    """The test window of a run as its backtest trades it.

    `panel` is the whole PANEL, `universe` its UNIVERSE; `windows` are counted on `calendar`, the training
    set's sorted distinct timestamps.
    """

    panel: pl.DataFrame
    universe: pl.DataFrame
    windows: Windows
    calendar: pl.Series
    terms: Terms

    def rows(self, frame: pl.DataFrame, window: str = "test") -> pl.DataFrame:
        """Those of the frame that lie in one of the windows."""
        first, end = getattr(self.windows, window)
        return frame.filter(pl.col("timestamp").is_between(self.calendar[first], self.calendar[end - 1]))

    def net_returns(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """`timestamp` and `net_return` of long_short after costs, of the scores in the test window."""
        prices = charged_prices(self.panel, self.rows(self.panel, "backtest"), self.terms)
        test = run_backtest(
            prices,
            tradable_rows(self.rows(predictions), self.universe),
            self.terms.settings,
            horizon=self.terms.horizon,
            strategy="long_short",
            bars_per_year=self.terms.bars_per_year,
        )
        return test.returns.select("timestamp", "net_return")
