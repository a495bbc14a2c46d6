"""A bundle whose target is a class: from the experts to the stack's probabilities the model says what the
training code says.
"""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from components.backtest.config import Settings as BacktestSettings
from components.contracts import write_manifest
from components.contracts.classes import CLASS_COLUMNS, CLASS_TARGETS
from components.experts.leaves import Leaf, expert_module
from components.registry.mlmodel import write_mlmodel
from components.scoring import Model, ScoringError, score_table
from components.stacking.calibrate import LabelKind, fit_head, predict_block
from components.stacking.combiners import fit_combiner
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from components.stacking.served_form import served_files
from serving.live.book_sizing import BookSizing
from serving.pyfunc import Forecaster
from tests.experts.market import fit_and_predict_frames, panel
from tests.scoring.small_bundle import SETTINGS, TASK, bundle_of, resealed

EXPERTS = ("elasticnet", "lightgbm", "xgboost")
NUMBERS = ("score", "uncertainty", "p10", "p50", "p90", *CLASS_COLUMNS)


@pytest.fixture(scope="module", params=["trade_class", "trend"])
def world(request, tmp_path_factory) -> SimpleNamespace:
    """Fitted experts, their table of predictions, and the bundle of a stack over them."""
    folder, target = tmp_path_factory.mktemp(request.param), request.param
    rows = panel(bars=80, symbols=12, seed=2, strength=0.5)
    size = pl.col("volatility_20").cast(pl.Float64) / 2
    label = pl.when(pl.col("label").abs() > size).then(pl.col("label").sign()).otherwise(0.0)
    rows = rows.with_columns(
        label=label if target == "trade_class" else (pl.col("label") > 0).cast(pl.Float64)
    )
    fit, predict = fit_and_predict_frames(rows, train=0.5, stopping=0.2)
    known = rows.select("timestamp", "symbol", "label", label_end=pl.col("timestamp") + timedelta(days=3))
    table = predict.select("timestamp", "symbol", regime=pl.lit("bull"), horizon=pl.lit(2, pl.Int32)).join(
        known, on=("timestamp", "symbol"), maintain_order="left"
    )
    for name in EXPERTS:
        module = expert_module(Leaf(expert=name, period="1d"))
        expert = module.Expert(module.Settings(**SETTINGS[name]))
        expert.fit(fit, replace(TASK, target=target), advance=lambda share, what: None)
        place = folder / name
        place.mkdir()
        expert.save(place)
        expert.export(place)
        write_manifest(place, {"expert": name, "train_window": "2020-01-01..2021-01-01"})
        found = expert.predict(predict)
        table = table.with_columns(
            found[column].alias(f"{column}_{name}") for column in ("score", "uncertainty", *CLASS_COLUMNS)
        )
    settings, inputs = Settings(min_train_bars=5), combiner_inputs(table, list(EXPERTS))
    combiner = fit_combiner("elasticnet", inputs, list(EXPERTS), settings, 1)
    kind = LabelKind(CLASS_TARGETS[target], 2)
    head = fit_head("elasticnet", combiner, inputs, list(EXPERTS), settings, 1, kind)
    files = served_files("elasticnet", combiner, list(EXPERTS), head)
    about = SimpleNamespace(folder=folder, rows=predict.drop("part", "label"))
    return SimpleNamespace(
        bundle=bundle_of(about, files, folder / "run", experts=EXPERTS),
        rows=about.rows,
        expected=predict_block(combiner, inputs, inputs, head),
        target=target,
    )


def test_the_model_says_what_the_training_code_says(world):
    model = Model.load(world.bundle)
    model.warm_up()
    rows = world.rows.with_columns(regime_state=pl.lit(2.0, dtype=pl.Float32))
    found = score_table(model, rows)
    for name in NUMBERS:
        np.testing.assert_allclose(found[name], world.expected[name], atol=1e-5, err_msg=name)
    chance = found.select(CLASS_COLUMNS).to_numpy()
    np.testing.assert_allclose(chance.sum(axis=1), 1.0, atol=1e-12)
    assert chance[:, 2].std() > 0.02
    assert (chance[:, 1] == 0).all() == (world.target == "trend")


def test_mlflows_own_tools_are_told_the_probabilities_too(world, tmp_path):
    bundle = shutil.copytree(world.bundle, tmp_path / "bundle")
    assert write_mlmodel(bundle)
    model = Model.load(world.bundle)
    given = world.rows.select("timestamp", "symbol", *{*model.columns, *model.context})
    book = BookSizing.of({"config": {"backtest": BacktestSettings().model_dump()}})
    found = Forecaster(model, book).predict(given.to_pandas())
    named = yaml.safe_load((bundle / "MLmodel").read_text())["signature"]["outputs"]
    assert [column["name"] for column in json.loads(named)] == list(found.columns)
    np.testing.assert_array_equal(
        found[list(CLASS_COLUMNS)].to_numpy(), score_table(model, world.rows).select(CLASS_COLUMNS).to_numpy()
    )


def test_experts_and_stack_of_other_classes_are_refused(world, tmp_path):
    bundle = shutil.copytree(world.bundle, tmp_path / "bundle")
    path = bundle / "stacker" / "stacker.json"
    values = json.loads(path.read_text())
    del values["classes"]
    path.write_text(json.dumps(values))
    with pytest.raises(ScoringError, match=r"answers in the classes .*, the stack in \[\]"):
        Model.load(resealed(bundle))
