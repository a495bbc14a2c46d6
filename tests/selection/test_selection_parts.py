"""The parts of selection one by one: permutations, rank correlations, half-lives, wrappers, adversarial
validation.
"""

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata, spearmanr

from components.selection.adversarial import adversarial
from components.selection.chance import beats, redrawn_signs
from components.selection.config import Genetic, Settings
from components.selection.fitted import _entry_penalty
from components.selection.forward import interval
from components.selection.kernels import rank_correlations
from components.selection.models import prepare
from components.selection.permutation import block_permutation, cyclic_shift, permutation_loss
from components.selection.pooled import inflation
from components.selection.purpose import Purpose
from components.selection.rolling import rolling
from components.selection.rows import _target, read_rows
from components.selection.samples import Sample, clusters
from components.selection.wrapper import eliminate, gene_frequency
from tests.selection.made_up import HORIZON, SETTINGS, market, noise


def grid(bars, symbols, rng=None):
    bar, symbol = np.repeat(np.arange(bars), symbols), np.tile(np.arange(symbols), bars)
    kept = np.ones(len(bar), dtype=bool) if rng is None else rng.random(len(bar)) > 0.2
    return bar[kept], symbol[kept]


def test_a_cyclic_shift_stays_within_the_symbol_and_keeps_the_order():
    bars, symbols = grid(20, 4, np.random.default_rng(0))
    source = cyclic_shift(bars, symbols, 3)
    assert (symbols[source] == symbols).all()
    assert sorted(source) == list(range(len(bars)))
    for symbol in range(4):
        own = np.flatnonzero(symbols == symbol)
        assert (source[own] == np.roll(own, 3)).all()


def test_a_block_permutation_moves_whole_blocks_of_bars():
    bars, symbols = grid(20, 4)
    source = block_permutation(bars, symbols, 5, np.random.default_rng(1))
    assert (symbols[source] == symbols).all()
    assert sorted(source) == list(range(len(bars)))
    moved = bars[source].reshape(20, 4)
    assert (moved == moved[:, :1]).all()
    assert (np.diff(moved[:, 0]) == 1).sum() >= 16, "inside a block bars stay in order"


def test_a_block_permutation_gives_nothing_where_the_symbol_has_no_such_bar():
    bars, symbols = grid(12, 3)
    kept = ~((symbols == 0) & (bars < 4))
    bars, symbols = bars[kept], symbols[kept]
    source = block_permutation(bars, symbols, 4, np.random.default_rng(3))
    assert ((source >= 0) | (symbols == 0)).all()
    assert (source[symbols == 0] < 0).any() or (bars[source[symbols == 0]] == bars[symbols == 0]).any()


def test_permutation_finds_what_the_model_needs_and_nothing_else():
    rng = np.random.default_rng(4)
    columns = [noise(rng, 60, 40).ravel() for _ in range(3)]
    values = np.stack(columns, axis=1).astype(np.float32)
    target = (0.3 * columns[0] + rng.standard_normal(2400)).astype(np.float32)
    bars, symbols = grid(60, 40)
    fit, held = bars < 40, bars >= 40
    model = prepare("linear", values[fit], rounds=10, threads=1, seed=0).fit(target[fit])
    loss = permutation_loss(
        model,
        Sample(values[held], target[held], bars[held], symbols[held]),
        inputs=np.arange(3),
        repeats=4,
        block_bars=5,
        lags=1,
        rng=rng,
    )
    assert loss.low[0] > 0.1
    assert (loss.low[1:] < 0.02).all()
    assert loss.deviation[0] > 0
    assert (loss.high >= loss.mean).all()


