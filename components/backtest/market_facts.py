"""The market that scores are held against: what happened, in which windows, and at which prices it trades."""

from dataclasses import dataclass
from typing import Self

import polars as pl

from components.backtest.charges import charged_prices
from components.backtest.prices import Prices
from components.backtest.sized_by import SIZED_BY, with_names
from components.backtest.terms import Terms
from components.contracts import REGIME_COLUMN, REGIMES
from components.contracts.documents.evaluation import WindowSpan
from components.timeline import Settings as TimelineSettings
from components.timeline import Windows, resolve_windows


@dataclass(frozen=True)
class MarketFacts:
    """What scores are held against.

    labels : LABELS table
    panel : PANEL table
    regimes : columns `timestamp`, `symbol`, `regime_state` (code into REGIMES, or null)
    windows, calendar : the four windows as bar positions, and the sorted distinct timestamps they count in
    universe : UNIVERSE table of the panel; only tradable rows are measured
    context : what books are sized by beside scores, as in `with_names`; None: nothing is known of the names
    """

    labels: pl.DataFrame
    panel: pl.DataFrame
    regimes: pl.DataFrame
    windows: Windows
    calendar: pl.Series
    universe: pl.DataFrame
    context: pl.DataFrame | None = None

    @classmethod
    def of(
        cls,
        panel: pl.DataFrame,
        universe: pl.DataFrame,
        labels: pl.DataFrame,
        training_set: pl.DataFrame,
        timeline: TimelineSettings,
    ) -> Self:
        """Of a run's tables. Windows are counted on the training set's calendar, as experts and stack do."""
        key = ("timestamp", "symbol")
        calendar = training_set["timestamp"].unique().sort()
        return cls(
            labels=labels,
            panel=panel,
            regimes=training_set.select(*key, REGIME_COLUMN),
            windows=resolve_windows(calendar, timeline),
            calendar=calendar,
            universe=universe,
            context=training_set.select(*key, *(name for name in SIZED_BY if name in training_set.columns)),
        )

    def prices(self, window: str, terms: Terms) -> Prices:
        """Prices of one of the windows, with what trading costs by name and what books are sized by."""
        prices = charged_prices(self.panel, self.inside(self.panel, window), terms)
        return prices if self.context is None else with_names(prices, self.context, terms)

    def inside(self, frame: pl.DataFrame, window: str) -> pl.DataFrame:
        """The rows of one of the windows."""
        first, end = getattr(self.windows, window)
        return frame.filter(pl.col("timestamp").is_between(self.calendar[first], self.calendar[end - 1]))

    def span(self, window: str) -> WindowSpan:
        """First and last bar of one of the windows."""
        first, end = getattr(self.windows, window)
        start, last = (self.calendar[bar].strftime("%Y-%m-%dT%H:%M:%SZ") for bar in (first, end - 1))
        return WindowSpan(start=start, end=last, bars=end - first)


def what_happened(market: MarketFacts, *, target: str, horizon: int) -> pl.DataFrame:
    """What happened and where, one row a (timestamp, symbol):

    `label` (the target), `log_return`, `sector`, `regime`, `traded_value`, `market_cap` (null where unknown).
    """
    key = ["timestamp", "symbol"]
    code = pl.col("regime_state").fill_nan(None).cast(pl.Int32)
    names = (
        code.replace_strict(dict(enumerate(REGIMES)), default="unknown", return_dtype=pl.String)
        .fill_null("unknown")
        .alias("regime")
    )
    size = pl.col("market_cap") if "market_cap" in market.panel.columns else pl.lit(None, dtype=pl.Float64)
    size = pl.when(size > 0).then(size).alias("market_cap")
    return (
        market.labels.filter(pl.col("horizon") == horizon)
        .select(*key, pl.col(target).cast(pl.Float64).alias("label"), "log_return")
        .join(market.panel.select(*key, pl.col("sector").fill_null("unknown"), size), on=key, how="left")
        .join(market.regimes.select(*key, names), on=key, how="left")
        .join(market.universe.select(*key, "traded_value"), on=key, how="left")
        .with_columns(pl.col("sector", "regime").fill_null("unknown"))
        .sort(key)
    )
