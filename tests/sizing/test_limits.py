"""Limits of a book: each on a book that breaks it, and all of them together on any book."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.backtest.config import Settings
from components.contracts import PAST_RETURN_BARS
from components.sizing import long_only_book, long_short_book
from components.sizing.known import Known, SizingError
from components.sizing.limits import predicted_volatility, within_limits
from tests.sizing.weights import long_short_weights

FREE = Settings(quantile=0.25, max_weight=1.0, top_k=8, top_k_max_share=0.5)


def limits(**set_: float) -> Settings:
    return FREE.model_copy(update=set_)


def one_book(weights: list[float]) -> np.ndarray:
    return np.array([weights], dtype=float)


def sector_weights(weights: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """Net weight of each sector, unknown ones together, by a plain loop."""
    found: dict[tuple[int, float], float] = {}
    for (bar, name), code in np.ndenumerate(sector):
        key = bar, -1.0 if np.isnan(code) else code
        found[key] = found.get(key, 0.0) + weights[bar, name]
    return np.array(list(found.values()))


def test_a_book_of_one_sector_against_another_is_cut_to_the_limit_and_stays_balanced():
    weights = one_book([0.25, 0.25, -0.25, -0.25])
    known = Known(sector=one_book([1, 1, 2, 2]))
    found = within_limits(weights, limits(max_sector_weight=0.1), known, balanced=True)
    np.testing.assert_allclose(found.weights, one_book([0.05, 0.05, -0.05, -0.05]))
    assert found.by_sector.all()


def test_a_book_that_is_neutral_by_sector_is_left_alone():
    weights = one_book([0.25, -0.25, 0.25, -0.25])
    known = Known(sector=one_book([1, 1, 2, 2]), beta=one_book([1.2, 1.2, 0.7, 0.7]))
    found = within_limits(weights, limits(max_sector_weight=0.1, max_beta=0.05), known, balanced=True)
    np.testing.assert_array_equal(found.weights, weights)
    assert not (found.by_sector | found.by_beta).any()


def test_only_the_heavy_sector_is_cut():
    """Three names long of one sector among many: the others keep more than by shrinking the whole book."""
    weights = one_book([0.1, 0.1, 0.1, 0.1, 0.1, -0.1, -0.1, -0.1, -0.1, -0.1])
    known = Known(sector=one_book([1, 1, 1, 2, 3, 2, 3, 4, 5, 6]))
    found = within_limits(weights, limits(max_sector_weight=0.15), known, balanced=True).weights
    assert np.abs(sector_weights(found, known.sector)).max() <= 0.15 + 1e-12
    assert found.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found[0, :3], 0.05)
    assert np.abs(found).sum() > 1.3 * 0.5


def test_names_without_a_sector_are_one_sector_together():
    weights = one_book([0.25, 0.25, -0.25, -0.25])
    known = Known(sector=one_book([np.nan, np.nan, 2, 3]))
    found = within_limits(weights, limits(max_sector_weight=0.2), known, balanced=True).weights
    assert found[0, :2].sum() == pytest.approx(0.2)


def test_a_book_of_high_beta_against_low_is_cut_to_the_limit_and_stays_balanced():
    weights = one_book([0.25, 0.25, -0.25, -0.25])
    known = Known(beta=one_book([2.0, 1.0, 0.0, 1.0]))
    found = within_limits(weights, limits(max_beta=0.1), known, balanced=True)
    assert found.by_beta.all()
    assert abs((found.weights * known.beta).sum()) <= 0.1 + 1e-12
    assert found.weights.sum() == pytest.approx(0, abs=1e-12)
    # The names that do not push keep more of their weight than those that do.
    assert found.weights[0, 1] > found.weights[0, 0]
    # The other way round alike.
    turned = within_limits(-weights, limits(max_beta=0.1), known, balanced=True)
    np.testing.assert_allclose(turned.weights, -found.weights)


def test_a_name_without_a_beta_counts_as_the_market():
    weights = one_book([0.5, -0.5])
    unknown, one = (Known(beta=one_book([2.0, beta])) for beta in (np.nan, 1.0))
    found, wanted = (
        within_limits(weights, limits(max_beta=0.2), known, balanced=True).weights for known in (unknown, one)
    )
    np.testing.assert_array_equal(found, wanted)
    assert found[0, 0] == pytest.approx(0.2)


def test_beta_is_no_limit_of_long_only():
    scores = np.arange(12.0)[None]
    known = Known(beta=np.full((1, 12), 1.5))
    free, held = (
        long_only_book(scores, np.ones_like(scores), config, known=known).weights
        for config in (FREE, limits(max_beta=0.1))
    )
    np.testing.assert_array_equal(free, held)


def past_of(returns: np.ndarray) -> Known:
    """One bar whose past returns are given, (PAST_RETURN_BARS, names)."""
    return Known(past=returns.T[None], seen=np.ones((1, returns.shape[1])), bars_per_year=252.0)


def test_predicted_volatility_is_that_of_w_sigma_w():
    """Against the quadratic form with the second moments of the past."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.02, (PAST_RETURN_BARS, 1))
    returns = common * np.array([1.0, 1.0, -0.5, -0.5]) + rng.normal(0, 0.005, (PAST_RETURN_BARS, 4))
    weights = one_book([0.25, 0.25, -0.25, -0.25])
    moments = returns.T @ returns / PAST_RETURN_BARS
    wanted = np.sqrt(weights[0] @ moments @ weights[0] * 252)
    np.testing.assert_allclose(predicted_volatility(weights, past_of(returns)), wanted)
    # What a sum over names as if they were unrelated would miss.
    unrelated = np.sqrt((weights[0] ** 2 * np.diag(moments)).sum() * 252)
    assert wanted > 1.5 * unrelated


