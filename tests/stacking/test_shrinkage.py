"""Shrunk weights: equal where nothing tells experts apart, least squares where all is known, and in between
as far as the errors allow.
"""

import numpy as np
import polars as pl
import pytest

from components.contracts import REGIMES
from components.stacking.inputs import combiner_inputs
from components.stacking.shrinkage import (
    Estimate,
    _estimate,
    _likeliest_variance,
    _shrunk_to_common,
    regime_weights,
    shrunk_weights,
)
from tests.stacking.made_scores import made_market

NAMES = [f"e{number}" for number in range(5)]


def inputs(kind, seed=1, *, bars=300, symbols=40):
    return combiner_inputs(made_market(kind, seed, bars=bars, symbols=symbols, fold_bars=100), NAMES)


def spread(weights) -> float:
    values = np.array([weights[name] for name in NAMES])
    return float(values.std() / values.mean())


def test_equal_errors_give_the_estimate_of_james_and_stein():
    """Independent estimates of one error: shrunk by the error's share of their variance (Morris 1983, without
    his factor for few of them).
    """
    rng = np.random.default_rng(5)
    true = rng.normal(1.0, 0.5, size=400)
    found = Estimate(true + rng.normal(0, 0.4, size=400), 0.16 * np.eye(400))
    kept = 1 - 0.16 / found.weights_E.var(ddof=1)
    expected = found.weights_E.mean() + kept * (found.weights_E - found.weights_E.mean())
    np.testing.assert_allclose(_shrunk_to_common(found), expected, atol=0.05)
    assert ((_shrunk_to_common(found) - true) ** 2).mean() < ((found.weights_E - true) ** 2).mean()


def test_nothing_but_error_gives_one_weight():
    weights = np.array([1.01, 0.99, 1.02, 0.98])
    found = Estimate(weights, 0.04 * np.eye(4))
    assert _likeliest_variance([found], None) == 0.0
    np.testing.assert_allclose(_shrunk_to_common(found), 1.0)


def test_alike_experts_get_like_weights_and_unlike_ones_do_not():
    assert np.mean([spread(shrunk_weights(inputs("alike", seed), NAMES)) for seed in range(4)]) < 0.25
    weights = shrunk_weights(inputs("one"), NAMES)
    assert weights["e0"] > 2 * max(weights[name] for name in NAMES[1:])
    assert min(weights.values()) >= 0


def test_regimes_move_weights_only_where_experts_differ_by_them():
    def moves(kind, seed=1) -> float:
        weights = regime_weights(inputs(kind, seed), NAMES)
        assert all(
            weights[name] + weights[f"{name}|{regime}"] >= -1e-12 for name in NAMES for regime in REGIMES
        )
        steps = [abs(weights[f"{name}|bull"]) for name in NAMES]
        return float(np.mean(steps) / np.mean([weights[name] for name in NAMES]))

    assert np.mean([moves("alike", seed) for seed in range(4)]) < 0.15
    assert moves("regimes") > 0.5
    weights = regime_weights(inputs("regimes"), NAMES)
    bull = {name: weights[name] + weights[f"{name}|bull"] for name in NAMES}
    bear = {name: weights[name] + weights[f"{name}|bear"] for name in NAMES}
    assert min(bull["e0"], bull["e1"]) > 3 * max(bull["e2"], bull["e3"])
    assert min(bear["e2"], bear["e3"]) > 3 * max(bear["e0"], bear["e1"])
    assert {weights[f"{name}|neutral"] for name in NAMES} == {0.0}, "a regime without bars has those of all"


def test_a_regime_of_few_bars_has_the_weights_of_all():
    rows = inputs("regimes")
    bull = rows.filter(pl.col("regime_bull") == 1)["timestamp"].unique().sort()

    def steps(bars: int) -> list[float]:
        kept = (pl.col("regime_bull") != 1) | (pl.col("timestamp") < bull[bars])
        weights = regime_weights(rows.filter(kept), NAMES)
        return [weights[f"{name}|bull"] for name in NAMES]

    assert not any(steps(19))
    assert any(steps(20))


def test_errors_are_as_large_as_estimates_are_far_apart():
    """Told by many markets without skill; labels that overlap know less than their number."""
    found = [_estimate(inputs("null", seed, bars=150, symbols=15), NAMES) for seed in range(40)]
    apart = np.mean(np.var([one.weights_E for one in found], axis=0))
    said = np.mean([np.trace(one.covariance_EE) / len(NAMES) for one in found])
    assert said == pytest.approx(apart, rel=0.35)


def test_the_order_of_rows_changes_nothing():
    rows = inputs("differ", bars=100, symbols=10)
    again = shrunk_weights(rows.sample(fraction=1.0, shuffle=True, seed=1), NAMES)
    assert again == pytest.approx(shrunk_weights(rows, NAMES), rel=1e-9)


def test_a_label_that_is_flipped_leaves_no_weight():
    rows = inputs("one").with_columns(-pl.col("label_z"))
    found = shrunk_weights(rows, NAMES)
    assert found is None or found["e0"] == 0
