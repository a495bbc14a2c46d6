"""What must not be served is refused at load or warm-up, with the file and the remedy in the message; the
whole bundle passes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import BundleError, write_manifest
from components.scoring import Model, ScoringError, score_table
from components.scoring.trees import lightgbm_graph
from tests.experts.market import INPUTS
from tests.scoring.small_bundle import bundle_of, combined, fit_all, resealed, trained_outputs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    fitted = fit_all(tmp_path_factory.mktemp("experts"), bars=120, symbols=12)
    fitted.outputs = trained_outputs(fitted)
    return fitted


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    return bundle_of(world, combined(world.outputs, "lightgbm")[1], tmp_path_factory.mktemp("whole"))


@pytest.fixture
def bundle(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def change(path: Path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(bundle: Path, *words: str, error=ScoringError):
    with pytest.raises(error) as found:
        Model.load(bundle, threads=1).warm_up()
    message = str(found.value)
    assert all(word in message for word in words), message
    assert "again" in message, "the message says what to do"


def test_a_whole_bundle_loads_warms_up_and_says_what_it_is(bundle):
    model = Model.load(bundle, threads=1)
    model.warm_up()
    assert (model.columns, model.context) == (
        tuple(INPUTS),
        ("regime_state", "volatility_20", "sector_code", "industry_code"),
    )
    assert (model.period, model.horizon, model.target, model.schema) == ("1d", 2, "log_return", "s1")
    assert model.sha256 == json.loads((bundle / "manifest.json").read_text())["sha256"]
    assert (model.manifest["served_format"], model.manifest["train_window"]) == (2, "2020-01-01..2021-01-01")
    assert model.stacker.experts == ("elasticnet", "xgboost", "lightgbm", "patchtst")
    assert model.lookback_bars == 12


@pytest.mark.parametrize(
    "name", ["experts/lightgbm/model.onnx", "stacker/stacker.onnx", "experts/patchtst/served.json"]
)
def test_a_changed_byte_is_found(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    refused(bundle, name, error=BundleError)


def test_a_missing_served_form_names_the_expert_and_the_method_to_write(bundle):
    (bundle / "experts" / "xgboost" / "served.json").unlink()
    refused(resealed(bundle), "expert xgboost has no served form", "export(folder)")


def test_a_missing_served_form_of_an_expert_without_weight_does_no_harm(world, tmp_path):
    folder = bundle_of(world, combined(world.outputs, "best_single")[1], tmp_path)
    used = Model.load(folder, threads=1).stacker.experts[0]
    for name in {"median", "elasticnet", "xgboost", "lightgbm", "patchtst"} - {used}:
        (folder / "experts" / name / "served.json").unlink()
    Model.load(resealed(folder), threads=1).warm_up()


def test_swapped_columns_are_refused(bundle):
    change(
        bundle / "experts" / "elasticnet" / "served.json", columns=[*list(INPUTS)[1::-1], *list(INPUTS)[2:]]
    )
    refused(resealed(bundle), "expert elasticnet", "input number 2, trend_a", "in another order")


def test_an_input_that_the_feature_service_lacks_is_refused(bundle):
    change(bundle / "features.json", columns=list(INPUTS)[1:])
    refused(resealed(bundle), "takes 5 inputs, features.json names 4", "input number 1, trend_a")


@pytest.mark.parametrize("name", ["experts/lightgbm/served.json", "stacker/stacker.json"])
@pytest.mark.parametrize("number", [1, 3, None])
def test_another_format_number_is_refused(bundle, name, number):
    change(bundle / name, format=number)
    refused(resealed(bundle), name, f"has format {number}")


def test_a_stacker_from_before_serving_is_refused(bundle):
    path = bundle / "stacker" / "stacker.json"
    path.write_text(
        json.dumps(
            {
                name: value
                for name, value in json.loads(path.read_text()).items()
                if name not in ("format", "served_experts", "graph")
            }
        )
    )
    refused(resealed(bundle), "stacker.json", "has format None")


def test_a_stacker_that_names_an_expert_that_is_not_there_is_refused(bundle):
    shutil.rmtree(bundle / "experts" / "lightgbm")
    refused(resealed(bundle), "gives lightgbm weight", "holds no such expert")


def test_weights_of_experts_that_are_not_served_are_refused(world, tmp_path):
    files = combined(world.outputs, "equal_weights")[1]
    values = json.loads(files["stacker.json"])
    files["stacker.json"] = json.dumps(values | {"served_experts": values["served_experts"][1:]})
    refused(bundle_of(world, files, tmp_path), "gives elasticnet the weight 0.25")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 2, "kind": "row"}',
        '{"format": 2, "kind": "blend"}',
        "\x00",
    ],
)
@pytest.mark.parametrize("name", ["experts/elasticnet/served.json", "stacker/stacker.json", "features.json"])
def test_broken_json_is_refused(bundle, name, text):
    (bundle / name).write_text(text)
    refused(resealed(bundle), name)


def test_a_graph_that_is_none_is_refused(bundle):
    (bundle / "experts" / "xgboost" / "model.onnx").write_bytes(b"not a graph")
    refused(resealed(bundle), "xgboost/model.onnx", "ONNX Runtime")


def test_a_graph_with_other_inputs_is_refused(bundle):
    shutil.copyfile(
        bundle / "experts" / "patchtst" / "model.onnx", bundle / "experts" / "xgboost" / "model.onnx"
    )
    refused(resealed(bundle), "xgboost/model.onnx", "'inputs'")


def test_a_graph_of_fewer_inputs_is_refused(bundle):
    tree = {"tree_structure": {"leaf_value": 1.0}}
    (bundle / "experts" / "xgboost" / "model.onnx").write_bytes(
        lightgbm_graph({"tree_info": [tree], "max_feature_idx": 2, "num_tree_per_iteration": 1})
    )
    refused(resealed(bundle), "['B', 3]", "expected float rows of shape [5]")


def test_answers_that_are_not_finite_are_refused_at_warm_up(bundle):
    change(bundle / "stacker" / "stacker.json", head_scale=float("nan"))
    refused(resealed(bundle), "score of 1 of 1 rows is not finite")


def test_a_manifest_without_a_horizon_is_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").unlink()
    write_manifest(
        bundle,
        {name: value for name, value in manifest.items() if name not in ("sha256", "files", "horizon")},
    )
    refused(bundle, "manifest", "horizon")


def test_arrays_of_another_shape_are_refused(bundle):
    model = Model.load(bundle, threads=1)
    inputs, context, window = (np.zeros(shape, dtype=np.float32) for shape in ((3, 5), (3, 4), (3, 12, 5)))
    model.score_bar(inputs, context, window)
    for arrays in (
        (inputs[:, :4], context, window),
        (inputs, context[:2], window),
        (inputs, context, None),
        (inputs, context, window[:, 1:]),
    ):
        with pytest.raises(ScoringError, match=r"expected|needs a float32 window"):
            model.score_bar(*arrays)


def test_tables_out_of_order_or_short_of_columns_are_refused(bundle, world):
    model = Model.load(bundle, threads=1)
    for rows, word in (
        (world.rows.reverse(), "sorted"),
        (pl.concat([world.rows, world.rows.tail(1)]), "sorted"),
        (world.rows.drop("trend_b"), "'trend_b'"),
    ):
        with pytest.raises(ScoringError, match=word):
            score_table(model, rows)


def test_no_row_gives_an_empty_table(bundle, world):
    model = Model.load(bundle, threads=1)
    found = score_table(model, world.rows, bars=[])
    assert found.is_empty()
    assert found.columns == [
        "timestamp",
        "symbol",
        "score",
        "uncertainty",
        "p10",
        "p50",
        "p90",
        "head_scale",
        "head_bias",
    ]
