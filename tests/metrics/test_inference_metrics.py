"""t values and the block bootstrap: hand numbers, loops as oracles, and rates over seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.metrics import (
    block_bootstrap_interval,
    degrees_of_freedom,
    fewest_values,
    half_width,
    long_run_variance,
    sharpe_interval,
    standard_error,
    t_value,
)
from tests.benchmarks.bench_significance import share_found


def slow_long_run_variance(values, cosines):
    size, total = len(values), 0.0
    for number in range(1, cosines + 1):
        waves = [np.cos(np.pi * number * (bar + 0.5) / size) for bar in range(size)]
        total += (np.sqrt(2 / size) * sum(w * v for w, v in zip(waves, values, strict=True))) ** 2
    return total / cosines


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.integers(32, 300), st.integers(1, 3))
def test_the_long_run_variance_matches_the_loop(seed, size, horizon):
    values = np.random.default_rng(seed).normal(size=size).cumsum()
    cosines = degrees_of_freedom(size, horizon)
    assert cosines >= 4
    expected = slow_long_run_variance(values, cosines)
    assert long_run_variance(values, horizon=horizon) == pytest.approx(expected, rel=1e-6)
    assert standard_error(values, horizon=horizon) == pytest.approx(np.sqrt(expected / size), rel=1e-6)


@pytest.mark.parametrize("horizon", [1, 2, 3, 5, 10, 21, 63])
def test_the_fewest_values_are_those_of_four_cosines(horizon):
    fewest = fewest_values(horizon)
    assert degrees_of_freedom(fewest, horizon) >= 4
    assert degrees_of_freedom(fewest - 1, horizon) == 0
    freedoms = [degrees_of_freedom(size, horizon) for size in range(fewest, 4000)]
    assert freedoms == sorted(freedoms)


def test_a_t_value_has_the_chance_of_students():
    values = np.random.default_rng(3).normal(0.3, 1, 60)
    freedom = degrees_of_freedom(60, 5)
    student = values.mean() / standard_error(values, horizon=5)
    found = t_value(values, horizon=5)
    assert stats.norm.sf(found) == pytest.approx(stats.t.sf(student, freedom))
    assert t_value(-values, horizon=5) == pytest.approx(-found)
    assert abs(found) < abs(student)
    crosses = abs(values.mean()) < half_width(values, horizon=5)
    assert crosses == (abs(found) < 1.96)


def test_a_huge_t_is_finite():
    values = 1e6 + np.random.default_rng(4).normal(size=5000)
    assert 30 < t_value(values, horizon=1) < 40


@pytest.mark.parametrize(
    "values", [[], [1.0, 2.0], [0.3] * 90, [1.0, np.nan] * 40, list(range(31)), [0.9, 1.1, 1.0, 0.8, 1.2]]
)
def test_where_nothing_can_be_said_there_is_no_t(values):
    values = np.array(values, dtype=float)
    assert np.isnan(t_value(values, horizon=1))
    assert np.isnan(standard_error(values, horizon=1))
    assert np.isnan(half_width(values, horizon=1))


@pytest.mark.parametrize(("bars", "horizon"), [(5, 1), (5, 5), (49, 5), (60, 10), (209, 21)])
def test_too_few_bars_for_their_horizon_have_no_t(bars, horizon):
    """However sure they look: five bars of a regime once had a t of 5.9."""
    values = 1 + 0.1 * np.random.default_rng(5).normal(size=bars)
    assert np.isnan(t_value(values, horizon=horizon))


def test_one_lucky_bar_is_no_significance():
    for size in (60, 250, 1000):
        values = np.zeros(size)
        values[size // 3] = 1.0
        assert t_value(values, horizon=5) < 1.5
        assert sharpe_interval(values, level=0.9, bars_per_year=252)[0] < 0


@pytest.mark.parametrize(
    ("bars", "horizon", "autoregression", "fat"),
    [
        (32, 1, 0.0, False),
        (60, 5, 0.0, False),
        (60, 5, 0.3, True),
        (120, 10, 0.0, True),
        (250, 21, 0.0, False),
        (500, 21, 0.3, False),
        (250, 1, 0.6, False),
    ],
)
def test_luck_is_called_skill_as_rarely_as_is_said(bars, horizon, autoregression, fat):
    """Two-sided level 5 %, within what 1,500 series tell; Newey-West has 0.07 to 0.17 here."""
    case = {"autoregression": autoregression, "fat": fat, "runs": 1500, "seed": 21}
    assert 0.03 <= share_found("ours", bars, horizon, **case) <= 0.085


@pytest.mark.parametrize(("bars", "horizon"), [(60, 5), (120, 10), (250, 21)])
def test_newey_west_is_what_it_was_taken_out_for(bars, horizon):
    assert share_found("Newey-West", bars, horizon, runs=1500, seed=21) > 0.1


@pytest.mark.parametrize(("bars", "horizon", "least"), [(60, 5, 0.5), (250, 5, 0.75), (1000, 21, 0.75)])
def test_skill_is_still_found(bars, horizon, least):
    """A mean of three standard errors; 0.85 where the error is known."""
    assert share_found("ours", bars, horizon, deviates=3.0, runs=800, seed=22) > least


def mean_of_draws(drawn):
    return drawn.mean(axis=-1)


def test_bootstrap_is_repeatable_and_seeded():
    values = np.random.default_rng(2).normal(size=100)
    one, two, other = (
        block_bootstrap_interval(values, mean_of_draws, block_bars=5, draws=200, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other
    assert one[0] < values.mean() < one[1]


def test_bootstrap_draws_whole_circular_blocks():
    seen = []
    block_bootstrap_interval(
        np.arange(10.0),
        lambda drawn: seen.append(drawn) or drawn.mean(axis=-1),
        block_bars=5,
        draws=50,
        seed=0,
    )
    blocks = np.concatenate(seen).reshape(-1, 5)
    assert np.isin((blocks[:, 1:] - blocks[:, :-1]) % 10, 1).all()
    assert (np.diff(blocks, axis=1) < 0).any()


def test_bootstrap_of_independent_values_agrees_with_theory():
    values = np.random.default_rng(5).normal(0, 1, 400)
    low, high = block_bootstrap_interval(values, mean_of_draws, block_bars=1, draws=4000, level=0.9, seed=3)
    assert high - low == pytest.approx(2 * 1.645 * values.std() / 20, rel=0.08)


def test_blocks_widen_the_interval_of_dependent_values():
    noise = np.random.default_rng(6).normal(size=1000)
    dependent = np.convolve(noise, np.ones(10), mode="valid")
    widths = [
        np.diff(block_bootstrap_interval(dependent, mean_of_draws, block_bars=block, draws=500, seed=1))[0]
        for block in (1, 30)
    ]
    assert widths[1] > 2 * widths[0]


def test_bootstrap_in_chunks_gives_the_same(monkeypatch):
    values = np.random.default_rng(7).normal(size=50)
    whole = block_bootstrap_interval(values, mean_of_draws, block_bars=4, draws=100, seed=9)
    monkeypatch.setattr("components.metrics.inference.CHUNK_VALUES", 300)
    assert block_bootstrap_interval(values, mean_of_draws, block_bars=4, draws=100, seed=9) == whole


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [1.0, np.nan, 3.0, 4.0]])
def test_bootstrap_gives_nan_where_nothing_can_be_said(values):
    assert np.isnan(block_bootstrap_interval(np.array(values), mean_of_draws, block_bars=2, seed=0)).all()
