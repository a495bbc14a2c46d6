"""Blocks, SPA, Reality Check and StepM: own bootstrap loops as oracles, planted skill, luck that persists."""

import re

import numpy as np
import polars as pl
import pytest
from arch.bootstrap import StepM
from scipy import stats
from scipy.signal import lfilter

from components.contracts import ContractError
from components.metrics import (
    block_length,
    long_run_variance,
    reality_check,
    standard_error,
    step_m,
    superior_predictive_ability,
)
from components.metrics.inference import degrees_of_freedom
from components.metrics.many_models import _long_run_deviation
from components.metrics.rotation import rotated_statistics
from tests.benchmarks.bench_statistics import market, share_called_skill

TESTS = (superior_predictive_ability, reality_check)


def luck(bars, models, *, seed, autoregression=0.0):
    draws = np.random.default_rng(seed).normal(size=(bars + 100, models))
    return 0.01 * lfilter([1.0], [1.0, -autoregression], draws, axis=0)[100:]


def stationary_positions(rng, bars, block):
    """One draw of Politis and Romano (1994), bar by bar."""
    places = [int(rng.integers(bars))]
    while len(places) < bars:
        fresh = rng.random() < 1 / block
        places.append(int(rng.integers(bars)) if fresh else (places[-1] + 1) % bars)
    return np.array(places)


def slow_p_value(excess, block, draws, *, studentised, seed):
    """Hansen's consistent p-value, or White's."""
    rng = np.random.default_rng(seed)
    bars = len(excess)
    means = np.array([excess[stationary_positions(rng, bars, block)].mean(axis=0) for _ in range(draws)])
    deviation = means.std(axis=0) if studentised else np.ones(excess.shape[1]) / np.sqrt(bars)
    statistic = max((excess.mean(axis=0) / deviation).max(), 0)
    far_below = excess.mean(axis=0) / means.std(axis=0) < -np.sqrt(2 * np.log(np.log(bars)))
    centre = np.where(far_below & studentised, 0.0, excess.mean(axis=0))
    drawn = ((means - centre) / deviation).max(axis=1)
    return (drawn >= statistic).mean()


@pytest.mark.parametrize(("seed", "skill", "worst"), [(1, 0.05, 0.0), (2, 0.12, -0.8), (3, 0.1, 0.0)])
def test_p_values_match_a_bootstrap_written_out(seed, skill, worst):
    returns = luck(240, 6, seed=seed) * [1, 1, 1, 1, 3, 1]
    returns[:, 2] += skill * 0.01
    returns[:, 5] += worst * 0.01
    for test, studentised in ((superior_predictive_ability, True), (reality_check, False)):
        found = test(returns, draws=1500, seed=5)
        expected = slow_p_value(returns, found.block_bars, 800, studentised=studentised, seed=7)
        assert found.by_bootstrap == pytest.approx(expected, abs=0.05)
        assert found.lower <= found.by_bootstrap <= found.upper
        assert found.p_value == max(found.by_bootstrap, found.by_rotation)


def test_the_deviation_is_that_of_bootstrapped_means():
    values = luck(300, 2, seed=4, autoregression=0.6)
    rng = np.random.default_rng(1)
    means = np.array([values[stationary_positions(rng, 300, 9)].mean(axis=0) for _ in range(3000)])
    np.testing.assert_allclose(_long_run_deviation(values, 9), means.std(axis=0) * np.sqrt(300), rtol=0.06)


@pytest.mark.parametrize("test", TESTS)
def test_more_return_is_more_skill(test):
    returns = luck(400, 10, seed=6)
    good, bad = returns + 0.003 * np.eye(10)[0], returns - 0.003
    assert test(good).p_value < 0.01
    assert test(good).best == "0"
    assert test(bad).p_value > 0.5


@pytest.mark.parametrize("test", TESTS)
def test_a_benchmark_has_to_be_beaten(test):
    market = luck(400, 1, seed=7)[:, 0] + 0.004
    same = market[:, None] + luck(400, 5, seed=8) / 10
    assert test(same).p_value < 0.01
    assert test(same, market).p_value > 0.1
    assert test(same + 0.001, market).p_value < 0.01


def test_a_restless_model_hides_no_good_one():
    """The largest mean alone is that of the restless one; its standard error says what it is worth."""
    returns = luck(500, 5, seed=9) * [1, 1, 1, 1, 40]
    returns[:, 0] += 0.0025
    assert superior_predictive_ability(returns).p_value < 0.01
    assert superior_predictive_ability(returns).best == "0"
    assert reality_check(returns).p_value > 0.1


