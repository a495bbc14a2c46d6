"""The paths of a cross-validation: one by one against the engine and Spearman's formula, and their
distribution.
"""

import numpy as np
import polars as pl
import pytest

from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.paths import distribution, evaluate_paths
from components.backtest.prices import market_prices
from components.backtest.terms import Terms
from components.contracts import CROSS_VALIDATED
from tests.backtest.small_markets import long_table, random_market

TERMS = Terms(Settings(quantile=0.3, cost_bps_per_side=5.0), 2, 252.0)
BARS, SYMBOLS, SPLITS = 90, 12, ((0, 1), (0, 2), (1, 2))
PATH_OF = {(0, 0): 0, (0, 1): 0, (1, 0): 1, (1, 2): 0, (2, 1): 1, (2, 2): 1}


def universe_of(panel: pl.DataFrame, without: tuple[str, ...] = ()) -> pl.DataFrame:
    """A universe of all symbols but some."""
    return panel.select("timestamp", "symbol", tradable=~pl.col("symbol").is_in(without))


@pytest.fixture(scope="module")
def market():
    opened, closed, score = random_market(3, bars=BARS, count=SYMBOLS)
    panel = long_table(open=opened, close=closed, volume=np.ones_like(closed))
    label = np.vstack([np.log(opened[3:] / opened[1:-2]), np.full((3, SYMBOLS), np.nan)])
    return panel, long_table(label=label), score


@pytest.fixture(scope="module")
def crossed(market):
    """Three groups of 28 bars that end before the panel does, two of them tested at a time: two paths. `seer`
    is right on path 1 alone and wrong on path 0, `noise` gives scores of its own.
    """
    _, facts, score = market
    label = np.nan_to_num(facts["label"].to_numpy().reshape(BARS, SYMBOLS))
    parts = []
    for split, groups in enumerate(SPLITS):
        for group in groups:
            path = PATH_OF[split, group]
            for name, values in (("seer", label if path else -label), ("noise", score + split)):
                table = long_table(score=values)
                inside = np.arange(BARS * SYMBOLS) // SYMBOLS // 28 == group
                parts.append(
                    table.filter(pl.Series(inside)).with_columns(
                        pl.lit(value, CROSS_VALIDATED.columns[column]).alias(column)
                        for column, value in {
                            "period": "1d",
                            "horizon": 2,
                            "target": "log_return",
                            "expert": name,
                            "split": split,
                            "group": group,
                            "path": path,
                            "uncertainty": 1.0,
                        }.items()
                    )
                )
    return pl.concat(part.select(*CROSS_VALIDATED.columns) for part in parts).sort(CROSS_VALIDATED.key)


@pytest.fixture(scope="module")
def found(market, crossed):
    panel, facts, _ = market
    return evaluate_paths(crossed, universe_of(panel), facts, panel, TERMS)


def test_groups_splits_and_paths_are_counted_from_the_table(found):
    assert (found.scheme, found.test_groups, found.splits, found.paths) == ("combinatorial", 2, 3, 2)
    assert [group.bars for group in found.groups] == [28, 28, 28]
    assert found.groups[1].start[:10] == "2024-01-29"
    assert sorted(found.models) == ["noise", "seer"]


def test_each_path_is_measured_for_itself(found):
    wrong, right = found.models["seer"].paths
    assert (wrong.path, right.path) == (0, 1)
    assert (wrong.rank_ic, right.rank_ic) == (pytest.approx(-1), pytest.approx(1))
    assert wrong.sharpe_net < 0 < right.sharpe_net
    assert found.models["seer"].sharpe_net.share_below_0 == 0.5


def test_a_path_is_traded_over_its_own_bars_alone(market, crossed, found):
    """The same scores through the engine on a panel that ends with them; rank correlation by its formula."""
    panel, facts, score = market
    last = crossed["timestamp"].max()
    own = long_table(score=score, uncertainty=np.ones_like(score)).filter(pl.col("timestamp") <= last)
    prices = market_prices(panel.filter(pl.col("timestamp") <= last))
    net = run_backtest(prices, own, TERMS.settings, horizon=2).returns["net_return"].to_numpy()
    path = found.models["noise"].paths[0]
    assert path.sharpe_net == pytest.approx(net.mean() / net.std(ddof=1) * np.sqrt(252))
    label = facts["label"].to_numpy().reshape(BARS, SYMBOLS)[:84]
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1) for values in (score[:84], label)]
    squares = ((ranks[0] - ranks[1]) ** 2).sum(axis=1)
    assert path.rank_ic == pytest.approx((1 - 6 * squares / (SYMBOLS * (SYMBOLS**2 - 1))).mean())


def test_bars_after_the_last_group_move_nothing(market, crossed, found):
    """Planted: prices and labels of the test window that follows."""
    panel, facts, _ = market
    after = pl.col("timestamp") > crossed["timestamp"].max()
    wild = panel.with_columns(pl.when(after).then(9e9).otherwise(pl.col("close")).alias("close"))
    other = facts.with_columns(pl.when(after).then(-9.0).otherwise(pl.col("label")).alias("label"))
    assert evaluate_paths(crossed, universe_of(panel), other, wild, TERMS) == found


def test_only_what_can_be_traded_is_measured_and_the_groups_stay(market, crossed, found):
    panel, facts, _ = market
    few = ("S00", "S01", "S02")
    other = evaluate_paths(crossed, universe_of(panel, few), facts, panel, TERMS)
    rest = crossed.filter(~pl.col("symbol").is_in(few))
    assert other.models == evaluate_paths(rest, universe_of(panel), facts, panel, TERMS).models
    assert other.models["noise"] != found.models["noise"]
    nothing = evaluate_paths(crossed, universe_of(panel).clear(), facts, panel, TERMS)
    assert nothing.models == {}
    assert nothing.groups == other.groups == found.groups


@pytest.mark.parametrize(("asked", "first"), [({"capital": 1e3}, 10), ({"half_spread": "roll"}, 31)])
def test_money_begins_where_its_costs_are_known(market, crossed, asked, first):
    """Planted: nothing is known of the first bars, at which the panel begins; one of them left a path without
    a Sharpe ratio.
    """
    panel, facts, _ = market
    terms = Terms(TERMS.settings.model_copy(update=asked), 2, 252.0)
    told = evaluate_paths(crossed, universe_of(panel), facts, panel, terms).models["noise"]
    assert all(np.isfinite(path.sharpe_net) for path in told.paths)
    start = panel["timestamp"].unique().sort()[first]
    early = pl.col("timestamp") < start
    silent = crossed.with_columns(pl.when(early).then(None).otherwise("score").alias("score"))
    later = evaluate_paths(silent, universe_of(panel), facts, panel, terms).models["noise"]
    assert told.sharpe_net == later.sharpe_net
    assert told.rank_ic != later.rank_ic


def test_quantiles_and_the_share_below_zero_by_hand():
    found = distribution([-1.0, 0.0, 1.0, 2.0, 3.0, float("nan")])
    assert (found.p10, found.p50, found.p90, found.share_below_0) == pytest.approx((-0.6, 1.0, 2.6, 0.2))
    assert distribution([float("nan")]).p50 is None
