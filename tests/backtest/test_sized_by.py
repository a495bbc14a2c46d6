"""What books are sized by is what was known at their bar, and limits reach what is traded and reported."""

import numpy as np
import polars as pl
import pytest
from small_markets import long_table, random_market

from components.backtest import sized_by
from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.portfolios import trade, trade_benchmark
from components.backtest.prices import market_prices
from components.backtest.sized_by import new_books, with_names
from components.backtest.terms import Terms
from components.contracts import (
    BETA_COLUMN,
    PAST_RETURN_BARS,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
)
from components.sizing.known import SizingError

FREE = Settings(quantile=0.25, max_weight=1.0, stop_loss_share=None, cost_bps_per_side=0.0)
BARS, NAMES = 120, 12


@pytest.fixture(scope="module")
def market():
    """Prices of the bars from 80 on, with a context of all bars."""
    opening, close, score = random_market(3, bars=BARS, count=NAMES)
    returns = np.vstack([np.full((1, NAMES), np.nan), np.diff(np.log(close), axis=0)])
    rng = np.random.default_rng(4)
    context = long_table(
        **{
            RETURN_COLUMN: returns,
            VOLATILITY_COLUMN: rng.uniform(0.01, 0.05, (BARS, NAMES)),
            SECTOR_COLUMN: np.tile(np.repeat([7.0, 8.0, 9.0], 4), (BARS, 1)),
            BETA_COLUMN: rng.normal(1, 0.5, (BARS, NAMES)),
        }
    )
    first = context["timestamp"].unique().sort()[80]
    inside = pl.col("timestamp") >= first
    prices = market_prices(long_table(open=opening, close=close).filter(inside))
    predictions = long_table(score=score, uncertainty=np.full_like(score, 0.05)).filter(inside)
    return prices, predictions, context, returns


def terms(**set_) -> Terms:
    return Terms(FREE.model_copy(update=set_), 1, 252.0)


def books(market, **set_):
    prices, predictions, context, _ = market
    own = terms(**set_)
    return new_books(predictions, with_names(prices, context, own), own, "long_short")[0]


def test_past_returns_are_those_of_the_last_bars_up_to_the_books_own(market):
    prices, _, context, returns = market
    names = with_names(prices, context, terms(volatility_target=0.1)).names
    assert names.past.shape == (BARS - 80, NAMES, PAST_RETURN_BARS)
    for bar in (0, 5, BARS - 81):
        known = returns[81 + bar - PAST_RETURN_BARS : 81 + bar]
        np.testing.assert_allclose(names.past[bar].T, known)
    assert (names.seen == 1).all()


def test_before_a_panel_nothing_is_seen(market):
    _, _, context, _ = market
    opening, close, _ = random_market(3, bars=BARS, count=NAMES)
    prices = market_prices(long_table(open=opening, close=close))
    names = with_names(prices, context, terms(volatility_target=0.1)).names
    np.testing.assert_allclose(names.seen[:4, 0] * PAST_RETURN_BARS, [0, 1, 2, 3])
    np.testing.assert_array_equal(names.past[0], 0)


def test_a_later_return_moves_no_earlier_book(market):
    prices, predictions, context, _ = market
    last = context["timestamp"].max()
    shocked = context.with_columns(
        pl.when(pl.col("timestamp") == last).then(5.0).otherwise(pl.col(RETURN_COLUMN)).alias(RETURN_COLUMN),
        pl.when(pl.col("timestamp") == last).then(9.0).otherwise(pl.col(BETA_COLUMN)).alias(BETA_COLUMN),
    )
    own = terms(volatility_target=0.05, max_beta=0.02)
    first, second = (
        new_books(predictions, with_names(prices, given, own), own, "long_short")[0].weights
        for given in (context, shocked)
    )
    np.testing.assert_array_equal(first[:-1], second[:-1])
    assert (first[-1] != second[-1]).any()