def test_stepwise_names_what_arch_names():
    returns = luck(300, 8, seed=10) + 0.01 * np.array([0.4, 0.3, 0.2, 0, 0, 0, -0.2, -0.4])
    found = step_m(returns, seed=3)
    scaled = returns / _long_run_deviation(returns, found.block_bars)
    arch = StepM(np.zeros(300), -scaled, block_size=found.block_bars, seed=3)
    arch.compute()
    assert found.superior == tuple(str(number) for number in arch.superior_models)
    assert {"0", "1"} <= set(found.superior) <= {"0", "1", "2"}


def test_stepwise_ends_where_all_are_good():
    returns = luck(300, 4, seed=11) + 0.005
    returns[:, 3] -= 0.003
    assert step_m(returns).superior == ("0", "1", "2", "3")
    assert step_m(luck(300, 4, seed=12) - 0.005).superior == ()


def test_stepwise_finds_in_later_steps_what_the_first_hid():
    returns = luck(300, 60, seed=13)
    returns[:, :50] += 0.006
    returns[:, 50] += 0.0019
    first = superior_predictive_ability(returns[:, 50:])
    assert first.p_value < 0.05
    assert "50" in step_m(returns).superior


@pytest.mark.parametrize("test", [*TESTS, step_m])
def test_one_model_is_a_test_too(test):
    found = test(luck(300, 1, seed=14)[:, 0] + 0.003)
    assert found.models == 1
    assert not found.problem
    assert found.superior == ("0",) if test is step_m else found.p_value < 0.01


@pytest.mark.parametrize("test", [*TESTS, step_m])
def test_what_says_nothing_is_left_out_and_named(test):
    returns = luck(300, 4, seed=15)
    returns[:, 1] = 0.0
    returns[:, 2] = np.nan
    returns[7, 0] = np.nan
    found = test(returns)
    assert (found.models, found.left_out, found.bars) == (2, ("1", "2"), 299)
    assert not found.problem


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (luck(20, 3, seed=16), "20 bars, at least 32"),
        (np.zeros((300, 3)), "no model has a return that varies"),
        (np.full((300, 3), np.nan), "no model has a return that varies"),
        (luck(300, 5, seed=17).T, r"5 rows and 300 columns, wanted is \(time, models\)"),
        (
            0.01 * np.sin(np.arange(100) / 2)[:, None] + luck(100, 3, seed=18) / 3,
            "depend on each other over some",
        ),
        (np.empty((300, 0)), "no model"),
    ],
)
@pytest.mark.parametrize("test", [*TESTS, step_m])
def test_where_nothing_can_be_said_it_says_why(test, returns, words):
    found = test(returns)
    assert re.search(words, found.problem)
    assert found.superior == () if test is step_m else np.isnan(found.p_value)


def test_a_table_says_names_and_which_way_round_it_lies():
    returns = luck(60, 100, seed=19)
    table = pl.DataFrame(returns, schema=[f"model_{number}" for number in range(100)]).with_columns(
        pl.Series("timestamp", range(60))
    )
    found = superior_predictive_ability(table.sample(fraction=1, shuffle=True, seed=1))
    assert found.best.startswith("model_")
    assert found == superior_predictive_ability(table)
    assert superior_predictive_ability(returns).problem


@pytest.mark.parametrize(("bars", "models", "autoregression"), [(400, 1, 0.9), (400, 3, 0.8), (60, 8, 0.0)])
def test_the_gain_that_it_asks_for_is_the_one_that_passes(bars, models, autoregression):
    """Bootstrap and rotations must both be content: the one that asks for more counts."""
    returns = luck(bars, models, seed=41, autoregression=autoregression)
    returns -= returns.mean(axis=0)
    returns[:, 0] += returns[:, 0].std() * 0.06
    first = np.eye(models)[0] * returns[:, 0].mean()
    times = superior_predictive_ability(returns).times_gain
    less, more = (
        superior_predictive_ability(returns + (share * times - 1) * first).p_value for share in (0.92, 1.08)
    )
    assert more <= 0.05 < less


def test_hopeless_models_hide_no_good_one_from_the_rotations():
    """As many that are as good as the benchmark do."""
    returns = luck(500, 61, seed=35)
    returns[:, 0] += 0.00125 - returns[:, 0].mean()
    poor = np.arange(61) > 0
    assert superior_predictive_ability(returns - 0.004 * poor).by_rotation < 0.01
    assert superior_predictive_ability(returns).by_rotation > 0.02


@pytest.mark.parametrize("test", TESTS)
def test_what_was_seen_is_a_draw_too(test):
    """No chance is 0, however good the models are."""
    found = test(luck(300, 3, seed=36) + 0.02, draws=100)
    for chance in (found.p_value, found.by_bootstrap, found.by_rotation, found.lower, found.upper):
        assert chance == pytest.approx(1 / 101)


