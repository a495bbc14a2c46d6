"""Probabilistic and deflated Sharpe ratios: published figures, closed forms, and rates over seeds."""

import numpy as np
import pytest
from scipy import stats

from components.metrics import (
    SharpeMoments,
    bars_needed,
    chance_above,
    deflated_sharpe,
    expected_best,
    minimum_backtest_length,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_moments,
)
from tests.benchmarks.bench_significance import overlapping


def luck(bars, *, seed, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 0.01, bars)


@pytest.mark.parametrize(("skewness", "kurtosis", "published"), [(0, 3, 0.982), (-2.448, 10.164, 0.913)])
def test_the_probabilistic_ratio_is_as_published(skewness, kurtosis, published):
    """Bailey and Lopez de Prado (2012): 24 months, a monthly ratio of 0.458."""
    assert chance_above(SharpeMoments(0.458, skewness, kurtosis, 24), 0.0) == pytest.approx(
        published, abs=5e-4
    )


def test_the_deflated_ratio_is_as_published():
    """Bailey and Lopez de Prado (2014): annual ratio 2.5 of 1,250 days, best of 100 with variance 1/2."""
    luck_alone = expected_best(100, np.sqrt(0.5 / 250))
    assert luck_alone == pytest.approx(0.1132, abs=5e-5)
    moments = SharpeMoments(2.5 / np.sqrt(250), -3, 10, 1250)
    assert chance_above(moments, luck_alone) == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize(
    ("bars_a_year", "skewness", "kurtosis", "published"),
    [(252, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_the_track_record_is_as_published(bars_a_year, skewness, kurtosis, published):
    """Bailey and Lopez de Prado (2012): years until an annual ratio of 2 is above 1 with 95 %."""
    moments = SharpeMoments(2 / np.sqrt(bars_a_year), skewness, kurtosis, 100)
    years = bars_needed(moments, 1 / np.sqrt(bars_a_year), 0.95) / bars_a_year
    assert years == pytest.approx(published, abs=0.01)


def test_the_backtest_length_is_as_published():
    """Bailey and others (2014): with five years no more than 45 independent trials."""
    assert minimum_backtest_length(45).years == pytest.approx(5, abs=0.01)
    assert minimum_backtest_length(45).years < minimum_backtest_length(45).years_bound
    assert minimum_backtest_length(45, annual_sharpe=2).years == pytest.approx(1.25, abs=0.01)
    assert minimum_backtest_length(1).years == 0
    with pytest.raises(ValueError, match="at least 1"):
        minimum_backtest_length(0)


@pytest.mark.parametrize("trials", [2, 5, 20, 200])
def test_the_best_of_many_is_what_draws_give(trials):
    best = np.random.default_rng(1).normal(0, 0.3, (20_000, trials)).max(axis=1).mean()
    assert expected_best(trials, 0.3) == pytest.approx(best, rel=0.1)


def test_independent_returns_have_about_the_published_chance():
    chances = [
        (
            probabilistic_sharpe(luck(1000, seed=seed, mean=0.0005)),
            sharpe_moments(luck(1000, seed=seed, mean=0.0005)),
        )
        for seed in range(40)
    ]
    gaps = [chance_above(moments, 0.0) - found.probability for found, moments in chances]
    assert 0 <= np.median(gaps) < 0.02
    assert np.median([found.effective_bars for found, _ in chances]) > 800


def test_moments_are_those_of_scipy():
    returns = np.random.default_rng(2).standard_t(5, 500) + 0.1
    moments = sharpe_moments(returns)
    assert moments.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert moments.skewness == pytest.approx(stats.skew(returns))
    assert moments.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False))


@pytest.mark.parametrize(
    ("bars", "horizon", "autoregression"), [(250, 1, 0.0), (1000, 1, 0.9), (500, 10, 0.0), (60, 5, 0.3)]
)
def test_luck_is_rarely_sure(bars, horizon, autoregression):
    """Over 95 % in about 5 % of 400 series; the published error alone says so in 0.35 for AR(0.9)."""
    series = overlapping(400, bars, horizon, autoregression=autoregression, fat=False, seed=3)
    sure = [probabilistic_sharpe(row, horizon=horizon).probability > 0.95 for row in series]
    assert np.mean(sure) < 0.09
    if autoregression == 0.9:
        naive = [chance_above(sharpe_moments(row), 0.0) > 0.95 for row in series]
        assert np.mean(naive) > 0.25


def test_skill_is_found_and_its_track_record_is_enough():
    returns = luck(1000, seed=4, mean=0.0015)
    assert probabilistic_sharpe(returns).probability > 0.99
    record = minimum_track_record(returns)
    assert record.enough
    assert record.bars_needed < 1000
    assert minimum_track_record(returns, benchmark=0.5).bars_needed == np.inf
    assert not minimum_track_record(
        returns[:200], benchmark=sharpe_moments(returns[:200]).sharpe * 0.9
    ).enough


def test_a_track_record_is_long_enough_where_the_chance_is():
    """Also between the quantiles of the normal and of Student's distribution, where bars are few."""
    known = [luck(252, seed=seed, mean=0.0011) for seed in range(60)]
    chances = np.array([probabilistic_sharpe(returns).probability for returns in known])
    assert ((chances > 0.9) & (chances < 0.97)).sum() > 5
    for returns, chance in zip(known, chances, strict=True):
        assert minimum_track_record(returns).enough == (chance >= 0.95)
        assert minimum_track_record(returns, level=chance + 1e-9).bars_needed > 252


def test_dependence_lengthens_the_track_record():
    series = overlapping(1, 1000, 10, autoregression=0.0, fat=False, seed=5)[0] + 0.05
    plain = bars_needed(sharpe_moments(series), 0.0, 0.95)
    assert minimum_track_record(series, horizon=10).bars_needed > 4 * plain
    assert probabilistic_sharpe(series, horizon=10).effective_bars < 250


def test_trials_deflate_and_lucky_ones_fall():
    returns = luck(1000, seed=6, mean=0.0015)
    sharpes = np.random.default_rng(7).normal(0, 0.03, 100)
    one = deflated_sharpe(returns, [sharpe_moments(returns).sharpe])
    many = deflated_sharpe(returns, [*sharpes, np.nan])
    assert one.luck == 0
    assert one.probability == probabilistic_sharpe(returns).probability
    assert many.luck == pytest.approx(expected_best(100, sharpes.std(ddof=1)))
    assert many.probability < one.probability
    assert (many.trials, many.trials_without_sharpe) == (100, 1)


def test_trials_that_nobody_saw_deflate_as_those_that_vary_like_the_others():
    returns, sharpes = luck(500, seed=9, mean=0.001), [0.1, 0.02, -0.05, 0.04, np.nan]
    alone, after = (deflated_sharpe(returns, sharpes, unseen=unseen) for unseen in (0, 16))
    deviation = np.std(sharpes[:4], ddof=1)
    assert (alone.trials, after.trials) == (4, 20)
    assert alone.luck == pytest.approx(expected_best(4, deviation))
    assert after.luck == pytest.approx(expected_best(20, deviation))
    assert after.probability < alone.probability


def test_the_best_of_a_hundred_lucky_ones_is_not_believed():
    believed = []
    for seed in range(30):
        returns = np.random.default_rng(seed).normal(0, 0.01, (500, 100))
        sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
        best = returns[:, sharpes.argmax()]
        assert probabilistic_sharpe(best).probability > 0.9
        believed.append(deflated_sharpe(best, sharpes).probability > 0.95)
    assert np.mean(believed) < 0.1


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        ([], "0 bars, at least 32"),
        (luck(31, seed=8), "31 bars, at least 32"),
        (np.full(100, 0.001), "the same in each bar"),
        (0.01 * np.sin(np.arange(100) / 2) + luck(100, seed=18) / 3, "depend on each other over some"),
        ([*luck(99, seed=9), np.nan], "1 of 100 returns are not finite"),
    ],
)
def test_where_nothing_can_be_said_it_says_why(returns, words):
    returns = np.array(returns, dtype=float)
    for found in (probabilistic_sharpe(returns), deflated_sharpe(returns, [0.1, 0.2])):
        assert words in found.problem
        assert np.isnan(found.probability)
    assert np.isnan(minimum_track_record(returns).bars_needed)
    assert not minimum_track_record(returns).enough


def test_without_any_trial_there_is_no_deflated_ratio():
    found = deflated_sharpe(luck(100, seed=10), [np.nan])
    assert "no trial has a Sharpe ratio" in found.problem
    assert np.isnan(found.probability)
