"""What of a model's figures comes from the names that trade least: share of profit, figures without them, and
figures of the names that trade most.
"""

import polars as pl

from components.backtest.engine import run_backtest
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts.documents.evaluation import Liquidity, Ranking
from components.metrics import ic_summary, information_coefficient, sharpe_ratio

FIFTH = 0.2
# The most traded names: those that make this share of the money, and enough of them for a correlation.
MOST_MONEY, FEWEST_MOST_TRADED = 0.8, 20


def place(name: str) -> pl.Expr:
    """Where a row stands among those of its bar by a column: in (0, 1), smallest first; null where its value
    is unknown.
    """
    value = pl.col(name)
    return ((value.rank() - 0.5) / value.count()).over("timestamp")


def liquidity(
    predictions: pl.DataFrame, facts: pl.DataFrame, money: pl.DataFrame, prices: Prices, terms: Terms
) -> Liquidity | None:
    """Figures by fifths of each bar's scored names; None where no traded value is known.

    Parameters
    ----------
    predictions : scores of one model in one window
    facts : `timestamp`, `symbol`, `label`, `traded_value`
    money : from `paper_book`
    """
    key = ["timestamp", "symbol"]
    placed = (
        predictions.join(facts.select(*key, "traded_value"), on=key, how="left", maintain_order="left")
        .with_columns(place("traded_value").alias("place"))
        .filter(pl.col("place").is_not_null())
    )
    if placed.is_empty():
        return None
    outside, most = placed.filter(pl.col("place") > FIFTH), _most_traded(placed)
    earned = money.join(placed.select(*key, "place"), on=key, how="left")
    profit = earned["earned"].sum()
    least = earned.filter(pl.col("place") <= FIFTH)["earned"].sum()
    traded = run_backtest(
        prices,
        outside,
        terms.settings,
        horizon=terms.horizon,
        strategy="long_short",
        bars_per_year=terms.bars_per_year,
    )
    net = traded.returns["net_return"].to_numpy()
    return Liquidity(
        names=int(placed.group_by("timestamp").len()["len"].median()),
        least_traded_profit_share=least / profit if profit > 0 else None,
        sharpe_net_outside=float(sharpe_ratio(net, bars_per_year=terms.bars_per_year)),
        rank_ic_outside=_ranking(outside, facts, terms.horizon),
        rank_ic_most_traded=_ranking(most, facts, terms.horizon),
    )


def _most_traded(placed: pl.DataFrame) -> pl.DataFrame:
    """The names that together make MOST_MONEY of a bar's traded value, at least FEWEST_MOST_TRADED.

    How many that are differs by market: a fixed share of names would take in many that hardly trade where
    few make the market.
    """
    value = pl.col("traded_value")
    larger = (value.cum_sum() - value).over("timestamp") / value.sum().over("timestamp")
    number = pl.int_range(pl.len()).over("timestamp")
    return placed.sort("timestamp", "traded_value", "symbol", descending=[False, True, False]).filter(
        (larger < MOST_MONEY) | (number < FEWEST_MOST_TRADED)
    )


def _ranking(rows: pl.DataFrame, facts: pl.DataFrame, horizon: int) -> Ranking:
    return Ranking(**ic_summary(information_coefficient(rows, facts, rank=True)["ic"], horizon=horizon))
