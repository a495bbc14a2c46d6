"""Price forms against draws: quantiles stay quantiles, and the middle is not the mean."""

import numpy as np
import pytest

from components.scoring.prices import price_forms, why_unpriced

MEAN, DEVIATION, PRICE = 0.01, 0.2, 40.0


def forms():
    z = 1.2815515655446004
    band = {"score": MEAN, "p10": MEAN - z * DEVIATION, "p50": MEAN, "p90": MEAN + z * DEVIATION}
    return price_forms(
        {name: np.array([value] * 2) for name, value in band.items()}, np.array([PRICE, np.nan])
    )


def test_the_band_holds_what_it_promises_of_prices_too():
    """400,000 normal log returns, turned into prices one by one."""
    prices = PRICE * np.exp(np.random.default_rng(0).normal(MEAN, DEVIATION, 400_000))
    found = forms()
    for name, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        assert found.future_price[name][0] == pytest.approx(np.quantile(prices, share), rel=2e-3)
        plain = np.quantile(prices / PRICE - 1, share)
        assert found.antilog_return[name][0] == pytest.approx(plain, abs=2e-3)


def test_the_score_is_the_middle_and_lies_below_the_mean_by_half_the_variance():
    prices = PRICE * np.exp(np.random.default_rng(1).normal(MEAN, DEVIATION, 400_000))
    middle = forms().future_price["score"][0]
    assert middle == pytest.approx(np.median(prices), rel=2e-3)
    assert np.log(prices.mean() / middle) == pytest.approx(DEVIATION**2 / 2, rel=0.05)


def test_without_a_price_there_is_a_return_and_no_price():
    found = forms()
    assert np.isfinite(found.antilog_return["score"]).all()
    assert all(np.isnan(values[1]) for values in found.future_price.values())


@pytest.mark.parametrize(
    "target", ["sector_neutral_return", "direction", "realised_volatility", "barrier_return"]
)
def test_what_is_no_log_return_of_the_symbol_has_no_price(target):
    assert why_unpriced("log_return") is None
    assert target in why_unpriced(target)
