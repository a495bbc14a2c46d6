"""Probability of backtest overfitting: splits written out as the oracle, planted skill, refusals."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata

from components.metrics import probability_of_overfitting


def luck(bars, configurations, *, seed):
    return np.random.default_rng(seed).normal(0, 0.01, (bars, configurations))


def slow_probability(returns, groups):
    pieces = np.array_split(np.arange(len(returns)), groups)
    logits, losses, inside_best, outside_best = [], [], [], []
    for chosen in combinations(range(groups), groups // 2):
        inside = np.concatenate([pieces[group] for group in chosen])
        outside = np.concatenate([pieces[group] for group in range(groups) if group not in chosen])
        ratios = [
            returns[rows].mean(axis=0) / returns[rows].std(axis=0, ddof=1) for rows in (inside, outside)
        ]
        best = int(np.argmax(ratios[0]))
        share = rankdata(ratios[1])[best] / (returns.shape[1] + 1)
        logits.append(np.log(share / (1 - share)))
        losses.append(ratios[1][best] < 0)
        inside_best.append(ratios[0][best])
        outside_best.append(ratios[1][best])
    return np.mean(np.array(logits) <= 0), np.mean(losses), np.polyfit(inside_best, outside_best, 1)[0]


@pytest.mark.parametrize(("seed", "skill"), [(1, 0.0), (2, 0.001), (3, 0.0005)])
@pytest.mark.parametrize(("bars", "groups"), [(240, 6), (240, 8)])
def test_it_matches_the_splits_written_out(seed, skill, bars, groups):
    returns = luck(bars, 12, seed=seed)
    returns[:, 4] += skill
    found = probability_of_overfitting(returns, groups=groups)
    assert found.groups == groups
    expected = slow_probability(returns, groups)
    assert (found.probability, found.chance_of_loss, found.slope) == pytest.approx(expected)


def test_equal_configurations_share_their_rank():
    returns = np.repeat(luck(240, 12, seed=4), 2, axis=1)
    found = probability_of_overfitting(returns, groups=6)
    assert found.probability == pytest.approx(slow_probability(returns, 6)[0])


def test_the_median_itself_is_not_above_it():
    """Of an odd number of configurations one is the median."""
    returns = luck(240, 11, seed=5)
    found = probability_of_overfitting(returns, groups=6)
    assert found.probability == pytest.approx(slow_probability(returns, 6)[0])
    on_it = probability_of_overfitting(np.column_stack([returns, returns.min(axis=1) - 1]), groups=6)
    assert on_it.probability < found.probability, "with one more below, what was the median is above it"


def test_luck_overfits_and_skill_does_not():
    found = [probability_of_overfitting(luck(800, 40, seed=seed)) for seed in range(10)]
    assert np.mean([one.probability for one in found]) > 0.4
    assert found[0].splits == 12_870
    returns = luck(800, 40, seed=11)
    returns[:, 7] += 0.003
    skilled = probability_of_overfitting(returns)
    assert skilled.probability < 0.05
    assert skilled.chance_of_loss < 0.05


def test_dependence_makes_groups_longer():
    overlapping = np.apply_along_axis(np.convolve, 0, luck(820, 20, seed=5), np.ones(21), "valid")
    found = probability_of_overfitting(overlapping, horizon=21)
    assert not found.problem
    assert found.groups < 16
    assert 800 / found.groups >= 2 * 42


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (luck(300, 40, seed=6).T, "40 rows and 300 columns"),
        (luck(300, 8, seed=7), "8 different configurations, at least 10"),
        (np.repeat(luck(300, 4, seed=8), 5, axis=1), "4 different configurations"),
        (luck(20, 12, seed=9), "20 bars, at least 32"),
        (np.zeros((300, 12)), "no model has a return that varies"),
        (luck(300, 1, seed=10)[:, 0], "1 different configuration"),
        (np.cumsum(luck(60, 12, seed=11), axis=0), "can't be cut into 6 groups"),
    ],
)
def test_where_nothing_can_be_said_it_says_why(returns, words):
    found = probability_of_overfitting(returns)
    assert words in found.problem
    assert np.isnan(found.probability)


def test_what_says_nothing_is_left_out_and_named():
    returns = luck(300, 14, seed=12)
    returns[:, 2] = 0.001
    returns[:, 5] = np.nan
    returns[:10, 6] = np.nan
    found = probability_of_overfitting(returns)
    assert (found.configurations, found.bars, found.bars_left_out) == (12, 290, 10)
    assert found.left_out == ("2", "5")


def test_a_table_may_have_more_configurations_than_bars():
    table = pl.DataFrame(luck(100, 150, seed=13)).with_columns(pl.Series("timestamp", range(100)))
    assert 0 <= probability_of_overfitting(table).probability <= 1


def test_an_odd_number_of_groups_is_refused():
    with pytest.raises(ValueError, match="even"):
        probability_of_overfitting(luck(300, 12, seed=14), groups=7)