def test_other_forms_are_refused():
    with pytest.raises(ContractError, match=r"shape \(time, models\)"):
        superior_predictive_ability(np.zeros((3, 4, 5)))
    with pytest.raises(ContractError, match="benchmark has shape"):
        superior_predictive_ability(luck(300, 2, seed=20), np.zeros(299))
    with pytest.raises(ContractError, match="'timestamp'"):
        superior_predictive_ability(pl.DataFrame({"a": [1.0]}))


def test_the_same_seed_gives_the_same():
    returns = luck(300, 5, seed=21) + 0.0005
    assert superior_predictive_ability(returns, seed=1) == superior_predictive_ability(returns, seed=1)
    assert superior_predictive_ability(returns, seed=1) != superior_predictive_ability(returns, seed=2)


def test_blocks_grow_with_dependence_and_with_the_horizon():
    lengths = [block_length(luck(1000, 1, seed=22, autoregression=rho)[:, 0]) for rho in (0.0, 0.5, 0.9)]
    assert 10 <= lengths[0] < lengths[1] < lengths[2]
    # Politis and White's for this process is 44.8 at 1,000 bars.
    assert 25 < lengths[2] < 80
    assert block_length(luck(1000, 1, seed=23)[:, 0], horizon=21) >= 42
    overlapping = np.convolve(luck(1020, 1, seed=24)[:, 0], np.ones(21), mode="valid")
    assert block_length(overlapping) > 20


@pytest.mark.parametrize(
    ("values", "expected"), [([], 1), ([0.1], 1), ([0.1] * 1000, 10), (np.zeros((27, 4)), 3)]
)
def test_blocks_of_what_has_no_dependence(values, expected):
    assert block_length(np.array(values)) == expected


def test_one_persistent_series_does_not_set_the_block_for_all():
    returns = luck(1000, 20, seed=25)
    steady = block_length(returns)
    returns[:, 3] = luck(1000, 1, seed=26, autoregression=0.95)[:, 0]
    assert block_length(returns) < 2 * steady


def test_rotations_of_one_series_are_students_test():
    values = luck(300, 1, seed=27)
    seen, drawn = rotated_statistics(values, horizon=5, draws=20_000, seed=1, studentised=True)
    assert seen[0] == pytest.approx(values[:, 0].mean() / standard_error(values[:, 0], horizon=5))
    found = stats.kstest(drawn[:, 0], stats.t(degrees_of_freedom(300, 5)).cdf)
    assert found.statistic < 0.015


def test_rotations_keep_what_series_have_in_common():
    values = market(500, 3, horizon=1, autoregression=0.5, fat=False, skill=0.0, seed=28)
    values[:, 1] = 2 * values[:, 0]
    seen, drawn = rotated_statistics(values, horizon=5, draws=4000, seed=2, studentised=False)
    np.testing.assert_allclose(seen, values.mean(axis=0) * np.sqrt(500))
    np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0])
    spread = [np.sqrt(long_run_variance(column, horizon=5)) for column in values.T]
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.1)


@pytest.mark.parametrize(("bars", "horizon", "autoregression"), [(1000, 21, 0.9), (500, 10, 0.0)])
def test_rotations_rarely_call_luck_skill(bars, horizon, autoregression):
    """At 5 %, the best of 20; a bootstrap of blocks calls luck skill in 0.2 of these."""
    overlap = 1 if autoregression else horizon
    lucky = []
    for seed in range(300):
        values = market(
            bars, 20, horizon=overlap, autoregression=autoregression, fat=False, skill=0.0, seed=seed
        )
        seen, drawn = rotated_statistics(values, horizon=horizon, draws=200, seed=seed, studentised=True)
        lucky.append((drawn.max(axis=1) >= seen.max()).mean() < 0.05)
    assert np.mean(lucky) < 0.095


def test_persistent_luck_is_not_called_skill_and_skill_is():
    case = {"bars": 600, "models": 10, "autoregression": 0.9, "markets": 40, "draws": 100, "seed": 31}
    assert share_called_skill("SPA", **case) < 0.15
    assert share_called_skill("SPA", **case, skill=6.0) > 0.8


@pytest.mark.parametrize("test", TESTS)
def test_without_a_gain_no_multiple_of_it_is_told(test):
    """Planted fault: means that were taken out of the others leave crumbs above 0."""
    for seed in range(5):
        returns = luck(252, 5, seed=seed)
        returns -= returns.mean(axis=0)
        returns[:, 0] -= 0.001
        assert np.isnan(test(returns, draws=100).times_gain)
