"""Newey-West and the block bootstrap: hand numbers, loops as oracles, and rates over seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.metrics import block_bootstrap_interval, hac_lags, newey_west_t


def slow_newey_west_t(values, lags):
    size, mean = len(values), sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / size
    for lag in range(1, lags + 1):
        covariance = sum((values[i] - mean) * (values[i - lag] - mean) for i in range(lag, size)) / size
        variance += 2 * (1 - lag / (lags + 1)) * covariance
    return mean / (variance / (size - 1)) ** 0.5


def test_newey_west_by_hand():
    # mean 1; centred -1 1 -1 1; c0 = 1, c1 = -3/4; V = 1 - 2 * 1/2 * 3/4 = 1/4; t = 1 / sqrt(1/4 / 3).
    assert newey_west_t(np.array([0.0, 2.0, 0.0, 2.0]), lags=1) == pytest.approx(np.sqrt(12))


def test_no_lags_is_the_ordinary_t():
    values = np.random.default_rng(0).normal(0.2, 1, 50)
    assert newey_west_t(values, lags=0) == pytest.approx(stats.ttest_1samp(values, 0).statistic)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.integers(5, 60), st.integers(0, 8))
def test_newey_west_matches_the_loop(seed, size, lags):
    values = np.random.default_rng(seed).normal(size=size).cumsum()
    assert newey_west_t(values, lags=min(lags, size - 2)) == pytest.approx(
        slow_newey_west_t(values, min(lags, size - 2)), rel=1e-6
    )


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [0.3] * 9, [1.0, np.nan, 2.0, 3.0]])
def test_newey_west_gives_nan_where_nothing_can_be_said(values):
    assert np.isnan(newey_west_t(np.array(values), lags=2))


def test_overlapping_noise_is_seldom_significant():
    random = np.random.default_rng(11)
    horizon, size, runs = 5, 220, 600
    noise = random.normal(size=(runs, size + horizon - 1))
    overlapping = np.lib.stride_tricks.sliding_window_view(noise, horizon, axis=1).mean(axis=-1)
    aware = np.array([newey_west_t(row, lags=hac_lags(size, horizon)) for row in overlapping])
    naive = np.array([newey_west_t(row, lags=0) for row in overlapping])
    assert (aware > 2).mean() < 0.06
    assert (naive > 2).mean() > 0.12


def test_hac_lags_reach_past_the_overlap():
    assert hac_lags(220, 5) == 10
    assert hac_lags(10_000, 1) == 11
    assert hac_lags(4, 10) == 2


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
