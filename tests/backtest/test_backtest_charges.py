"""What trading costs by name: borrow fees, spreads and impact by hand, nothing from the future, and capacity
against a backtest at each capital.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from small_markets import long_table, random_market

from components.backtest.books import Charges
from components.backtest.capacity import CAPITALS, capacity
from components.backtest.charges import charges_by_name
from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.prices import market_prices
from components.backtest.terms import Terms
from components.contracts import ContractError
from components.metrics import performance_summary

NONE = np.zeros((0, 0))
FREE = Settings(quantile=0.34, max_weight=1.0, cost_bps_per_side=0.0, stop_loss_share=None)
FLAT = np.full((6, 3), 100.0)
SCORE = np.tile([3.0, 2.0, 1.0], (6, 1))


def prices_of(opening, close, **charges):
    made = {name: charges.get(name, NONE) for name in Charges._fields}
    return replace(market_prices(long_table(open=opening, close=close)), charges=Charges(**made))


def costs(prices, score, config, horizon=1):
    predictions = long_table(score=score, uncertainty=np.ones_like(score))
    return run_backtest(prices, predictions, config, horizon=horizon).returns["cost"].to_list()


@pytest.mark.parametrize(("entry", "bar_4"), [("next_open", 0.01 * 1.0 / 0.5), ("next_close", 0.005)])
def test_a_borrow_fee_by_hand(entry, bar_4):
    """Half the capital is short C from bar 1 on, at .01 a bar; A's fee is no matter. C doubles in bar 3: at
    the open of bar 4, or at the close of bar 3, the book is renewed to half of what is left.
    """
    close = FLAT.copy()
    close[3:, 2] = 200
    rates = np.tile([0.5, 0.5, 0.01], (6, 1))
    config = FREE.model_copy(update={"entry": entry})
    found = costs(prices_of(np.vstack([close[:1], close[:-1]]), close, borrow=rates), SCORE, config)
    # Bar 1 enters; .5 is carried into bars 2 and 3; into bar 4, at a capital of .5, 1 or what is renewed.
    assert found == pytest.approx([0.0, 0.005, 0.005, bar_4, 0.005])


def test_the_borrow_fee_of_a_bar_is_that_of_the_close_before():
    rates = np.outer([0.01, 0.02, 0.03, 0.04, 0.05, 0.06], [0.0, 0.0, 1.0])
    found = costs(prices_of(FLAT, FLAT, borrow=rates), SCORE, FREE)
    assert found == pytest.approx([0.0, 0.01, 0.015, 0.02, 0.025])


def test_nothing_is_charged_on_what_is_held_long():
    assert costs(prices_of(FLAT, FLAT, borrow=np.tile([0.5, 0.5, 0.0], (6, 1))), SCORE, FREE) == [0.0] * 5


def test_spread_and_impact_of_an_order_by_hand():
    """Two orders of .5 in bar 1, at the rates of bar 0: half spreads .002 and .004, and at a capital of a
    million .5 million each; A at volatility .02 and 8 million traded a bar, C at .03 and .5 million.
    """
    rates = np.full((6, 3), np.nan)
    spread, impact = rates.copy(), rates.copy()
    spread[0], impact[0] = [0.002, 9, 0.004], [0.02 / np.sqrt(8e6), 9, 0.03 / np.sqrt(0.5e6)]
    wider = prices_of(FLAT, FLAT, spread=spread)
    assert costs(wider, SCORE, FREE) == pytest.approx([0.5 * 0.002 + 0.5 * 0.004, 0, 0, 0, 0])
    deep = prices_of(FLAT, FLAT, impact=impact)
    at_a_million = FREE.model_copy(update={"capital": 1e6})
    assert costs(deep, SCORE, at_a_million) == pytest.approx([0.5 * 0.02 * 0.25 + 0.5 * 0.03, 0, 0, 0, 0])
    assert costs(deep, SCORE, FREE) == [0.0] * 5
    both = prices_of(FLAT, FLAT, impact=impact, spread=spread)
    assert costs(both, SCORE, at_a_million.model_copy(update={"cost_bps_per_side": 10.0}))[
        0
    ] == pytest.approx(0.001 + 0.003 + 0.0175)


def test_a_bar_that_fills_nothing_costs_nothing():
    panel = long_table(open=FLAT, close=FLAT, unbuyable=np.ones_like(FLAT), unsellable=np.ones_like(FLAT))
    panel = panel.with_columns(pl.col("unbuyable", "unsellable").cast(pl.Boolean))
    dear = np.ones((6, 3))
    prices = replace(market_prices(panel), charges=Charges(dear, dear, dear))
    assert costs(prices, SCORE, FREE.model_copy(update={"capital": 1e9})) == [0.0] * 5


def market(seed=0, bars=120, count=12, **more):
    """A panel, and scores of its later bars."""
    opening, close, score = random_market(seed, bars, count)
    random = np.random.default_rng(seed)
    volume = np.exp(random.normal(10, 1, count)) * np.exp(random.normal(0, 0.3, (bars, count)))
    score[:60] = np.nan
    panel = long_table(open=opening, close=close, volume=volume, **more)
    return panel, long_table(score=score, uncertainty=np.ones_like(score))


def test_impact_and_spread_are_those_of_the_bars_up_to_the_signal():
    panel, _ = market()
    prices, config = market_prices(panel), Settings(half_spread="roll")
    found = charges_by_name(panel, prices, config, 252.0)
    close, volume = (panel[name].to_numpy().reshape(120, 12) for name in ("close", "volume"))
    returns = np.diff(np.log(close), axis=0)
    for bar, name in ((70, 3), (119, 11)):
        size = np.sqrt((returns[bar - 20 : bar, name] ** 2).mean())
        traded = (close * volume)[bar - 19 : bar + 1, name].mean()
        assert found.impact[bar, name] == pytest.approx(size / np.sqrt(traded))
        window = returns[bar - 60 : bar, name]
        now, before = returns[bar - 60 : bar, name], returns[bar - 61 : bar - 1, name]
        covariance = (now * before).mean() - now.mean() * before.mean()
        assert found.spread[bar, name] == pytest.approx(np.sqrt(max(-covariance, 0)))
        assert len(window) == 60
    cut = panel["timestamp"].unique().sort()[90]
    other = panel.with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col(name) * 3).otherwise(name).alias(name)
        for name in ("close", "volume")
    )
    changed = charges_by_name(other, prices, config, 252.0)
    for kind in ("impact", "spread"):
        np.testing.assert_array_equal(getattr(found, kind)[:91], getattr(changed, kind)[:91])
        assert (getattr(found, kind)[91:] != getattr(changed, kind)[91:]).any()


def test_the_bars_before_the_window_are_known_in_it():
    panel, _ = market()
    config = Settings(half_spread="roll")
    whole = charges_by_name(panel, market_prices(panel), config, 252.0)
    later = panel.filter(pl.col("timestamp") >= panel["timestamp"].unique().sort()[80])
    inside = charges_by_name(panel, market_prices(later), config, 252.0)
    np.testing.assert_allclose(inside.impact, whole.impact[80:], rtol=1e-12)
    np.testing.assert_allclose(inside.spread, whole.spread[80:], rtol=1e-9, atol=1e-15)


def test_a_new_name_is_as_dear_as_the_dearest_tenth_and_a_silent_one_as_it_was():
    panel, _ = market()
    moments = panel["timestamp"].unique().sort()
    gone = (pl.col("symbol") == "S03") & (pl.col("timestamp") < moments[80])
    silent = (pl.col("symbol") == "S05") & (pl.col("timestamp") > moments[80])
    panel = panel.filter(~gone).with_columns(
        volume=pl.when(silent).then(0.0).otherwise("volume"),
        close=pl.when(silent).then(None).otherwise("close"),
    )
    impact = charges_by_name(panel, market_prices(panel), Settings(), 252.0).impact
    others = np.delete(impact[82], 3)
    assert impact[82, 3] == pytest.approx(np.quantile(others, 0.9))
    assert impact[119, 5] == impact[90:, 5].min() == impact[90:, 5].max()
    assert np.isnan(impact[0]).all()


def test_a_step_of_the_level_is_no_move_of_the_price():
    """Planted: S03 is quoted in tenths from bar 110 on, as much of it is traded as before."""
    plain, _ = market()
    bar, own = pl.col("timestamp").rank("dense") - 1, pl.col("symbol") == "S03"
    stepped = plain.with_columns(
        close=pl.when(own & (bar >= 110)).then(pl.col("close") * 10).otherwise("close"),
        volume=pl.when(own & (bar >= 110)).then(pl.col("volume") / 10).otherwise("volume"),
        level_step=(own & (bar == 110)).cast(pl.Float64),
    )
    without, told, untold = (
        charges_by_name(panel, market_prices(panel), Settings(), 252.0).impact[119, 3]
        for panel in (plain, stepped, stepped.drop("level_step"))
    )
    assert told == pytest.approx(without, rel=0.3)
    assert untold > 3 * without


def test_fees_of_the_panel_stand_before_that_of_the_settings():
    fee = np.full((120, 12), np.nan)
    fee[:, 4] = 252.0
    panel, _ = market(borrow_bps=fee)
    found = charges_by_name(panel, market_prices(panel), Settings(borrow_bps_per_year=50.4), 252.0).borrow
    np.testing.assert_allclose(found[:, 4], 1e-4)
    np.testing.assert_allclose(np.delete(found, 4, axis=1), 0.2e-4)
    bare = panel.drop("borrow_bps")
    assert len(charges_by_name(bare, market_prices(bare), Settings(), 252.0).borrow) == 0


def test_without_volume_there_is_no_impact_and_a_capital_is_refused():
    panel, predictions = market()
    panel = panel.with_columns(volume=pl.lit(None, pl.Float64))
    prices = market_prices(panel)
    found = replace(prices, charges=charges_by_name(panel, prices, Settings(), 252.0))
    test = run_backtest(found, predictions, Settings(), horizon=3)
    assert test.impact is None
    assert capacity(found, predictions, test, "long_short", Terms(Settings(), 3, 252.0)) == []
    with pytest.raises(ContractError, match=r"backtest.capital = 1e\+06.*no volume"):
        charges_by_name(panel, prices, Settings(capital=1e6), 252.0)


@pytest.mark.parametrize(
    "update", [{}, {"capital": 5e5}, {"drawdown_stop": 0.1}, {"volatility_ceiling": 0.3}]
)
def test_capacity_is_what_a_backtest_at_each_capital_earns(update):
    panel, predictions = market(3)
    config = Settings(**update)
    prices = market_prices(panel)
    prices = replace(prices, charges=charges_by_name(panel, prices, config, 252.0))
    test = run_backtest(prices, predictions, config, horizon=3, bars_per_year=252.0)
    rows = capacity(prices, predictions, test, "long_short", Terms(config, 3, 252.0))
    assert [row.capital for row in rows] == list(CAPITALS)
    for row in rows[::4]:
        at = config.model_copy(update={"capital": row.capital})
        returns = run_backtest(prices, predictions, at, horizon=3, bars_per_year=252.0).returns
        expected = performance_summary(returns, horizon=3, bars_per_year=252.0)
        assert row.sharpe_net == pytest.approx(expected["sharpe_net"], rel=1e-9)
        assert row.return_net == pytest.approx(expected["annual_return_net"], rel=1e-9)
        assert row.cost_share == pytest.approx(expected["cost_share"], rel=1e-9, nan_ok=True)
    if "drawdown_stop" not in update:
        returns = [row.return_net for row in rows]
        assert returns == sorted(returns, reverse=True)
        assert returns[0] > returns[-1] + 0.05