def test_a_book_aimed_at_a_volatility_realises_it():
    """Planted: two groups of names that move with a common factor in opposite ways. The book that holds one
    against the other has far more than its target, and comes out near it.
    """
    rng = np.random.default_rng(0)
    bars, half = 500, 10
    common = rng.normal(0, 0.02, (bars, 1)) * np.array([1.0] * half + [-1.0] * half)
    close = 100 * np.exp(np.cumsum(common + rng.normal(0, 0.002, (bars, 2 * half)), axis=0))
    opening = np.vstack([close[:1], close[:-1]])
    score = np.tile(np.r_[np.ones(half), np.zeros(half)], (bars, 1)) + rng.normal(0, 0.01, (bars, 2 * half))
    returns = np.vstack([np.zeros((1, 2 * half)), np.diff(np.log(close), axis=0)])
    prices = market_prices(long_table(open=opening, close=close))
    predictions = long_table(score=score, uncertainty=np.ones_like(score))
    context = long_table(**{RETURN_COLUMN: returns})
    found = {}
    for target in (None, 0.1):
        own = terms(volatility_target=target)
        test = run_backtest(with_names(prices, context, own), predictions, own.settings, horizon=1)
        found[target] = test.returns["gross_return"][PAST_RETURN_BARS:].std() * np.sqrt(252)
    assert found[None] > 0.25
    assert found[0.1] == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(
    "given",
    [
        {"sizing": "kelly", "kelly_fraction": 0.01},
        {"max_sector_weight": 0.1, "max_beta": 0.02},
        {"volatility_target": 0.05},
    ],
)
def test_books_of_stretches_of_bars_are_those_of_all_bars_at_once(market, monkeypatch, given):
    prices, predictions, context, _ = market
    rng = np.random.default_rng(8)
    up = rng.uniform(0.3, 0.6, len(predictions))
    told = predictions.with_columns(
        p_up=pl.Series(up),
        p_down=pl.Series(0.9 - up),
        usual_uncertainty=pl.Series(rng.uniform(0.02, 0.06, len(predictions))),
    )
    own = terms(**given)
    named = with_names(prices, context, own)
    whole, _ = new_books(told, named, own, "long_short")
    monkeypatch.setattr(sized_by, "SIZED_TOGETHER", 7)
    parts, _ = new_books(told, named, own, "long_short")
    for name in ("weights", "by_sector", "by_beta", "by_volatility"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_limits_are_told_with_the_portfolio(market):
    prices, predictions, context, _ = market
    own = terms(max_sector_weight=0.1, max_beta=0.02)
    named = with_names(prices, context, own)
    benchmark = trade_benchmark({"a": predictions}, named, own)
    figures, _ = trade("a", predictions, named, benchmark, "backtest", own)
    held = books(market, max_sector_weight=0.1, max_beta=0.02)
    found = figures.long_short.limits
    assert 0.3 < found.sector == held.by_sector.mean()
    assert 0.3 < found.beta == held.by_beta.mean()
    assert found.volatility is None
    assert found.gross == np.abs(held.weights).sum(axis=1).mean()
    assert found.gross < 0.9
    free, _ = trade("a", predictions, prices, benchmark, "backtest", terms())
    assert free.long_short.limits is None
    kelly, _ = trade("a", predictions, prices, benchmark, "backtest", terms(sizing="kelly"))
    assert kelly.long_short.limits.gross > 0.9


def test_chances_are_bet_on_where_the_target_is_a_class(market):
    prices, predictions, context, _ = market
    rng = np.random.default_rng(5)
    up = pl.Series("p_up", rng.uniform(0.3, 0.6, len(predictions)))
    chances = predictions.with_columns(up, (0.9 - up).alias("p_down"), pl.lit(0.1).alias("p_none"))
    own = terms(sizing="kelly", kelly_fraction=0.01)
    named = with_names(prices, context, own)
    by_class, by_number = (
        new_books(given, named, own, "long_short")[0].weights for given in (chances, predictions)
    )
    assert (by_class != by_number).any()
    with pytest.raises(SizingError, match="volatility of each name"):
        new_books(chances, prices, own, "long_short")


@pytest.mark.parametrize(
    ("setting", "column"),
    [
        ("max_sector_weight", SECTOR_COLUMN),
        ("max_beta", BETA_COLUMN),
        ("volatility_target", RETURN_COLUMN),
    ],
)
def test_a_training_set_without_what_a_limit_needs_is_refused(market, setting, column):
    prices, predictions, context, _ = market
    own = terms(**{setting: 0.1})
    with pytest.raises(SizingError, match=rf"backtest\.{setting} needs"):
        new_books(predictions, with_names(prices, context.drop(column), own), own, "long_short")
