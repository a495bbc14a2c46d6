"""Service and training code say the same: 10,000 rows with holes, for every combiner."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from components.scoring import Model, score_table
from tests.experts.market import INPUTS
from tests.scoring.small_bundle import COMBINERS, bundle_of, combined, fit_all, trained_outputs

NUMBERS = ("score", "uncertainty", "p10", "p50", "p90")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    fitted = fit_all(tmp_path_factory.mktemp("experts"), bars=740, symbols=48)
    fitted.outputs = trained_outputs(fitted)
    return fitted


@pytest.fixture(scope="module")
def models(world, tmp_path_factory) -> dict[str, tuple[Model, pl.DataFrame]]:
    found = {}
    for method in COMBINERS:
        expected, files = combined(world.outputs, method)
        found[method] = (
            Model.load(bundle_of(world, files, tmp_path_factory.mktemp(method)), threads=1),
            expected,
        )
    return found


def assert_same(found: np.ndarray, expected: np.ndarray):
    """Within 1e-5, and within a ten-thousandth of the numbers' spread: scores are small themselves."""
    difference = np.abs(found - expected).max()
    assert difference < 1e-5
    assert difference < 1e-4 * expected.std()


@pytest.mark.parametrize("method", COMBINERS)
def test_a_table_of_ten_thousand_rows_scores_as_in_training(method, world, models):
    model, expected = models[method]
    found = score_table(model, world.rows, bars=expected["timestamp"].unique())
    assert len(found) >= 10_000
    assert found.select("timestamp", "symbol").equals(expected.select("timestamp", "symbol"))
    for name in NUMBERS:
        assert_same(found[name].to_numpy(), expected[name].to_numpy())
    assert found["head_scale"][0] == expected["head_scale"][0]
    assert found["head_bias"][0] == expected["head_bias"][0]
    assert model.stacker.head.usual == expected["usual_uncertainty"][0]
    assert (expected["uncertainty"] <= model.stacker.head.usual).mean() == pytest.approx(0.9, abs=0.1)


def test_experts_that_see_a_part_of_the_inputs_score_as_with_that_part_alone(world, models, tmp_path):
    model, expected = models["lightgbm"]
    columns = list(INPUTS)
    wider = Model.load(
        bundle_of(
            world,
            combined(world.outputs, "lightgbm")[1],
            tmp_path,
            columns=["unseen_a", *columns[:2], "unseen_b", *columns[2:]],
        ),
        threads=1,
    )
    rows = world.rows.with_columns(
        pl.lit(7.0, dtype=pl.Float32).alias("unseen_a"), pl.lit(None, dtype=pl.Float32).alias("unseen_b")
    )
    bars = expected["timestamp"].unique().sort()[:20]
    assert score_table(wider, rows, bars=bars).equals(score_table(model, world.rows, bars=bars))


@pytest.mark.parametrize("method", COMBINERS)
def test_bar_by_bar_scores_are_those_of_the_table(method, world, models):
    model, expected = models[method]
    table = score_table(model, world.rows, bars=expected["timestamp"].unique())
    for bar in expected["timestamp"].unique().sort()[::40]:
        inputs, context, window = bar_arrays(model, world.rows, bar)
        scores = model.score_bar(inputs, context, window if model.lookback_bars else None)
        for name in NUMBERS:
            assert_same(getattr(scores, name), table.filter(pl.col("timestamp") == bar)[name].to_numpy())


def test_one_symbol_is_scored_against_the_markets_cross_section(world, models):
    model, expected = models["lightgbm"]
    bar = expected["timestamp"].max()
    inputs, context, window = bar_arrays(model, world.rows, bar)
    whole = model.score_bar(inputs, context, window)
    market = model.cross_section(model.expert_outputs(inputs, context, window), context)
    for row in (0, 7):
        part = slice(row, row + 1)
        one = model.combine(
            model.expert_outputs(inputs[part], context[part], window[part]), context[part], market
        )
        for name in NUMBERS:
            assert getattr(one, name)[0] == pytest.approx(getattr(whole, name)[row], abs=1e-7)


def test_experts_without_weight_are_neither_loaded_nor_needed(world, models, tmp_path):
    model, _ = models["best_single"]
    assert len(model.experts) == 1
    assert model.stacker.experts[0] in ("elasticnet", "xgboost", "lightgbm", "patchtst")
    assert model.lookback_bars == (12 if model.stacker.experts == ("patchtst",) else 0)


def bar_arrays(model: Model, rows: pl.DataFrame, bar) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, context and windows of one bar, by a loop over its symbols."""
    now = rows.filter(pl.col("timestamp") == bar)
    window = np.full((len(now), 12, len(INPUTS)), np.nan, dtype=np.float32)
    for number, symbol in enumerate(now["symbol"]):
        past = (
            rows.filter((pl.col("symbol") == symbol) & (pl.col("timestamp") <= bar))
            .select(model.columns)
            .tail(12)
            .cast(pl.Float32)
            .to_numpy()
        )
        window[number, 12 - len(past) :] = past
    return (
        now.select(model.columns).cast(pl.Float32).to_numpy(),
        now.select(model.context).cast(pl.Float32).to_numpy(),
        window,
    )
