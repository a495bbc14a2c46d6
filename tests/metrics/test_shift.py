"""Sketches, distances and their significance against hand-made numbers, SciPy and slow forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, ks_2samp

from components.metrics import (
    adjusted_p_values,
    effective_rows,
    ks_p_value,
    ks_to_sketch,
    population_stability_index,
    psi_p_value,
    psi_to_sketch,
    stability_index,
)
from tests.metrics.sketches import quantile_sketch

values = st.lists(st.integers(-4, 4).map(float) | st.floats(-3, 3, width=32), min_size=1, max_size=60)


def test_sketch_of_few_values_holds_each_of_them():
    sketch = quantile_sketch(np.array([3.0, 1.0, 2.0, np.nan, np.inf], dtype=np.float32), 9)
    assert sketch.dtype == np.float32
    assert sketch.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0]


def test_sketch_keeps_smallest_and_largest_and_columns_apart():
    table = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    table[:, 2] = np.nan
    sketch = quantile_sketch(table, 101)
    assert sketch.shape == (101, 3)
    assert (sketch[0, :2] == table[:, :2].min(axis=0)).all()
    assert (sketch[-1, :2] == table[:, :2].max(axis=0)).all()
    assert np.isnan(sketch[:, 2]).all()


@settings(deadline=None, max_examples=200)
@given(values, values)
def test_ks_of_a_small_reference_is_scipys(reference, current):
    reference, current = np.array(reference, dtype=np.float32), np.array(current, dtype=np.float32)
    distance = ks_to_sketch(current, quantile_sketch(reference, 101), len(reference))
    assert distance == pytest.approx(ks_2samp(reference, current, method="asymp").statistic, abs=1e-12)


def test_ks_of_a_large_reference_is_scipys_but_for_one_step_of_the_sketch():
    rng = np.random.default_rng(1)
    for pair in (
        (rng.normal(size=200_000), rng.normal(0.02, 1.1, size=30_000)),
        (rng.integers(0, 5, 200_000), rng.integers(0, 5, 30_000)),
        (
            np.where(rng.random(200_000) < 0.9, 0, rng.normal(size=200_000)),
            np.where(rng.random(30_000) < 0.8, 0, rng.normal(size=30_000)),
        ),
    ):
        reference, current = (side.astype(np.float32) for side in pair)
        exact = ks_2samp(reference, current, method="asymp").statistic
        assert exact - 1 / 2000 <= ks_to_sketch(current, quantile_sketch(reference)) <= exact + 1 / 2000


def test_ks_by_columns_is_that_of_each_column():
    rng = np.random.default_rng(2)
    reference, current = (
        rng.normal(size=(400, 4)).astype(np.float32),
        rng.normal(size=(300, 4)).astype(np.float32),
    )
    sketch = quantile_sketch(reference, 1001)
    together = ks_to_sketch(current, sketch, np.full(4, 400))
    assert together.tolist() == [ks_to_sketch(current[:, k], sketch[:, k], 400) for k in range(4)]


def test_ks_without_values_is_unknown():
    sketch = quantile_sketch(np.arange(10, dtype=np.float32), 11)
    assert np.isnan(ks_to_sketch(np.array([np.nan], dtype=np.float32), sketch, 10))
    assert np.isnan(ks_to_sketch(np.ones(3, dtype=np.float32), np.full(11, np.nan, dtype=np.float32)))


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.05, 0.2])
def test_ks_p_value_is_scipys(shift):
    rng = np.random.default_rng(3)
    reference, current = rng.normal(size=1500), rng.normal(shift, 1, size=12_000)
    expected = ks_2samp(reference, current, method="asymp")
    assert ks_p_value(expected.statistic, 1500, 12_000) == pytest.approx(expected.pvalue, rel=1e-9)


def test_ks_p_value_of_very_few_rows_is_not_below_the_chance_of_two_samples_apart():
    # Of 3 + 2 values in random order, the 2 lie on one side of the 3 in 2 of 10 orders.
    assert ks_p_value(1.0, 3, 2) == pytest.approx(0.2)


def test_stability_index_by_hand():
    # Shares 0.5, 0.5 against 0.25, 0.75: -0.25 * ln(0.5) + 0.25 * ln(1.5).
    assert stability_index([50, 50], [25, 75], smoothing=0) == pytest.approx(
        0.25 * np.log(2) + 0.25 * np.log(1.5)
    )
    assert stability_index([50, 50, 0], [50, 50, 0]) == 0


def test_half_a_row_keeps_a_bin_that_is_empty_on_one_side_finite():
    reference, current = np.array([50.5, 50.5]) / 101, np.array([100.5, 0.5]) / 101
    by_hand = ((current - reference) * np.log(current / reference)).sum()
    assert stability_index([50, 50], [100, 0]) == pytest.approx(by_hand)
    assert np.isfinite(stability_index([0, 100], [50, 50]))


def test_psi_agrees_with_the_whole_reference():
    rng = np.random.default_rng(4)
    reference, current = (
        rng.normal(size=100_000).astype(np.float32),
        rng.normal(0.3, 1.2, size=20_000).astype(np.float32),
    )
    assert psi_to_sketch(current, quantile_sketch(reference), bins=10, rows=len(reference)) == pytest.approx(
        population_stability_index(reference, current, bins=10), abs=2e-3
    )


def test_psi_looks_at_the_values_that_are_there():
    rng = np.random.default_rng(5)
    reference, current = rng.normal(size=4000).astype(np.float32), rng.normal(size=4000).astype(np.float32)
    sketch = quantile_sketch(reference)
    half = np.where(np.arange(4000) % 2, current, np.nan).astype(np.float32)
    assert psi_to_sketch(half, sketch, rows=4000) == psi_to_sketch(half[1::2], sketch, rows=4000) < 0.05
    assert np.isnan(psi_to_sketch(np.full(9, np.nan, dtype=np.float32), sketch, rows=4000))


def test_psi_of_constants():
    sketch = quantile_sketch(np.full(500, 2.0, dtype=np.float32), 101)
    same, below, above = (
        psi_to_sketch(np.full(100, value, dtype=np.float32), sketch, rows=500) for value in (2.0, 1.0, 3.0)
    )
    assert same == 0
    assert below > 5
    assert above > 5


def test_psi_p_value_is_right_about_chance():
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(400):
        reference, current = (np.bincount(rng.integers(0, 10, size), minlength=10) for size in (3000, 600))
        p_values.append(psi_p_value(stability_index(reference, current), 10, 3000, 600))
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert psi_p_value(0.3, 10, 100, 50) == pytest.approx(chi2.sf(0.3 / (1 / 100 + 1 / 50), 9))


def test_adjusted_p_values_by_hand():
    assert adjusted_p_values([0.01, 0.02, np.nan, 0.9]).tolist() == pytest.approx(
        [0.03, 0.03, np.nan, 0.9], nan_ok=True
    )


def shares(bars: int, rows: int, common: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows below 0 a bar when each row is noise plus what the bar has in common."""
    noise = np.random.default_rng(seed).normal(size=(bars, rows))
    return (noise + common[:, None] < 0).sum(axis=1)[:, None], np.full(bars, rows)


def test_independent_rows_count_nearly_in_full():
    counts, rows = shares(500, 40, np.zeros(500), 7)
    assert 0.4 * 40 * 50 <= effective_rows(counts, rows, 50) <= 40 * 50


def test_rows_that_share_a_bar_count_for_about_a_row_a_bar():
    counts, rows = shares(500, 200, 5 * np.random.default_rng(8).normal(size=500), 9)
    assert 20 <= effective_rows(counts, rows, 50) <= 80


def test_persistent_bars_count_for_less_than_their_number():
    rng = np.random.default_rng(10)
    common = np.zeros(800)
    for bar in range(1, 800):
        common[bar] = 0.95 * common[bar - 1] + rng.normal()
    counts, rows = shares(800, 200, common, 11)
    assert effective_rows(counts, rows, 60) < 8


def test_ranks_within_a_bar_never_count_for_more_than_they_are():
    assert effective_rows(np.full((300, 1), 20), np.full(300, 40), 30) == 1200


def test_no_rows_have_no_effective_number():
    assert np.isnan(effective_rows(np.zeros((5, 1)), np.zeros(5), 2))