def test_a_wild_book_is_made_smaller_to_its_target_and_a_calm_one_never_larger():
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 0.02, (PAST_RETURN_BARS, 2))
    weights, known = one_book([0.5, -0.5]), past_of(returns)
    volatility = predicted_volatility(weights, known)[0]
    found = within_limits(weights, limits(volatility_target=volatility / 4), known, balanced=True)
    np.testing.assert_allclose(found.weights, weights / 4)
    assert found.by_volatility.all()
    calm = within_limits(weights, limits(volatility_target=volatility * 4), known, balanced=True)
    np.testing.assert_array_equal(calm.weights, weights)
    assert not calm.by_volatility.any()


def test_a_name_of_which_too_little_is_seen_gets_no_position_under_a_target():
    scores = np.arange(8.0)[None]
    seen = np.ones((1, 8))
    seen[0, 7] = 0.49
    known = Known(past=np.full((1, 8, PAST_RETURN_BARS), 0.001), seen=seen)
    found = long_short_weights(scores, np.ones((1, 8)), limits(volatility_target=0.1), known=known)
    assert found[0, 7] == 0 < found[0, 6]
    assert found.sum() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("setting", "word"),
    [("max_sector_weight", "sector"), ("max_beta", "beta"), ("volatility_target", "past")],
)
def test_a_limit_without_what_it_needs_is_refused(setting, word):
    scores = np.arange(8.0)[None]
    with pytest.raises(SizingError, match=rf"backtest\.{setting} needs .*{word}"):
        long_short_book(scores, np.ones((1, 8)), limits(**{setting: 0.1}))


@pytest.mark.parametrize("book", [long_short_book, long_only_book])
@hypothesis_settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 99_999),
    names=st.integers(3, 40),
    sectors=st.integers(1, 8),
    sector=st.one_of(st.none(), st.floats(0.01, 0.6)),
    beta=st.one_of(st.none(), st.floats(0.005, 0.5)),
    volatility=st.one_of(st.none(), st.floats(0.01, 0.5)),
    cap=st.sampled_from([0.03, 0.1, 1.0]),
    sizing=st.sampled_from(["equal", "confidence", "kelly", "steps"]),
)
def test_every_limit_holds_after_all_of_them(
    book, seed, names, sectors, sector, beta, volatility, cap, sizing
):
    rng = np.random.default_rng(seed)
    shape = (3, names)
    scores, uncertainty = rng.normal(0, 0.01, shape), np.exp(rng.normal(-2.5, 0.5, shape))
    scores[rng.random(shape) < 0.1] = np.nan
    codes, betas = rng.integers(0, sectors, shape).astype(float), rng.normal(1, 0.6, shape)
    codes[rng.random(shape) < 0.1], betas[rng.random(shape) < 0.1] = np.nan, np.nan
    past = rng.normal(0, 0.02, (*shape, PAST_RETURN_BARS))
    known = Known(usual=0.1, sector=codes, beta=betas, past=past, seen=rng.uniform(0.3, 1, shape))
    config = FREE.model_copy(
        update={
            "max_weight": cap,
            "sizing": sizing,
            "max_sector_weight": sector,
            "max_beta": beta,
            "volatility_target": volatility,
        }
    )
    found = book(scores, uncertainty, config, known).weights
    assert np.isfinite(found).all()
    assert np.abs(found).max(initial=0) <= cap + 1e-12
    assert (np.abs(found).sum(axis=1) <= 1 + 1e-12).all()
    if sector is not None:
        assert np.abs(sector_weights(found, codes)).max() <= sector * (1 + 1e-8)
    if volatility is not None:
        assert (predicted_volatility(found, known) <= volatility * (1 + 1e-8)).all()
    if book is long_short_book:
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
        if beta is not None:
            net = (found * np.where(np.isnan(betas), 1.0, betas)).sum(axis=1)
            assert (np.abs(net) <= beta * (1 + 1e-8)).all()


def test_bars_are_limited_each_by_itself():
    rng = np.random.default_rng(7)
    scores, uncertainty = rng.normal(size=(20, 30)), np.ones((20, 30))
    known = Known(sector=rng.integers(0, 4, (20, 30)).astype(float), beta=rng.normal(1, 0.5, (20, 30)))
    config = limits(max_sector_weight=0.05, max_beta=0.02)
    whole = long_short_book(scores, uncertainty, config, known=known)
    for bar in range(20):
        at = slice(bar, bar + 1)
        alone = long_short_book(scores[at], uncertainty[at], config, known=known.at(at))
        np.testing.assert_allclose(alone.weights, whole.weights[at], atol=1e-15)
        assert alone.by_sector == whole.by_sector[at]
