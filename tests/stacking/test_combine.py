"""The combiners: honest in time, better than equal weights where there is something to learn, and safe where
there is not.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
import polars as pl
import pytest

from components.contracts import OOF, REGIMES, TIME, mapped
from components.scoring.stacker import Head
from components.stacking import combine
from components.stacking.calibrate import fit_head, predict_block
from components.stacking.combine import stack_experts
from components.stacking.combiners import EQUAL, PERFORMANCE, Combiner, fit_combiner, raw_output
from components.stacking.config import Settings
from components.stacking.inputs import combiner_inputs
from components.stacking.served_form import served_files, write_model
from components.timeline import Windows
from tests.stacking.made_scores import as_predictions

NAMES = ("good", "noise")
BARS, SYMBOLS = 240, 30
CALENDAR = (
    pl.datetime_range(
        datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC), "1d", time_unit="us", eager=True
    )
    .head(BARS)
    .cast(TIME)
)
WINDOWS = Windows(train=(0, 1), validation=(0, 120), test=(120, 240), backtest=(120, 240))
SETTINGS = Settings(combiners=["shrunk", "regimes", "elasticnet", "lightgbm"], lightgbm_rounds=20)


def market(seed: int, strengths: dict[str, float]) -> pl.DataFrame:
    """An OOF table where each expert's score correlates with the label as strongly as `strengths` says."""
    rng = np.random.default_rng(seed)
    label = rng.normal(size=(BARS, SYMBOLS))
    columns = {}
    for name, strength in strengths.items():
        noise = rng.normal(size=label.shape)
        columns[f"score_{name}"] = (0.01 * (strength * label + np.sqrt(1 - strength**2) * noise)).ravel()
        columns[f"uncertainty_{name}"] = np.full(BARS * SYMBOLS, 0.02)
    frame = pl.DataFrame({"timestamp": CALENDAR}).join(
        pl.DataFrame({"symbol": [f"S{i:02d}" for i in range(SYMBOLS)]}), how="cross"
    )
    bars = np.repeat(np.arange(BARS), SYMBOLS)
    frame = frame.with_columns(
        period=pl.lit("1d"),
        horizon=pl.lit(5, pl.Int32),
        target=pl.lit("log_return"),
        fold=pl.Series([f"fold_{b // 40:02d}" for b in bars]),
        label=pl.Series(0.02 * label.ravel()),
        label_end=pl.col("timestamp") + pl.duration(days=6),
        log_return=pl.Series(0.02 * label.ravel()),
        regime=pl.Series(np.where(bars // 20 % 2, "bull", "bear")),
        **{name: pl.Series(values) for name, values in columns.items()},
    )
    return frame.select(*OOF.columns, *columns)


def run(oof: pl.DataFrame, settings: Settings = SETTINGS):
    return stack_experts(oof, as_predictions(oof), settings, WINDOWS, CALENDAR, embargo_bars=2, seed=1)


@cache
def learned():
    oof = market(1, {"good": 0.3, "noise": 0.0, "noise2": 0.0, "median": 0.0}).with_columns(
        score_median=pl.lit(0.001)
    )
    return oof, run(oof)


def rank_ic(result, oof, name):
    frame = result.predictions.filter(
        (pl.col("expert") == name) & (pl.col("timestamp") >= CALENDAR[120])
    ).join(oof.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    return frame.group_by("timestamp").agg(pl.corr("score", "label", method="spearman"))["score"].mean()


def test_combiners_learn_which_expert_to_trust():
    oof, result = learned()
    equal, stack, best = (rank_ic(result, oof, name) for name in (EQUAL, "stack", "best_single"))
    assert result.comparison.chosen in ("shrunk", "regimes", "elasticnet", "best_single")
    assert stack > equal + 0.05
    assert stack > best - 0.03
    assert "median" not in result.comparison.experts
    assert result.comparison.validation_start == str(CALENDAR[0]), "every fold is left out in turn"
    assert result.comparison.validation_end == str(CALENDAR[111]), "labels known before test, less embargo"


def test_every_model_predicts_the_same_test_rows_with_ordered_bands():
    _, result = learned()
    test = result.predictions.filter(pl.col("timestamp") >= CALENDAR[120])
    counts = test.group_by("expert").len()
    assert set(counts["expert"]) == {
        "good",
        "noise",
        "noise2",
        "median",
        EQUAL,
        PERFORMANCE,
        "best_single",
        "z_shrunk",
        "z_regimes",
        "z_elasticnet",
        "z_lightgbm",
        "stack",
    }
    assert counts["len"].unique().to_list() == [120 * SYMBOLS]
    assert test.select(((pl.col("p10") <= pl.col("p50")) & (pl.col("p50") <= pl.col("p90"))).all()).item()


def test_bands_hold_about_eighty_percent_out_of_sample():
    oof, result = learned()
    frame = result.predictions.filter(
        (pl.col("expert") == "stack") & (pl.col("timestamp") >= CALENDAR[120])
    ).join(oof.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
    assert frame.select(pl.col("label").is_between("p10", "p90").mean()).item() == pytest.approx(
        0.8, abs=0.04
    )


def test_labels_that_are_not_known_yet_move_nothing():
    oof, result = learned()
    cut = CALENDAR[160]
    spoiled = oof.with_columns(
        label=pl.when(pl.col("label_end") >= cut).then(-50 * pl.col("label")).otherwise(pl.col("label"))
    )
    again = run(spoiled)
    before = pl.col("timestamp") <= cut
    assert again.predictions.filter(before).equals(result.predictions.filter(before))
    assert not again.predictions.equals(result.predictions)


def test_the_choice_is_made_on_validation_alone():
    oof, result = learned()
    spoiled = oof.with_columns(
        label=pl.when(pl.col("timestamp") >= CALENDAR[120])
        .then(-50 * pl.col("label"))
        .otherwise(pl.col("label"))
    )
    again = run(spoiled).comparison
    assert (again.chosen, again.reason, again.candidates) == (
        result.comparison.chosen,
        result.comparison.reason,
        result.comparison.candidates,
    )


def test_labels_that_end_in_the_test_window_do_not_choose():
    oof, result = learned()
    spoiled = oof.with_columns(
        label=pl.when(pl.col("label_end") >= CALENDAR[120])
        .then(-50 * pl.col("label"))
        .otherwise(pl.col("label"))
    )
    assert run(spoiled).comparison.candidates == result.comparison.candidates


def test_an_expert_that_wakes_up_in_the_test_window_is_left_out_all_along():
    oof, result = learned()
    first_test = CALENDAR[120]
    woken = oof.with_columns(
        score_median=pl.when(pl.col("timestamp") >= first_test)
        .then(pl.col("score_noise"))
        .otherwise(pl.col("score_median"))
    )
    again = run(woken)
    assert again.comparison.experts == result.comparison.experts
    combined = (pl.col("timestamp") < first_test) & (pl.col("expert") == EQUAL)
    assert again.predictions.filter(combined).equals(result.predictions.filter(combined))


def test_rows_within_the_embargo_teach_nothing():
    oof, result = learned()
    start = CALENDAR[120]
    late = pl.col("label_end").is_between(CALENDAR[118], CALENDAR[119])
    again = run(oof.with_columns(label=pl.when(late).then(-50 * pl.col("label")).otherwise(pl.col("label"))))
    first_block = pl.col("timestamp").is_between(start, CALENDAR[159])
    assert again.predictions.filter(first_block).equals(result.predictions.filter(first_block))
    assert not again.predictions.equals(result.predictions)


def test_trees_are_scaled_on_rows_that_they_have_not_seen():
    """On their own training rows trees explain noise: their scores would be several times too wide and their
    bands too narrow.
    """
    widths, inside = [], []
    for seed in range(4):
        oof = market(seed, {"a": 0.0, "b": 0.0, "c": 0.0})
        found = run(oof, Settings(combiners=["lightgbm"], lightgbm_rounds=80)).predictions.filter(
            (pl.col("expert") == "z_lightgbm") & (pl.col("timestamp") >= CALENDAR[120])
        )
        both = found.join(oof.select("timestamp", "symbol", "label"), on=("timestamp", "symbol"))
        widths.append(both["score"].std() / both["label"].std())
        inside.append(both.select(pl.col("label").is_between("p10", "p90").mean()).item())
    assert np.mean(widths) < 0.05
    assert np.mean(inside) == pytest.approx(0.8, abs=0.01)


def test_the_same_seed_gives_the_same_numbers_and_the_model_file_says_how_to_score():
    oof, result = learned()
    assert run(oof).predictions.equals(result.predictions)
    model = json.loads(result.model["stacker.json"])
    assert model["method"] == result.comparison.chosen
    assert set(model) >= {"experts", "head_scale", "head_bias", "band_low", "band_high"}


def test_rows_that_are_mapped_and_put_together_bar_by_bar_are_the_same(monkeypatch):
    oof = learned()[0]
    few = SETTINGS.model_copy(update={"combiners": ["shrunk"]})
    held = run(oof, few)
    monkeypatch.setattr(mapped, "SMALL_BYTES", 0)
    monkeypatch.setattr(combine, "ROWS_AT_ONCE", 1)
    found = run(oof, few)
    assert (
        found.predictions.n_chunks() == held.predictions["timestamp"].n_unique() > held.predictions.n_chunks()
    )
    assert found.predictions.equals(held.predictions)
    assert (found.comparison, found.model) == (held.comparison, held.model)


def test_too_little_history_means_equal_weights():
    oof = market(3, {"a": 0.3, "b": 0.0})
    result = run(oof, Settings(min_train_bars=1000))
    assert result.comparison.chosen == EQUAL
    assert rank_ic(result, oof, "stack") == pytest.approx(rank_ic(result, oof, EQUAL))


def test_noise_is_not_turned_into_skill():
    values = [rank_ic(run(oof := market(seed, {"a": 0.0, "b": 0.0})), oof, "stack") for seed in range(6)]
    standard_error = 1 / np.sqrt(120 * (SYMBOLS - 1))
    assert abs(np.mean(values)) < 3 * standard_error / np.sqrt(len(values))


@pytest.mark.parametrize("method", [EQUAL, PERFORMANCE, "best_single", "elasticnet", "lightgbm"])
def test_an_expert_without_weight_moves_nothing_and_is_not_served(method):
    """Its uncertainty is no part of the band, so serving can leave it out."""
    oof = market(1, {"good": 0.3, "other": 0.2, "noise": 0.0})
    experts, table = ["good", "other", "noise"], inputs_of(oof)
    model = fit_combiner(method, table, experts, SETTINGS, 1)
    if model.booster is None:
        silent = {name: 0.0 for name in model.weights if name.startswith("noise")}
        model = replace(model, weights={**model.weights, **silent})
    head = fit_head(method, model, table, experts, SETTINGS, 1)
    loud = inputs_of(oof.with_columns(uncertainty_noise=pl.lit(9.0)))
    files = served_files(method, model, experts, head)
    about = json.loads(files["stacker.json"])
    assert ("noise" in about["served_experts"]) == (method == "lightgbm")
    assert set(about["served_experts"]) <= set(experts)
    assert predict_block(model, loud, loud, head).equals(predict_block(model, table, table, head)) == (
        method != "lightgbm"
    )
    assert set(files) == (
        {"stacker.json", "stacker_lightgbm.txt", "stacker.onnx"} if method == "lightgbm" else {"stacker.json"}
    )
    assert about["graph"] == ("stacker.onnx" if method == "lightgbm" else None)


def test_an_expert_with_weight_in_one_regime_only_is_served():
    weights = {"a": 0.0, "b": 0.1, "c": 0.0, "a|bear": 0.2, "b|bear": 0.0, "c|bear": 0.0}
    about = json.loads(
        served_files(
            "elasticnet", Combiner("elasticnet", weights), ["a", "b", "c"], Head(1.0, 0.0, 1.0, 1.0)
        )["stacker.json"]
    )
    assert about["served_experts"] == ["a", "b"]


def test_the_served_trees_are_the_fitted_ones(tmp_path):
    import onnxruntime

    table = inputs_of(market(2, {"a": 0.3, "b": 0.1}))
    model = fit_combiner("lightgbm", table, ["a", "b"], SETTINGS, 1)
    write_model(served_files("lightgbm", model, ["a", "b"], Head(1.0, 0.0, 1.0, 1.0)), tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "stacker.onnx"), providers=["CPUExecutionProvider"])
    served = session.run(["raw"], {"inputs": table.select(model.columns).cast(pl.Float32).to_numpy()})[0]
    np.testing.assert_allclose(served, raw_output(model, table), rtol=0, atol=1e-12)
    assert list(model.columns) == [
        "z_a",
        "z_b",
        "u_a",
        "u_b",
        *(f"regime_{name}" for name in REGIMES),
    ], "the order in which serving puts them together"


def inputs_of(oof: pl.DataFrame) -> pl.DataFrame:
    return combiner_inputs(
        oof, [name.removeprefix("score_") for name in oof.columns if name.startswith("score_")]
    )


def test_the_usual_uncertainty_is_of_the_rows_before_and_of_no_later_one():
    """Of experts and of the stack: ten times the uncertainty in the test window moves none of them there, in
    the validation window before it every later one.
    """
    rng = np.random.default_rng(3)
    oof = market(1, {"good": 0.3, "noise": 0.0})
    noisy = oof.with_columns(pl.Series(f"uncertainty_{n}", rng.uniform(0.01, 0.03, len(oof))) for n in NAMES)

    def usual(table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str | bytes]]:
        predictions = as_predictions(table).drop("uncertainty")
        long = pl.concat(
            table.select("timestamp", "symbol", expert=pl.lit(n), uncertainty=f"uncertainty_{n}")
            for n in NAMES
        )
        predictions = predictions.join(long, on=("timestamp", "symbol", "expert"))
        stacked = stack_experts(table, predictions, SETTINGS, WINDOWS, CALENDAR, embargo_bars=2, seed=1)
        return stacked.predictions.select("timestamp", "symbol", "expert", "usual_uncertainty"), stacked.model

    def louder(table: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
        inside = pl.col("timestamp").is_between(CALENDAR[first], CALENDAR[last])
        return table.with_columns(
            pl.when(inside)
            .then(10 * pl.col(f"uncertainty_{n}"))
            .otherwise(f"uncertainty_{n}")
            .alias(f"uncertainty_{n}")
            for n in NAMES
        )

    before, model = usual(noisy)
    test = (pl.col("timestamp") >= CALENDAR[WINDOWS.test[0]]) & pl.col("expert").is_in([*NAMES, "stack"])
    assert before.filter(test)["usual_uncertainty"].null_count() == 0
    experts = before.filter(test & pl.col("expert").is_in(NAMES))["usual_uncertainty"]
    assert experts.is_between(0.0275, 0.0285).all(), "the 90 % quantile of 0.01 to 0.03"
    first_block = pl.col("timestamp") < CALENDAR[WINDOWS.test[0] + 40]
    after, _ = usual(louder(noisy, WINDOWS.test[0], BARS - 1))
    assert after.filter(first_block).equals(before.filter(first_block))
    shaken, loud = usual(louder(noisy, 0, BARS - 1))
    ratio = shaken.filter(test)["usual_uncertainty"] / before.filter(test)["usual_uncertainty"]
    assert ratio.filter(before.filter(test)["expert"].is_in(NAMES)).is_between(9.99, 10.01).all()
    served = [json.loads(files["stacker.json"])["usual_uncertainty"] for files in (model, loud)]
    assert served[0] > 0
    assert served[1] == pytest.approx(served[0]), "bands are calibrated: their unit does not matter"


def test_experts_without_uncertainty_have_no_usual_one():
    oof = market(1, {"good": 0.3, "noise": 0.0})
    silent = as_predictions(oof).with_columns(
        uncertainty=pl.when(pl.col("expert") == "noise").then(0.0).otherwise("uncertainty")
    )
    found = stack_experts(oof, silent, SETTINGS, WINDOWS, CALENDAR, embargo_bars=2, seed=1).predictions
    by_expert = found.filter(pl.col("timestamp") >= CALENDAR[WINDOWS.test[0]]).group_by("expert")
    known = dict(by_expert.agg(pl.col("usual_uncertainty").count()).rows())
    assert known["noise"] == 0
    assert known["good"] > 0
