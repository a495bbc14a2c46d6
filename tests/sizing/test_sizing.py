"""Confidence: what a model is unusually unsure of gets less, and nobody else gets it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.backtest.config import Settings
from components.backtest.engine import run_backtest
from components.backtest.prices import market_prices
from tests.backtest.small_markets import long_table, random_market
from tests.sizing.weights import long_only_weights, long_short_weights

BOOK = Settings(sizing="confidence", quantile=0.2, max_weight=1.0, top_k=10)
BOOKS = pytest.mark.parametrize("weights", [long_short_weights, long_only_weights])


def drawn(seed: int, bars: int = 30, names: int = 25) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores, uncertainties, and what nine of ten uncertainties do not exceed."""
    rng = np.random.default_rng(seed)
    uncertainty = np.exp(rng.normal(-3.5, 0.3, (bars, names)))
    return rng.normal(size=(bars, names)), uncertainty, float(np.quantile(uncertainty, 0.9))


def gross(weights: np.ndarray) -> np.ndarray:
    return np.abs(weights).sum(axis=1)


@BOOKS
def test_less_confidence_everywhere_is_a_smaller_book(weights):
    scores, uncertainty, usual = drawn(1)
    before, after = (weights(scores, uncertainty * times, BOOK, usual) for times in (1, 10))
    assert gross(before).mean() > 0.9
    assert (gross(after) < 0.35 * gross(before)).all()
    twice = weights(scores, uncertainty * 20, BOOK, usual)
    np.testing.assert_allclose(gross(twice), gross(after) / 2)


@BOOKS
def test_usual_confidence_is_the_ordinary_book_and_more_of_it_no_larger_one(weights):
    scores, uncertainty, _ = drawn(2)
    ordinary = weights(scores, uncertainty, BOOK)
    np.testing.assert_allclose(gross(ordinary), 1.0)
    largest = uncertainty.max()
    np.testing.assert_array_equal(weights(scores, uncertainty, BOOK, largest), ordinary)
    np.testing.assert_allclose(weights(scores, uncertainty / 10, BOOK, largest), ordinary, atol=1e-15)


@BOOKS
@hypothesis_settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), names=st.integers(3, 30), times=st.floats(2, 50))
def test_one_uncertain_name_gets_less_and_the_book_never_grows(weights, seed, names, times):
    scores, uncertainty, usual = drawn(seed, 3, names)
    uncertainty = np.minimum(uncertainty, usual)
    before = weights(scores, uncertainty, BOOK, usual)
    name = int(np.abs(before[0]).argmax())
    unsure = uncertainty.copy()
    unsure[:, name] = usual * times
    after = weights(scores, unsure, BOOK, usual)
    assert abs(after[0, name]) < abs(before[0, name])
    assert (gross(after) <= BOOK.gross_exposure + 1e-12).all()
    assert (gross(after) <= gross(before) + 1e-12).all()


@BOOKS
@pytest.mark.parametrize("given", [np.nan, 0.0])
def test_who_gives_no_uncertainty_keeps_the_book(weights, given):
    scores, uncertainty, usual = drawn(3)
    none = np.full_like(uncertainty, given)
    np.testing.assert_array_equal(weights(scores, none, BOOK, usual), weights(scores, none, BOOK))
    np.testing.assert_allclose(gross(weights(scores, none, BOOK, usual)), 1.0)
    equal = BOOK.model_copy(update={"sizing": "equal"})
    np.testing.assert_array_equal(
        weights(scores, 10 * uncertainty, equal, usual), weights(scores, uncertainty, equal)
    )


def test_the_backtest_trades_the_smaller_book_against_the_usual_uncertainty_of_each_row():
    opening, close, score = random_market(4, bars=12, count=10)
    usual = np.repeat([[0.02], [0.2]], 6, axis=0) * np.ones((1, 10))
    table = {"score": score, "uncertainty": np.full_like(score, 0.2)}
    prices = market_prices(long_table(open=opening, close=close))

    def exposure(**more):
        free = BOOK.model_copy(update={"stop_loss_share": None})
        return run_backtest(prices, long_table(**table, **more), free, horizon=1).returns

    ordinary, smaller = exposure(), exposure(usual_uncertainty=usual)
    share = (smaller["turnover"] / ordinary["turnover"]).to_list()
    assert share[0] == pytest.approx(0.1)
    assert (smaller["exposure"][:6] / ordinary["exposure"][:6]).max() < 0.11
    assert (smaller["exposure"][6:] / ordinary["exposure"][6:]).min() > 0.9
    unknown = exposure(usual_uncertainty=np.full_like(usual, np.nan))
    assert unknown.equals(ordinary)
