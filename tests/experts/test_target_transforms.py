"""What of a target is learned: heavy tails hurt ranks least, predictions stay in returns, and the setting
reaches every expert.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from components.experts.leaves import Leaf, expert_module
from components.experts.protocol import Task
from components.experts.rows import rank_correlation
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.timeline import Settings
from pipelines.config import Config
from pipelines.leaves import resolve_leaf
from tests.experts.market import INPUTS, fit_and_predict_frames, panel, training_tables

TASK = Task(period="1d", horizon=1, target="log_return", groups=INPUTS, seed=3, threads=1)
SETTINGS = {
    # Purged folds find a good penalty under each transform, and two of three inputs are noise: little is left
    # to drown.
    "elasticnet": {"penalty_from": "newest_rows"},
    "lightgbm": {"rounds": 60, "fewest_rounds": 10, "learning_rate": 0.1, "column_share": 1.0},
    "xgboost": {"rounds": 60, "fewest_rounds": 10, "column_share": 1.0, "device": "cpu"},
}


@pytest.fixture(scope="module")
def wild() -> pl.DataFrame:
    """Returns with the tails of a t distribution of 1.5 degrees of freedom: takeovers and frauds abound."""
    rows = panel(bars=150, symbols=30, strength=1.0, seed=8)
    noise = np.random.default_rng(9).standard_t(1.5, len(rows))
    return rows.with_columns(
        (pl.col("volatility_20").cast(pl.Float64) * (0.25 * pl.col("signal") + noise)).alias("label")
    )


def predicted(name: str, rows: pl.DataFrame, transform: str) -> pl.DataFrame:
    """Predictions of the newest fifth, beside the label and the planted signal."""
    module = expert_module(Leaf(expert=name, period="1d"))
    expert = module.Expert(module.Settings(**SETTINGS[name]))
    fit, ask = fit_and_predict_frames(rows)
    expert.fit(fit, replace(TASK, transform=transform), advance=lambda share, what: None)
    truth = rows.select("timestamp", "symbol", "signal", true="label")
    return expert.predict(ask).join(truth, on=("timestamp", "symbol"), maintain_order="left")


@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_find_a_signal_that_heavy_tails_drown(name, wild):
    found = {}
    for transform in ("none", "zscore", "rank_gaussian"):
        table = predicted(name, wild, transform)
        found[transform] = rank_correlation(
            table["timestamp"], table["score"].to_numpy(), table["signal"].to_numpy()
        )
    assert found["rank_gaussian"] > max(found["zscore"], found["none"]) + 0.02, found


@pytest.mark.parametrize("transform", ["none", "zscore", "rank_gaussian"])
@pytest.mark.parametrize("name", SETTINGS)
def test_predictions_are_returns_whatever_is_learned(name, transform):
    table = predicted(name, panel(bars=200, symbols=25, seed=4), transform)
    label = table["true"].to_numpy()
    slope = np.polyfit(table["score"].to_numpy(), label, 1)[0]
    assert 0.8 < slope < 1.25
    inside = ((table["p10"].to_numpy() <= label) & (label <= table["p90"].to_numpy())).mean()
    assert 0.76 < inside < 0.84


def test_the_run_says_what_is_learned_and_a_leaf_or_an_override_stands_over_it():
    def learned(**experts) -> str:
        leaves = {"leaves": ["median/1d/base", "lightgbm/1d/base"], **experts}
        config = Config.model_validate({"labels": {"transform": "rank_gaussian"}, "experts": leaves})
        return resolve_leaf("lightgbm/1d/base", config).transform

    assert learned() == "rank_gaussian"
    assert learned(overrides={"lightgbm": {"transform": "zscore"}}) == "zscore"


@pytest.mark.parametrize(("symbols", "said"), [(6, True), (12, False)])
def test_a_market_of_few_symbols_is_told_that_it_is_not_ranked(symbols, said, tmp_path, capfd):
    training_set, labels, entries = training_tables(panel(60, symbols), horizon=2)
    leaf = Leaf(expert="median", period="1d", transform="rank_gaussian")
    timeline = Settings(train_share=0.6, validation_share=0.2, fold_bars=6, purge_bars=3, embargo_bars=0)
    tables = TrainingTables(training_set, labels, entries)
    train_expert(tables, Assignment(leaf, timeline, "1d", 2, "log_return", 1), tmp_path, until="validation")
    assert ("fewer than 10 labelled symbols" in "".join(capfd.readouterr())) == said
