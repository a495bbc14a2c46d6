"""Moments by bar and the standardised target: numbers by hand, a plain loop as oracle, and thin bars."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from components.experts.rows import target
from components.scoring.moments import (
    FEWEST_RANKED,
    learned_target,
    moments_by_bar,
    moments_of_one_bar,
    normal_scores,
    spread_so_far,
    standardised_target,
)
from components.selection.rows import _target

BARS = np.array([0, 0, 0, 1, 1, 2])
LABELS = np.array([1.0, 2.0, 6.0, 4.0, 8.0, 5.0])


def test_moments_by_hand():
    mean, spread = moments_by_bar(np.stack([LABELS, 2 * LABELS]), BARS)
    assert mean[0].tolist() == [3, 3, 3, 6, 6, 5]
    assert spread[0] == pytest.approx([np.sqrt(7)] * 3 + [np.sqrt(8)] * 2 + [0])
    assert (mean[1] == 2 * mean[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_moments_are_those_of_each_bar_alone(bars, seed):
    bar = np.array(bars)
    values = np.random.default_rng(seed).normal(size=(2, len(bar)))
    mean, spread = moments_by_bar(values, bar)
    for one in set(bars):
        alone = moments_of_one_bar(values[:, bar == one])
        np.testing.assert_allclose(mean[:, bar == one], np.repeat(alone[0][:, None], (bar == one).sum(), 1))
        np.testing.assert_allclose(
            spread[:, bar == one], np.repeat(alone[1][:, None], (bar == one).sum(), 1), atol=1e-12
        )


def test_a_thin_bar_is_measured_by_the_usual_spread():
    found = standardised_target(LABELS, BARS, 4.0)
    assert found[:3] == pytest.approx([-2 / np.sqrt(7), -1 / np.sqrt(7), 3 / np.sqrt(7)])
    assert found[3:].tolist() == [1.0, 2.0, 1.25]
    flat = standardised_target(np.full(4, 8.0), np.zeros(4, dtype=int), 4.0)
    assert flat.tolist() == [2.0] * 4, "a bar without spread is thin, whatever its size"
    assert standardised_target(np.array([0.0, 0, 0, 0, 99]), np.zeros(5, dtype=int), 1.0).max() <= 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_normal_scores_are_those_of_scipys_ranks_bar_by_bar(bars, distinct, seed):
    bar = np.array(bars)
    label = np.random.default_rng(seed).integers(0, distinct, len(bar)) * 0.1
    found = normal_scores(label, bar)
    for one in set(bars):
        ranks = rankdata(label[bar == one])
        np.testing.assert_allclose(found[bar == one], norm.ppf((ranks - 0.5) / len(ranks)), atol=1e-12)


def test_a_rank_gaussian_target_sees_the_order_of_labels_and_nothing_of_their_tails():
    rng = np.random.default_rng(5)
    bar = np.repeat(np.arange(20), 30)
    label = rng.normal(size=len(bar))
    found = learned_target(label, bar, 1.0, "rank_gaussian")
    assert (found == learned_target(np.exp(3 * label) - 7, bar, 1.0, "rank_gaussian")).all()
    assert np.abs(found.reshape(20, 30).mean(axis=1)).max() < 1e-12
    assert found.reshape(20, 30).std(axis=1) == pytest.approx(0.97, abs=0.02)
    assert (learned_target(label, bar, 1.0, "zscore") == standardised_target(label, bar, 1.0)).all()
    assert (learned_target(label, bar, 1.0, "none") == label).all()
    assert not len(learned_target(np.empty(0), np.empty(0, dtype=int), 1.0, "rank_gaussian"))


def test_few_labels_and_equal_ones_are_z_scores_also_where_others_are_ranked():
    many, few, flat = (np.full(size, bar) for bar, size in enumerate((FEWEST_RANKED, FEWEST_RANKED - 1, 12)))
    bar = np.concatenate([many, few, flat])
    label = np.where(bar == 2, 3.0, np.random.default_rng(6).standard_t(2, len(bar)))
    found = learned_target(label, bar, 2.0, "rank_gaussian")
    thin = learned_target(label, bar, 2.0, "zscore")
    assert (found[bar > 0] == thin[bar > 0]).all()
    assert found[bar == 0].max() == pytest.approx(norm.ppf(0.95))


def test_experts_and_selection_agree_on_every_bar_with_three_labels_and_a_spread():
    rng = np.random.default_rng(3)
    bar = np.repeat(np.arange(30), 6)
    label = rng.normal(size=len(bar))
    label[bar == 4] = np.where(np.arange(6) < 3, label[bar == 4], np.nan)  # 3 labels
    known = np.isfinite(label)
    frame = pl.DataFrame({"timestamp": bar[known], "label": label[known]})
    expected = target(frame, "zscore").astype(np.float32)
    found = _target(label, bar)
    assert (found[known] == expected).all()
    assert np.isnan(found[~known]).all()


def test_on_a_thin_bar_selection_has_a_target_now_that_no_later_label_moves():
    rng = np.random.default_rng(4)
    bar = np.repeat(np.arange(30), 6)
    label = rng.normal(size=len(bar))
    label[bar == 20] = [0.7, -0.2, *[np.nan] * 4]  # 2 labels
    found = _target(label, bar)
    past = label[(bar <= 20) & np.isfinite(label)]
    assert found[bar == 20][:2] == pytest.approx(np.array([0.7, -0.2]) / past.std(), rel=1e-5)
    wild = np.where(bar > 20, label * 1e3 + 5, label)
    assert (_target(wild, bar)[bar <= 20] == found[bar <= 20])[np.isfinite(found[bar <= 20])].all()


def test_the_spread_so_far_is_that_of_all_labels_up_to_the_bar():
    found = spread_so_far(LABELS, BARS)
    assert found == pytest.approx([LABELS[:3].std()] * 3 + [LABELS[:5].std()] * 2 + [LABELS.std()])
    assert spread_so_far(np.ones(3), np.zeros(3, dtype=int)).tolist() == [1.0] * 3
