"""Sizes by Kelly's share and by steps: against growth that is maximised by trying, and on markets that are
less certain.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize_scalar

from components.backtest.config import Settings
from components.sizing.bets import (
    implied_chances,
    kelly_share,
    kelly_share_of_classes,
    kelly_shares,
    step_sizes,
    win_chances,
)
from components.sizing.known import Known, SizingError
from tests.sizing.weights import long_only_weights, long_short_weights

EQUAL = Settings(quantile=0.2, max_weight=1.0, top_k=5, top_k_max_share=0.2)
KELLY = EQUAL.model_copy(update={"sizing": "kelly"})
STEPS = EQUAL.model_copy(update={"sizing": "steps"})
BOOKS = pytest.mark.parametrize("weights", [long_short_weights, long_only_weights])
# Nodes and weights of the expectation of a Gaussian.
NODES, MASS = np.polynomial.hermite_e.hermegauss(20)


def gross(weights: np.ndarray) -> np.ndarray:
    return np.abs(weights).sum(axis=1)


def best_share(growth) -> float:
    """The share with the largest expected log growth, by trying."""
    return minimize_scalar(lambda share: -growth(share), bounds=(-0.99, 0.99), method="bounded").x


def test_a_coin_gets_kellys_own_share():
    """Kelly 1956: p - q of the capital on even odds."""
    up = np.array([[0.6, 0.5, 0.4, 1.0]])
    np.testing.assert_allclose(kelly_share_of_classes(up, 1 - up, np.ones((1, 4))), [[0.2, 0.0, -0.2, 1.0]])


@hypothesis_settings(max_examples=40, deadline=None)
@given(p=st.floats(0.05, 0.9), share=st.floats(0.05, 0.95), move=st.floats(0.3, 1.0))
def test_a_class_gets_the_share_that_grows_fastest(p, share, move):
    up, down = p * share, p * (1 - share)

    def growth(f):
        return up * np.log1p(f * move) + down * np.log1p(-f * move)

    (found,) = kelly_share_of_classes(np.array([up]), np.array([down]), np.array([move]))
    assert np.clip(found, -0.99, 0.99) == pytest.approx(best_share(growth), abs=2e-4)


@pytest.mark.parametrize(("mean", "deviation"), [(0.002, 0.1), (-0.003, 0.15), (0.0005, 0.05), (0.0, 0.1)])
def test_a_gaussian_return_gets_the_share_that_grows_fastest(mean, deviation):
    def growth(share):
        return MASS @ np.log1p(share * (mean + deviation * NODES)) / MASS.sum()

    found = kelly_share(np.array(mean), np.array(deviation))
    assert found == pytest.approx(best_share(growth), rel=0.03, abs=1e-4)


def test_a_half_is_best_where_an_edge_is_as_large_as_its_error():
    """What the default rests on: the mean growth of shares set by an estimate m + e of the edge m."""
    error = NODES
    fractions = np.linspace(0.05, 1.5, 146)
    growth = [MASS @ (c * (1 + error) - (c * (1 + error)) ** 2 / 2) for c in fractions]
    assert fractions[int(np.argmax(growth))] == pytest.approx(Settings().kelly_fraction, abs=0.011)


def test_weights_are_the_fraction_of_kellys_share_up_to_the_equal_weight():
    scores = np.array([[0.02, 0.01, 0.0, -0.01, -0.02]])
    uncertainty = np.full((1, 5), 0.5)
    one = KELLY.model_copy(update={"quantile": 0.2})
    np.testing.assert_allclose(
        long_short_weights(scores, uncertainty, one), [[0.04, 0, 0, 0, -0.04]], atol=1e-15
    )
    whole = one.model_copy(update={"kelly_fraction": 1.0})
    np.testing.assert_allclose(long_short_weights(scores, uncertainty, whole)[0, 0], 0.08)
    sure = long_short_weights(scores, uncertainty / 20, one)
    np.testing.assert_array_equal(sure, long_short_weights(scores, uncertainty, EQUAL))


@BOOKS
@pytest.mark.parametrize("config", [KELLY, STEPS])
@hypothesis_settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), names=st.integers(3, 40), times=st.floats(1.0, 30.0))
def test_less_certainty_is_never_a_larger_book_and_no_name_gains(weights, config, seed, names, times):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 0.01, (4, names))
    uncertainty = np.exp(rng.normal(-2.5, 0.5, (4, names)))
    usual = np.quantile(uncertainty, 0.9)
    most = weights(scores, uncertainty, EQUAL)
    before, after = (weights(scores, uncertainty * factor, config, usual) for factor in (1.0, times))
    assert (np.abs(before) <= np.abs(most) + 1e-15).all()
    assert (gross(after) <= gross(before) + 1e-15).all()
    if weights is long_short_weights:
        np.testing.assert_allclose(after.sum(axis=1), 0, atol=1e-15)


@BOOKS
@pytest.mark.parametrize("config", [KELLY, STEPS])
def test_a_market_of_which_nothing_is_certain_is_hardly_held(weights, config):
    """Planted: the same scores, of one market ten times less certain. Its book is no other split of the
    same money.
    """
    rng = np.random.default_rng(3)
    scores, uncertainty = rng.normal(0, 0.02, (50, 30)), np.full((50, 30), 0.1)
    sure, unsure = (weights(scores, uncertainty * times, config, 0.1) for times in (1, 10))
    assert gross(sure).mean() > 0.6
    assert (gross(unsure) < 0.55 * gross(sure)).all()


@BOOKS
@pytest.mark.parametrize("config", [KELLY, STEPS])
@pytest.mark.parametrize("unknown", [np.nan, 0.0])
def test_without_an_uncertainty_nothing_is_bet(weights, config, unknown):
    scores = np.random.default_rng(1).normal(size=(3, 12))
    assert not weights(scores, np.full_like(scores, unknown), config).any()


def test_what_all_names_share_is_a_bet_of_long_only_alone():
    scores = np.array([[0.02, 0.01, 0.0, -0.01, -0.02]]) - 0.05
    uncertainty = np.full((1, 5), 0.5)
    np.testing.assert_allclose(
        long_short_weights(scores, uncertainty, KELLY), [[0.04, 0, 0, 0, -0.04]], atol=1e-12
    )
    assert not long_only_weights(scores, uncertainty, KELLY).any()
    assert long_only_weights(scores + 0.1, uncertainty, KELLY)[0, 0] > 0


def test_steps_are_none_half_and_full():
    steps = [(0.5, 0.5), (0.6, 1.0)]
    np.testing.assert_array_equal(
        step_sizes(np.array([0.0, 0.49, 0.5, 0.59, 0.6, 1.0]), steps), [0, 0, 0.5, 0.5, 1, 1]
    )
    up = np.array([[0.7, 0.55, 0.4, 0.4, 0.3, 0.15]])
    known = Known(up=up, down=0.85 - up)
    config = STEPS.model_copy(update={"quantile": 0.17, "size_steps": steps})
    found = long_short_weights(up, np.full_like(up, 0.9), config, known=known)
    # Long 0.7 less half of the mean tilt is above 0.6, short 0.7 with it too.
    np.testing.assert_allclose(found, [[0.5, 0, 0, 0, 0, -0.5]], atol=1e-12)
    lower = Known(up=up - 0.15, down=0.7 - up)
    found = long_short_weights(up, np.full_like(up, 0.9), config, known=lower)
    np.testing.assert_allclose(found, [[0.25, 0, 0, 0, 0, -0.25]], atol=1e-12)


def test_a_class_that_is_worth_more_gets_less_and_needs_its_volatility():
    up = np.array([[0.6, 0.55, 0.5, 0.45, 0.4]])
    sizes = {}
    for volatility in (1.0, 2.0):
        known = Known(up=up, down=1 - up, volatility=np.full_like(up, volatility), horizon=4)
        sizes[volatility] = long_short_weights(up, np.ones_like(up), KELLY, known=known)[0, 0]
    # Half of (0.6 - 0.4) over a move of volatility times the root of 4 bars.
    np.testing.assert_allclose([sizes[1.0], sizes[2.0]], [0.05, 0.025])
    with pytest.raises(SizingError, match="volatility of each name"):
        long_short_weights(up, np.ones_like(up), KELLY, known=Known(up=up, down=1 - up))
    unknown = Known(up=up, down=1 - up, volatility=np.full_like(up, np.nan))
    assert not long_short_weights(up, np.ones_like(up), KELLY, known=unknown).any()


@hypothesis_settings(max_examples=40, deadline=None)
@given(down=st.floats(0, 1), rest=st.floats(0, 1))
def test_chances_are_told_from_their_mean_and_deviation(down, rest):
    up = (1 - down) * rest
    mean, variance = up - down, up + down - (up - down) ** 2
    found = implied_chances(np.array([mean]), np.array([np.sqrt(max(variance, 0))]), (-1, 0, 1))
    np.testing.assert_allclose(np.concatenate(found), [up, down], atol=1e-7)
    found = implied_chances(np.array([up]), np.array([0.5]), (0, 1))
    np.testing.assert_allclose(np.concatenate(found), [up, 1 - up])


def test_a_name_without_a_score_is_no_bet():
    given = np.array([[np.nan, 0.1]]), np.array([[0.1, 0.1]]), Known()
    assert kelly_shares(*given, balanced=False).tolist() == [[0.0, pytest.approx(10.0)]]
    long, short = win_chances(*given, balanced=False)
    assert long[0, 0] == short[0, 0] == 0
    assert long[0, 1] + short[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "steps", [[], [(0.6, 1.0), (0.5, 0.5)], [(0.5, 1.0), (0.6, 0.5)], [(0.5, 1.5)], [(-0.1, 0.5)]]
)
def test_steps_that_do_not_rise_are_refused(steps):
    with pytest.raises(ValidationError, match="size_steps"):
        Settings(size_steps=steps)
