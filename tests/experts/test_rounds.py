"""The number of trees: purged folds by hand, and planted markets whose newest rows mislead."""

import numpy as np
import polars as pl
import pytest

from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.experts.rounds import Part, purged_parts, rounds_by_folds
from components.experts.rows import Stopper, labelled
from tests.experts.market import INPUTS, fit_and_predict_frames, panel

TASK = Task(period="1d", horizon=1, target="log_return", groups=INPUTS, seed=3, threads=1)
FORESTS = {
    "lightgbm": {"rounds": 120, "fewest_rounds": 5, "patience_rounds": 20, "column_share": 1.0},
    "xgboost": {"rounds": 120, "fewest_rounds": 5, "patience_rounds": 20, "device": "cpu"},
}


def trees(name: str, fit: pl.DataFrame, ask: pl.DataFrame, **settings) -> tuple[int, pl.DataFrame]:
    module = expert_module(Leaf(expert=name, period="1d"))
    expert = module.Expert(module.Settings(**FORESTS[name], **settings))
    expert.fit(fit, TASK, advance=lambda share, what: None)
    count = expert.booster.num_trees() if name == "lightgbm" else expert.booster.num_boosted_rounds()
    return count, expert.predict(ask)


def test_no_label_of_a_learned_row_reaches_into_the_block_that_is_held_out():
    fit, _ = fit_and_predict_frames(panel(bars=200, symbols=4))
    # Bars without a label stay bars: what is purged is counted on the calendar.
    holes = pl.col("timestamp").is_in(fit["timestamp"].unique().sort()[28:31].implode())
    fit = fit.with_columns(pl.when(holes).then(None).otherwise("label").alias("label"))
    train = labelled(fit, "train")
    calendar = fit["timestamp"].unique().sort()
    bar = calendar.search_sorted(train["timestamp"]).to_numpy()
    parts = purged_parts(fit, train, horizon=5)
    assert np.array_equal(np.sort(np.concatenate([part.held for part in parts])), np.arange(len(train)))
    for part in parts:
        held, learned = bar[part.held], bar[part.learned]
        before, after = learned[learned < held[0]], learned[learned > held[-1]]
        assert len(before) + len(after) == len(learned)
        # Entered one bar later, held five: six bars; as many again once the block is over.
        assert not len(before) or held[0] - before[-1] > 6
        assert not len(after) or after[0] - held[-1] > 12


def test_too_few_bars_for_purged_folds_are_said(capfd):
    fit, _ = fit_and_predict_frames(panel(bars=40, symbols=20))
    assert purged_parts(fit, labelled(fit, "train"), horizon=5) == []
    assert "too few for purged folds" in "".join(capfd.readouterr())


def test_the_mean_of_the_curves_counts_folds_by_their_rows():
    curves = [iter([3.0, 1.0, 2.0, 2.0]), iter([3.0, 2.5, 0.0, 2.0])]
    growers = [lambda curve=curve: next(curve) for curve in curves]
    parts = [Part(np.arange(0), np.arange(held)) for held in (30, 10)]
    said = []
    kept = rounds_by_folds(
        growers, parts, Stopper(2, 1), 9, monitor="rmse", advance=lambda share, what: said.append(what)
    )
    assert kept == 2  # (1 * 30 + 2.5 * 10) / 40 = 1.375 is below (2 * 30 + 0 * 10) / 40 = 1.5


@pytest.mark.parametrize("name", FORESTS)
def test_newest_rows_that_are_unlike_the_rest_stop_too_early_and_purged_folds_do_not(name):
    """Planted: in the early-stopping rows alone the signal is turned round."""
    rows = panel(bars=220, symbols=20, strength=0.5, seed=2)
    fit, ask = fit_and_predict_frames(rows)
    turned = fit.with_columns(
        pl.when(pl.col("part") == "early_stopping").then(-pl.col("label")).otherwise("label").alias("label")
    )
    early, _ = trees(name, turned, ask)
    late, predictions = trees(name, turned, ask, rounds_from="purged_folds")
    assert early == 5
    assert late > 30
    # The bands are still made of the early-stopping rows, and these only.
    again, other = trees(name, fit, ask, rounds_from="purged_folds")
    assert again == late
    assert not other["p90"].equals(predictions["p90"])


@pytest.mark.parametrize("name", FORESTS)
def test_where_there_is_nothing_to_learn_purged_folds_keep_few_trees(name):
    rows = panel(bars=220, symbols=20, strength=0.0, seed=5)
    count, _ = trees(name, *fit_and_predict_frames(rows), rounds_from="purged_folds")
    assert count < 30


@pytest.mark.parametrize("name", FORESTS)
def test_purged_folds_give_the_same_forest_twice(name):
    fit, ask = fit_and_predict_frames(panel(bars=150, symbols=12, seed=6))
    found = [trees(name, fit, ask, rounds_from="purged_folds")[1] for _ in range(2)]
    assert found[0].equals(found[1])
