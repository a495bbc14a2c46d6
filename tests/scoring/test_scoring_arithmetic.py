"""Small parts with numbers by hand: standing within a bar, the start of a window, trees with missing inputs,
and what is imported.
"""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from components.scoring.expert import begun
from components.scoring.model import one_hot
from components.scoring.stacker import standardise
from components.scoring.trees import lightgbm_graph, xgboost_graph

NAN = float("nan")


def run(graph: bytes, inputs: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(
        ["raw"], {"inputs": inputs.astype(np.float32)}
    )[0]


def test_standing_within_a_bar_by_hand():
    values = np.array([[1.0, 3.0, 100.0], [2.0, 2.0, 2.0]])
    found = standardise(values, np.array([[2.0], [2.0]]), np.array([[2.0], [0.0]]))
    np.testing.assert_array_equal(found, [[-0.5, 0.5, 5.0], [0.0, 0.0, 0.0]])


def test_unknown_regimes_are_none_of_the_four():
    np.testing.assert_array_equal(
        one_hot(np.array([0.0, 3.0, NAN, 4.0, -1.0])), [[1, 0, 0, 0], [0, 0, 0, 1], [0] * 4, [0] * 4, [0] * 4]
    )


def test_a_window_begins_with_its_first_known_input():
    window = np.full((4, 3, 2), NAN, dtype=np.float32)
    window[0] = 1.0
    window[1, 1:, 0] = 1.0
    window[2, 0, 1] = 1.0
    np.testing.assert_array_equal(begun(window), [[1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]])


def tree(threshold: float, missing: str, *, left: bool) -> dict:
    split = {
        "split_feature": 1,
        "threshold": threshold,
        "decision_type": "<=",
        "missing_type": missing,
        "default_left": left,
    }
    return {
        "tree_structure": {**split, "left_child": {"leaf_value": 1.0}, "right_child": {"leaf_value": 10.0}}
    }


@pytest.mark.parametrize(
    ("missing", "left", "threshold", "expected"),
    [
        ("NaN", True, -1.0, 1.0),
        ("NaN", False, 1.0, 10.0),
        ("None", True, 1.0, 1.0),
        ("None", False, 1.0, 1.0),
        ("None", True, -1.0, 10.0),
        ("None", True, 0.0, 1.0),
    ],
)
def test_a_missing_input_goes_where_lightgbm_sends_it(missing, left, threshold, expected):
    assert run(
        lightgbm_graph(
            {
                "tree_info": [tree(threshold, missing, left=left)],
                "max_feature_idx": 2,
                "num_tree_per_iteration": 1,
            }
        ),
        np.array([[0.0, NAN, 0.0]]),
    ) == [expected]


def test_a_threshold_between_two_floats_sends_both_where_lightgbm_does():
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    between = (float(low) + float(high)) / 2 + 1e-12
    assert np.float32(between) == high, "rounding would let the upper one pass"
    graph = lightgbm_graph(
        {"tree_info": [tree(between, "NaN", left=True)], "max_feature_idx": 2, "num_tree_per_iteration": 1}
    )
    np.testing.assert_array_equal(run(graph, np.array([[0, low, 0], [0, high, 0]])), [1.0, 10.0])


def test_a_lone_leaf_and_several_trees_are_summed():
    trees = [
        {"tree_structure": {"leaf_value": 0.5}},
        tree(0.0, "NaN", left=True),
        {"tree_structure": {"leaf_value": 0.25}},
    ]
    np.testing.assert_array_equal(
        run(
            lightgbm_graph({"tree_info": trees, "max_feature_idx": 2, "num_tree_per_iteration": 1}),
            np.array([[0, -1, 0], [0, 1, NAN]]),
        ),
        [1.75, 10.75],
    )


def test_splits_without_a_form_are_refused():
    with pytest.raises(ValueError, match="no ONNX form"):
        lightgbm_graph(
            {"tree_info": [tree(0.0, "Zero", left=True)], "max_feature_idx": 2, "num_tree_per_iteration": 1}
        )


@pytest.mark.parametrize("share_missing", [0.0, 0.2])
def test_forests_answer_as_their_library_does(share_missing):
    import lightgbm
    import xgboost

    random = np.random.default_rng(5)
    inputs, other = (np.round(random.normal(size=(2000, 4)), 1).astype(np.float32) for _ in range(2))
    inputs[random.random(inputs.shape) < share_missing] = NAN
    other[random.random(other.shape) < 0.2] = NAN
    other[0] = NAN
    label = np.nan_to_num(inputs[:, 0]) * np.nan_to_num(inputs[:, 1]) + random.normal(size=2000)
    trees = lightgbm.train({"verbosity": -1, "num_leaves": 15}, lightgbm.Dataset(inputs, label), 30)
    np.testing.assert_allclose(
        run(lightgbm_graph(trees.dump_model()), other), trees.predict(other), rtol=0, atol=1e-12
    )
    boosted = xgboost.train({"max_depth": 4, "verbosity": 0}, xgboost.DMatrix(inputs, label), 30)
    np.testing.assert_allclose(
        run(xgboost_graph(bytes(boosted.save_raw("json"))), other),
        boosted.inplace_predict(other, missing=np.nan),
        rtol=0,
        atol=2e-6,
    )


def test_scoring_imports_nothing_that_trains():
    code = (
        "import sys, components.scoring; print([name for name in ('torch', 'lightgbm', 'xgboost', 'sklearn',"
        " 'pandas', 'onnx') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
