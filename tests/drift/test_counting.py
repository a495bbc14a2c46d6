"""The compiled counts of a column against the same counted plainly, and what of p-values is left out."""

import numpy as np
import pytest

from components.drift.adversarial import ComparedRows, separation, usual_separation
from components.drift.config import Settings
from components.drift.counting import EDGES, ascending, count_by_bar, distances, first_bars
from components.drift.reference import _as_far_as_it_counts
from components.drift.windows import PSI_BINS, Sample, describe_column, tail_limits
from components.metrics import adjusted_p_values, ks_p_value

BARS, SYMBOLS = 40, 7


def made_column(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(BARS * SYMBOLS).astype(np.float32) * 10
    values[::9] = np.round(values[::9])
    # Within the warm-up, at its end, and behind it.
    values[:20], values[36], values[33], values[50] = np.nan, np.nan, np.inf, -np.inf
    values[51], values[52] = -0.0, 0.0
    return values


@pytest.mark.parametrize("seed", range(3))
def test_sorts_as_a_sort_does_without_what_is_not_finite(seed):
    values = made_column(seed)
    np.testing.assert_array_equal(ascending(values), np.sort(values[np.isfinite(values)]))
    assert ascending(np.full(3, np.nan, dtype=np.float32)).shape == (0,)


def test_counts_are_those_of_plain_arrays():
    values, bars = made_column(5), np.repeat(np.arange(BARS), SYMBOLS)
    symbols, own_bars = np.tile(np.arange(SYMBOLS), BARS), (bars + 1).astype(np.int32)
    first = first_bars(values, bars, symbols, SYMBOLS, BARS)
    for symbol in range(SYMBOLS):
        known = np.isfinite(values) & (symbols == symbol)
        assert first[symbol] == bars[known].min()
    edges = np.array([-5.0, -0.0, 3.0, 9.0], dtype=np.float32)
    begin, warm_up = int(first.min()), 6
    running = np.zeros((BARS - begin + 1, len(edges) + 1), np.int32)
    missing = np.zeros(BARS - begin, np.int32)
    padded = np.concatenate([edges, np.full(EDGES - len(edges), np.inf, dtype=np.float32)])
    shared = count_by_bar(values, bars, symbols, own_bars, first, warm_up, padded, running, missing)
    assert not shared
    due = (bars >= first[symbols]) & ~np.isfinite(values) & (own_bars > warm_up)
    np.testing.assert_array_equal(missing, np.bincount(bars[due] - begin, minlength=BARS - begin))
    for bar in range(begin, BARS):
        so_far = values[np.isfinite(values) & (bars <= bar)]
        wanted = [(so_far <= edge).sum() for edge in (*edges, np.inf)]
        np.testing.assert_array_equal(running[bar - begin + 1], wanted)


@pytest.mark.parametrize(("second", "shared"), [(2.0, True), (2.5, False)])
def test_one_value_a_bar(second, shared):
    values = np.array([1.0, np.nan, 1.0, 2.0, second, 2.0], dtype=np.float32)
    bars, symbols = np.repeat([0, 1], 3), np.tile(np.arange(3), 2)
    running, missing = np.zeros((3, 1), np.int32), np.zeros(2, np.int32)
    edges = np.full(EDGES, np.inf, dtype=np.float32)
    first, own_bars = np.zeros(3, np.int64), np.ones(6, np.int32)
    assert count_by_bar(values, bars, symbols, own_bars, first, 0, edges, running, missing) == shared


def test_distances_are_those_of_distribution_functions():
    counts = np.random.default_rng(0).integers(0, 4, (30, 5))
    counts[:6] = 0
    running = np.concatenate([np.zeros((1, 5), int), counts.cumsum(axis=0)]).cumsum(axis=1)
    starts = np.array([0, 4, 20])
    low, high = np.maximum(starts - 5, 0), np.minimum(starts + 10, 30)
    found, fewest = distances(running, np.arange(5), starts, 5, low, high)
    assert np.isnan(found[0])
    for k in (1, 2):
        inside = counts[starts[k] : starts[k] + 5].sum(axis=0)
        rest = counts.sum(axis=0) - counts[low[k] : high[k]].sum(axis=0)
        gaps = inside.cumsum() / inside.sum() - rest.cumsum() / rest.sum()
        assert found[k] == np.abs(gaps).max()
    assert fewest == 0


def test_a_column_is_described_as_plain_counts_say():
    """Five symbols, of which one never has a value and one lacks some; extremes that occur twice."""
    total, names, warm_up = 300, 5, 20
    rng = np.random.default_rng(7)
    bars, symbols = np.repeat(np.arange(total), names), np.tile(np.arange(names), total)
    values = rng.standard_normal(total * names).astype(np.float32)
    values[symbols == 4] = np.nan
    values[(symbols == 3) & (bars % 10 == 0)] = np.nan
    values[bars < 15] = np.nan
    smallest, largest = np.nanmin(values), np.nanmax(values)
    values[250 * names], values[200 * names + 1] = smallest, largest
    own_bars = (bars + 1).astype(np.int32)
    sample = Sample("trend", "input", warm_up, values, bars, symbols, total, own_bars)
    found = describe_column(sample, PSI_BINS, wanted=60)
    known, (low, high) = np.isfinite(values), tail_limits(found.sketch)
    assert (values == low).any()
    assert found.about.tail == ((values < low) | (values > high)).sum() / known.sum()
    assert found.about.first_bar == 15
    assert found.about.missing == (~known & (bars >= 15) & (own_bars > warm_up)).sum()
    longest = found.about.by_window["90"]
    assert found.about.effective_rows == longest.effective_rows * found.about.bars / 90
    assert list(found.about.by_window)[-1] == "90"
    borders = np.unique(found.sketch[np.round(np.linspace(0, len(found.sketch) - 1, 201)).astype(int)[1:-1]])
    cells = np.searchsorted(borders, values)
    starts = np.unique([*range(0, found.about.bars - 90 + 1, 22), found.about.bars - 90]) + 15
    windows = [known & (bars >= start) & (bars < start + 90) for start in starts]
    assert longest.fewest_cells == min(len(np.unique(cells[window])) for window in windows)


@pytest.mark.parametrize("moved", [0, 5, 30])
def test_rejects_what_exact_p_values_reject(moved):
    rng = np.random.default_rng(moved)
    tests, windows, level = 30, 40, 0.01
    # Distances around the usual ones, near the threshold, and far beyond it.
    statistics = rng.uniform(0.02, 0.12, (tests, windows))
    statistics[:moved] += rng.uniform(0.0, 0.12, (moved, windows))
    statistics[3, :4] = np.nan

    def p_value(one):
        return ks_p_value(one, 5000.0, 250.0)

    exact = p_value(statistics)
    short = np.array([_as_far_as_it_counts(row, p_value, level, tests) for row in statistics])
    np.testing.assert_array_equal(np.isnan(short), np.isnan(exact))
    rejected = [
        np.array([adjusted_p_values(window) < level for window in table.T]) for table in (exact, short)
    ]
    assert moved == 0 or rejected[0].any()
    np.testing.assert_array_equal(*rejected)


def test_usual_separation_is_that_of_each_window_alone():
    rng = np.random.default_rng(0)
    bars = np.repeat(np.arange(160), 12)
    values = rng.standard_normal((len(bars), 4)).astype(np.float32)
    values[:, 1] += 2 * np.sin(bars / 25)
    rows = ComparedRows(values, bars, rng.integers(0, 2, len(bars)))
    settings = Settings(auc_windows=3)
    together = usual_separation(rows, 30, settings)
    alone = []
    for start in (0, 65, 130):
        inside = (bars >= start) & (bars < start + 30)
        far = (bars < start - 30) | (bars >= start + 60)
        alone.append(separation(rows.where(far), rows.where(inside), settings)[0])
    # Bins of all rows and of a window's differ, labels must not.
    assert max(alone) > 0.75
    np.testing.assert_allclose(together, alone, atol=0.03)
