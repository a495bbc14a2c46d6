"""Learning from the newest rows once they have chosen how much is learned: what changes and what must not,
and the penalty of the linear expert against one found by hand.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.linear_model import ElasticNet

from components.experts.compose import compose
from components.experts.gram import statistics, sums
from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.experts.regime_models import RegimeModels
from components.experts.rounds import purged_blocks
from components.experts.rows import all_to_learn, labelled, rank_correlation, target
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.timeline import Settings
from tests.experts.market import INPUTS, fit_and_predict_frames, panel, training_tables

TASK = Task(period="1d", horizon=1, target="log_return", groups=INPUTS, seed=3, threads=1)
LEARNERS = {
    "elasticnet": {},
    "lightgbm": {"rounds": 60, "fewest_rounds": 10, "learning_rate": 0.1, "column_share": 1.0},
    "xgboost": {"rounds": 60, "fewest_rounds": 10, "column_share": 1.0, "device": "cpu"},
}


def make(name: str, ensemble: int = 1, regimes: RegimeModels | None = None, **settings):
    module = expert_module(Leaf(expert=name, period="1d"))
    return compose(module, module.Settings(**LEARNERS[name], **settings), ensemble, regimes)


def quiet(share: float, what: str) -> None:
    pass


def before_and_after(
    expert, fit: pl.DataFrame, ask: pl.DataFrame, task: Task = TASK
) -> tuple[pl.DataFrame, ...]:
    expert.fit(fit, task, advance=quiet)
    before = expert.predict(ask)
    expert.learn_all(all_to_learn(fit), task, advance=quiet)
    return before, expert.predict(ask)


def turned_in_the_newest(fit: pl.DataFrame) -> pl.DataFrame:
    newest = pl.col("part") == "early_stopping"
    return fit.with_columns(pl.when(newest).then(-pl.col("label")).otherwise("label").alias("label"))


@pytest.mark.parametrize("name", LEARNERS)
def test_the_newest_rows_are_learned_from_and_say_how_wide_the_bands_are(name, tmp_path):
    fit, ask = fit_and_predict_frames(panel(bars=100, seed=1))
    expert = make(name)
    before, after = before_and_after(expert, fit, ask)
    assert not after["score"].equals(before["score"])
    # Head and band are of rows that nothing had been learned from when they were judged.
    fixed = ["head_scale", "head_bias"]
    assert_frame_equal(after.select(fixed), before.select(fixed))
    width = [table["p90"].to_numpy() - table["p10"].to_numpy() for table in (before, after)]
    assert np.allclose(*width, rtol=1e-9)
    expert.save(tmp_path)
    assert_frame_equal(type(expert).load(tmp_path).predict(ask), after, check_exact=True)


@pytest.mark.parametrize("name", LEARNERS)
def test_planted_in_the_newest_rows_alone_a_signal_is_found_only_by_learning_from_them(name):
    rows = panel(bars=120, seed=2)
    fit, ask = fit_and_predict_frames(rows, train=0.4, stopping=0.4)
    older = pl.col("part") == "train"
    noise = pl.Series(np.random.default_rng(5).standard_normal(len(fit)) * 0.02)
    fit = fit.with_columns(pl.when(older).then(noise).otherwise("label").alias("label"))
    truth = rows.select("timestamp", "symbol", "signal")
    before, after = (
        table.join(truth, on=("timestamp", "symbol"), maintain_order="left")
        for table in before_and_after(make(name), fit, ask)
    )
    found = [
        rank_correlation(table["timestamp"], table["score"].to_numpy(), table["signal"].to_numpy())
        for table in (before, after)
    ]
    assert found[1] > max(0.5, found[0] + 0.15)


@pytest.mark.parametrize("name", LEARNERS)
def test_without_refit_nothing_is_learned_from_the_newest_rows(name):
    fit, ask = fit_and_predict_frames(panel(bars=80, seed=3))
    assert_frame_equal(*before_and_after(make(name, refit=False), fit, ask))


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_trees_added_to_those_of_a_warm_start_stay(name):
    fit, ask = fit_and_predict_frames(panel(bars=80, seed=3))
    first, second = make(name), make(name)
    first.fit(fit, TASK, advance=quiet)
    second.fit(fit, TASK, advance=quiet, warm_start=first)
    before = second.predict(ask)
    second.learn_all(all_to_learn(fit), TASK, advance=quiet)
    assert_frame_equal(second.predict(ask), before)


@pytest.mark.parametrize("name", LEARNERS)
def test_classes_are_learned_from_all_rows_too(name):
    rows = panel(bars=100, seed=4).with_columns(pl.col("label").sign())
    fit, ask = fit_and_predict_frames(rows)
    before, after = before_and_after(make(name), fit, ask, replace(TASK, target="direction"))
    assert not after["p_up"].equals(before["p_up"])
    assert np.allclose(after.select("p_down", "p_none", "p_up").sum_horizontal().to_numpy(), 1.0)


def test_members_learn_from_all_rows_of_their_regime_and_none_of_the_others():
    rows = panel(bars=200, seed=6)
    fit, ask = fit_and_predict_frames(rows)
    regimes = RegimeModels(fewest_rows=100, fewest_bars=5)
    expert = make("elasticnet", regimes=regimes)
    before, after = before_and_after(expert, fit, ask)
    assert not after["score"].equals(before["score"])
    everything = all_to_learn(fit)
    own = everything.filter(pl.col("regime_state") == 0)
    found = statistics(own, list(INPUTS), target(own, TASK.transform), None)
    assert np.isclose(
        float(found.target_mean - found.mean @ expert.members["bear_0"].coefficients),
        expert.members["bear_0"].intercept,
    )


def test_the_trainer_lets_experts_learn_from_all_rows_that_a_fold_knows(tmp_path):
    training_set, labels, entries = training_tables(panel(120, 12, seed=10), horizon=2)
    timeline = Settings(train_share=0.6, validation_share=0.2, fold_bars=12, purge_bars=3, embargo_bars=0)
    found = {}
    for refit in (True, False):
        leaf = Leaf(expert="lightgbm", period="1d", settings={**LEARNERS["lightgbm"], "refit": refit})
        trained = train_expert(
            TrainingTables(training_set, labels, entries),
            Assignment(leaf, timeline, "1d", 2, "log_return", 1),
            tmp_path / str(refit),
            until="validation",
        )
        found[refit] = trained.predictions
    assert_frame_equal(*(found[refit].select("head_scale", "head_bias") for refit in (True, False)))
    assert not found[True]["score"].equals(found[False]["score"])


def test_sums_of_a_part_can_be_taken_away():
    rows = panel(bars=60, seed=7)
    wanted, weight = rows["label"].to_numpy(), np.random.default_rng(1).uniform(0.5, 2, len(rows))
    columns = list(INPUTS)
    whole, part = sums(rows, columns, wanted, weight), sums(rows[:300], columns, wanted[:300], weight[:300])
    rest = statistics(rows[300:], columns, wanted[300:], weight[300:])
    found = whole.without(part).statistics()
    for name in ("gram", "moments", "mean", "spread", "target_mean"):
        assert np.allclose(getattr(found, name), getattr(rest, name), atol=1e-12), name


def test_the_penalty_is_the_one_that_is_best_over_all_that_was_left_out():
    fit, _ = fit_and_predict_frames(panel(bars=160, symbols=12, seed=8, strength=0.15))
    expert = make("elasticnet", penalties=6)
    expert.fit(fit, TASK, advance=quiet)
    train, stopping = labelled(fit, "train"), labelled(fit, "early_stopping")
    wanted, columns = target(train, TASK.transform), list(INPUTS)

    def inputs(rows: pl.DataFrame, like: pl.DataFrame) -> np.ndarray:
        values, own = (one.select(columns).to_numpy().astype(float) for one in (rows, like))
        return (values - own.mean(axis=0)) / own.std(axis=0)

    scaled = inputs(train, train)
    moments = scaled.T @ (wanted - wanted.mean()) / len(train)
    largest = np.abs(moments).max() / 0.5
    penalties, errors = np.geomspace(0.5, 0.002, 6) * largest, np.zeros(6)
    pieces = [
        (train[part.learned], wanted[part.learned], train[part.held], wanted[part.held])
        for part in purged_blocks(fit, train, TASK.horizon)
    ]
    pieces.append((train, wanted, stopping, target(stopping, TASK.transform)))
    assert len(pieces) == 5
    for learned, known, held, asked in pieces:
        for number, penalty in enumerate(penalties):
            net = ElasticNet(alpha=penalty, l1_ratio=0.5, tol=1e-9, max_iter=50_000)
            net.fit(inputs(learned, learned), known)
            errors[number] += np.sum((net.predict(inputs(held, learned)) - asked) ** 2)
    assert np.isclose(expert.penalty, penalties[int(np.argmin(errors))])


def test_newest_rows_that_are_unlike_the_rest_ask_for_a_penalty_that_purged_folds_do_not():
    """Planted: in the early-stopping rows alone the signal is turned round."""
    fit, _ = fit_and_predict_frames(panel(bars=200, strength=0.3, seed=9), train=0.65, stopping=0.1)
    kept = {}
    for source in ("newest_rows", "purged_folds"):
        expert = make("elasticnet", penalty_from=source)
        expert.fit(turned_in_the_newest(fit), TASK, advance=quiet)
        kept[source] = expert.penalty
    assert kept["newest_rows"] > 2 * kept["purged_folds"]