def test_rank_correlations_are_spearmans_with_gaps_and_ties():
    rng = np.random.default_rng(5)
    bars, _ = grid(12, 15, rng)
    values = np.round(rng.standard_normal((len(bars), 2)), 1).astype(np.float32)
    values[rng.random(len(bars)) < 0.1, 0] = np.nan
    label = rng.standard_normal(len(bars)).astype(np.float32)
    starts = np.searchsorted(bars, np.arange(13)).astype(np.int64)
    found = rank_correlations(np.asfortranarray(values), label, starts)
    for bar in range(12):
        rows = bars == bar
        assert found[bar, 1] == pytest.approx(spearmanr(values[rows, 1], label[rows]).statistic, abs=1e-6)
        known = np.isfinite(values[rows, 0])
        places = rankdata(values[rows, 0][known]), rankdata(label[rows])[known]
        assert found[bar, 0] == pytest.approx(np.corrcoef(places)[0, 1], abs=1e-6)


def test_what_all_symbols_share_orders_nothing():
    bars, _ = grid(5, 10)
    shared = np.repeat(np.arange(5.0), 10).astype(np.float32)[:, None]
    starts = np.searchsorted(bars, np.arange(6)).astype(np.int64)
    label = np.arange(50, dtype=np.float32)
    assert np.isnan(rank_correlations(np.asfortranarray(shared), label, starts)).all()


def test_a_fading_factor_gets_a_half_life_and_a_steady_one_equal_weights():
    rng = np.random.default_rng(7)
    daily = 0.02 * rng.standard_normal((800, 2)).astype(np.float32)
    daily[:, 0] += np.where(np.arange(800) < 500, 0.06, -0.06)
    daily[:, 1] += 0.04
    found = rolling(daily, (63, 252), horizon=5)
    assert found.half_life.tolist() == [63, 0]
    assert found.weighted[0] < -0.04 < 0 < found.mean[0]
    assert found.weighted_t[1] == pytest.approx(found.t[1], rel=1e-6)


def test_copies_cluster_and_strangers_do_not():
    rng = np.random.default_rng(8)
    one, two = rng.standard_normal((2, 500))
    among = np.corrcoef([one, -one, one + 0.1 * rng.standard_normal(500), two])
    number = clusters(among, 0.9)
    assert number[0] == number[1] == number[2] != number[3]


def test_the_weakest_of_a_collinear_set_goes():
    rng = np.random.default_rng(9)
    x = rng.standard_normal((3, 2000))
    among = np.corrcoef([x[0], x[1], x[0] + x[1] + 0.05 * rng.standard_normal(2000), x[2]])
    vif, kept = inflation(np.ones(4, dtype=bool), among, np.array([3.0, 2.0, 1.0, 0.0]), 30.0)
    assert kept.tolist() == [True, True, False, True]
    assert vif[2] > 30
    assert vif[3] < 1.1


def test_redrawn_directions_are_distinct_and_a_vote_has_the_stated_chance():
    signs = redrawn_signs(6, 4, np.random.default_rng(0))
    assert len({row.tobytes() for row in signs} | {(-row).tobytes() for row in signs}) == 8
    rng = np.random.default_rng(1)
    votes = beats(rng.random(20_000), rng.random((4, 20_000)))
    assert votes.mean() == pytest.approx(0.2, abs=0.01)


def test_the_stronger_of_two_inputs_enters_the_path_first():
    gram = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    entry = _entry_penalty(gram, np.array([0.3, 0.15, 0.05]))
    assert entry[0] == pytest.approx(0.3, rel=0.01)
    assert entry[0] > entry[2] > 0


def test_elimination_ranks_by_what_lasts():
    weight = np.arange(12.0)
    rank, steps = eliminate(lambda left: (weight[left], float(len(left) == 4)), 12, 3)
    assert rank[-3:].tolist() == [1, 1, 1]
    assert rank[0] == rank.max()
    assert [left for left, _ in steps] == [12, 9, 6, 4, 3]


