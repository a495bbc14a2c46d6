"""Gradient-boosted trees as one ONNX node, with the numbers and the rules of the library that fitted them.

Sums are Float64 and a threshold is never rounded onto the other side of an input, so LightGBM's own output is
met to the last digits; a missing input goes where the library sends it. (onnxmltools 1.14 sums in Float32 and
rounds thresholds, which sends inputs that lie on one into the other branch.)
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ML_OPSET, OPSET, IR_VERSION = 5, 18, 10
LESS_OR_EQUAL, LESS = 0, 1


@dataclass
class _Forest:
    """Attributes of the ONNX node TreeEnsemble: one entry an inner node, and one a leaf."""

    roots: list[int] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    yes_is_leaf: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    no_is_leaf: list[int] = field(default_factory=list)
    missing_is_yes: list[int] = field(default_factory=list)
    leaf: list[float] = field(default_factory=list)
    leaf_class: list[int] = field(default_factory=list)
    tree_class: int = 0

    def node(self, column: int, threshold: float, missing_is_yes: bool) -> int:
        """A new inner node without children; returns its number."""
        for values, value in (
            (self.column, column),
            (self.threshold, threshold),
            (self.missing_is_yes, int(missing_is_yes)),
        ):
            values.append(value)
        for values in (self.yes, self.yes_is_leaf, self.no, self.no_is_leaf):
            values.append(0)
        return len(self.column) - 1

    def children(self, node: int, yes: tuple[int, int], no: tuple[int, int]) -> None:
        """Each child is (number, whether it is a leaf)."""
        self.yes[node], self.yes_is_leaf[node] = yes
        self.no[node], self.no_is_leaf[node] = no

    def end(self, value: float) -> tuple[int, int]:
        self.leaf.append(value)
        self.leaf_class.append(self.tree_class)
        return len(self.leaf) - 1, 1

    def root(self, child: tuple[int, int]) -> None:
        """Close a tree.

        A lone leaf hangs on both sides of a node, as the format has no other place for it.
        """
        number, is_leaf = child
        if is_leaf:
            number = self.node(0, 0.0, True)
            self.children(number, child, child)
        self.roots.append(number)


def lightgbm_graph(dump: dict[str, Any]) -> bytes:
    """The graph of `Booster.dump_model()`: `inputs` float32 [B, F], NaN = missing, to `raw` float64 [B], of a
    classifier [B, C].

    Raises
    ------
    ValueError
        For categorical splits and for zero as a missing value, which no model here has.
    """
    forest = _Forest()

    def grow(node: dict[str, Any]) -> tuple[int, int]:
        if "leaf_value" in node:
            return forest.end(node["leaf_value"])
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise ValueError(
                f"a split of type {node['decision_type']} with missing values {node['missing_type']} has no"
                " ONNX form here"
            )
        # Where training saw no missing value, LightGBM reads one as 0.
        missing_is_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
        number = forest.node(node["split_feature"], _not_above(node["threshold"]), missing_is_left)
        forest.children(number, grow(node["left_child"]), grow(node["right_child"]))
        return number, 0

    classes = dump["num_tree_per_iteration"]
    for number, tree in enumerate(dump["tree_info"]):
        forest.tree_class = number % classes
        forest.root(grow(tree["tree_structure"]))
    return _graph(forest, dump["max_feature_idx"] + 1, LESS_OR_EQUAL, [0.0] * classes)


def xgboost_graph(model: str | bytes) -> bytes:
    """The graph of `Booster.save_raw("json")` with objective reg:squarederror or multi:softprob; inputs and
    output as of `lightgbm_graph`.

    XGBoost itself sums in Float32, so its own output differs in the seventh digit.
    """
    learner = json.loads(model)["learner"]
    forest = _Forest()
    boosted = learner["gradient_booster"]["model"]
    for tree, forest.tree_class in zip(boosted["trees"], boosted["tree_info"], strict=True):
        left, right, conditions = (
            tree["left_children"],
            tree["right_children"],
            np.asarray(tree["split_conditions"], dtype=np.float32).tolist(),
        )
        places = [
            (
                forest.end(conditions[i])
                if left[i] < 0
                else (forest.node(tree["split_indices"][i], conditions[i], bool(tree["default_left"][i])), 0)
            )
            for i in range(len(left))
        ]
        for i, (number, is_leaf) in enumerate(places):
            if not is_leaf:
                forest.children(number, places[left[i]], places[right[i]])
        forest.root(places[0])
    about = learner["learner_model_param"]
    base = np.asarray(about["base_score"].strip("[]").split(","), dtype=np.float32).tolist()
    classes = max(int(about["num_class"]), 1)
    bases = base if len(base) == classes else base * classes
    return _graph(forest, int(about["num_feature"]), LESS, bases)


def _not_above(threshold: float) -> float:
    """The largest float32 that is not above the threshold: the same float32 inputs lie at or below it."""
    single = np.float32(threshold)
    return float(single if float(single) <= threshold else np.nextafter(single, np.float32(-np.inf)))


def _graph(forest: _Forest, inputs: int, mode: int, base: list[float]) -> bytes:
    """`base` is added to the sum of the trees, one number a class; a single one gives `raw` [B]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def tensor(values: Any, dtype: Any, name: str):
        return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)

    ensemble = helper.make_node(
        "TreeEnsemble",
        ["wide"],
        ["sums"],
        domain="ai.onnx.ml",
        n_targets=len(base),
        aggregate_function=1,
        post_transform=0,
        tree_roots=forest.roots,
        nodes_featureids=forest.column,
        nodes_modes=tensor([mode] * len(forest.column), np.uint8, "nodes_modes"),
        nodes_splits=tensor(forest.threshold, np.float64, "nodes_splits"),
        nodes_truenodeids=forest.yes,
        nodes_trueleafs=forest.yes_is_leaf,
        nodes_falsenodeids=forest.no,
        nodes_falseleafs=forest.no_is_leaf,
        nodes_missing_value_tracks_true=forest.missing_is_yes,
        leaf_targetids=forest.leaf_class,
        leaf_weights=tensor(forest.leaf, np.float64, "leaf_weights"),
    )
    steps = [
        helper.make_node("Cast", ["inputs"], ["wide"], to=TensorProto.DOUBLE),
        ensemble,
        helper.make_node("Reshape", ["sums", "shape"], ["column"]),
        helper.make_node("Add", ["column", "base"], ["raw"]),
    ]
    shape = [-1] if len(base) == 1 else [-1, len(base)]
    graph = helper.make_graph(
        steps,
        "trees",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["B", inputs])],
        [helper.make_tensor_value_info("raw", TensorProto.DOUBLE, ["B", *shape[1:]])],
        [tensor(shape, np.int64, "shape"), tensor(base[0] if len(base) == 1 else base, np.float64, "base")],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    checker.check_model(model)
    return model.SerializeToString()