def test_the_genetic_search_keeps_what_helps_on_held_out_bars():
    rng = np.random.default_rng(10)
    fit, held = rng.standard_normal((2, 3000, 20))
    target = [0.15 * x[:, 3] + 0.1 * x[:, 11] + rng.standard_normal(3000) for x in (fit, held)]
    moments = [
        value for x, y in zip((fit, held), target, strict=True) for value in (x.T @ x / 3000, x.T @ y / 3000)
    ]
    frequency = gene_frequency(*moments, Genetic(), seeds=4, seed=0)
    assert frequency[3] == frequency[11] == 1
    assert (gene_frequency(*moments, Genetic(), seeds=4, seed=0) == frequency).all()


def test_tree_shap_values_add_up_to_the_output():
    rng = np.random.default_rng(11)
    values = rng.standard_normal((600, 4)).astype(np.float32)
    model = prepare("tree", values, rounds=10, threads=1, seed=0).fit((values[:, 0] > 0).astype(np.float32))
    outputs, parts = model.outputs(values), model.contributions(values)
    assert np.ptp(outputs - parts.sum(axis=1)) < 1e-9
    assert np.abs(parts).mean(axis=0).argmax() == 0


def test_a_thin_bar_is_measured_by_no_later_label():
    bars = np.repeat(np.arange(20), [2, 2] + [8] * 18)
    label = np.random.default_rng(3).normal(size=len(bars))
    later = np.where(bars > 1, 100 * label, label)
    assert (_target(label, bars)[:4] == _target(later, bars)[:4]).all()


def rows_of(tables):
    return read_rows(*tables, Purpose("tree", HORIZON, "sector_neutral_return", 0))


def test_newest_bars_that_moved_are_told_apart_and_named():
    tables = market(14, bars=400, symbols=40, inputs=5)
    training = tables[0]
    newest = training["timestamp"] >= training["timestamp"].unique().sort()[330]
    moved = training.with_columns(
        pl.when(newest).then(pl.col("noise_02") * 2.5 + 1).otherwise("noise_02").alias("noise_02")
    )
    quiet = adversarial(rows_of(tables), "fold", (0, 400), settings=SETTINGS, usual_windows=2, seed=1)
    found = adversarial(
        rows_of((moved, *tables[1:])), "fold", (0, 393), settings=SETTINGS, usual_windows=2, seed=1
    )
    assert not quiet.flagged
    assert quiet.auc < 0.6
    assert found.flagged
    assert found.auc > 0.7 > max(found.usual)
    assert found.factors[0][0] == "noise_02"
    assert found.factors[0][1] > 0.5


def test_what_the_market_shares_and_what_a_symbol_keeps_do_not_tell_bars_apart():
    def shared(label, rng):
        return np.repeat(np.cumsum(rng.standard_normal(len(label)))[:, None], label.shape[1], axis=1)

    def kept(label, rng):
        return np.repeat(
            rng.standard_normal((1, label.shape[1])), len(label), axis=0
        ) + 0.01 * rng.standard_normal(label.shape)

    rows = rows_of(market(15, bars=400, symbols=40, inputs=4, extra={"month": shared, "size": kept}))
    found = adversarial(rows, "fold", (0, 400), settings=SETTINGS, usual_windows=0, seed=1)
    assert found.left_out == ("month",)
    assert not found.flagged


def test_too_short_a_window_is_not_judged():
    rows = rows_of(market(16, bars=200, symbols=10, inputs=2))
    found = adversarial(rows, "fold", (0, 200), settings=SETTINGS, usual_windows=0, seed=1)
    assert np.isnan(found.auc)
    assert "fewer than four times" in found.reason


def test_the_interval_of_a_difference_holds_its_mean_and_widens_with_dependence():
    rng = np.random.default_rng(12)
    independent = rng.standard_normal(400)
    dependent = np.repeat(rng.standard_normal(20), 20)
    narrow, wide = (
        interval(series, Purpose("tree", HORIZON, "log_return", 0), Settings(mode="quick"))
        for series in (independent, dependent)
    )
    assert narrow[0] < independent.mean() < narrow[1]
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
