"""A small network over the experts' scores, its weights as plain arrays, and its graph for serving."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.stacking.inputs import tree_columns, tree_inputs

# Few, since a dozen noisy scores hold no deep interactions.
UNITS = 6
# Squared penalties tried inside the training rows, newest 30 % of bars held out; a row's share of the loss.
PENALTIES = (0.3, 0.1, 0.03, 0.01)
# Steps of L-BFGS: by then the penalty, not the number of steps, decides how far the weights have gone.
STEPS = 100
OPSET, IR_VERSION = 18, 10


@dataclass(frozen=True)
class Network:
    """One hidden layer: tanh(inputs @ first + first_bias) @ second + second_bias, in Float64."""

    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: float

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Output [B] of float32 inputs [B, F]."""
        hidden = np.tanh(inputs.astype(np.float64) @ self.first + self.first_bias)
        return hidden @ self.second + self.second_bias


def fit_network(
    known: pl.DataFrame, experts: list[str], parts: tuple[np.ndarray, np.ndarray], seed: int
) -> tuple[Network, float]:
    """The network, and its penalty, which is the best of those fitted on the first and tried on the second of
    `parts`, masks of the known rows.
    """
    inputs, label = tree_inputs(known, tree_columns(experts)), known["label_z"].to_numpy()
    earlier, later = parts
    errors = [
        np.mean((label[later] - _fit(inputs[earlier], label[earlier], penalty, seed)(inputs[later])) ** 2)
        for penalty in PENALTIES
    ]
    penalty = PENALTIES[int(np.argmin(errors))]
    return _fit(inputs, label, penalty, seed), penalty


def _fit(inputs: np.ndarray, label: np.ndarray, penalty: float, seed: int) -> Network:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(
        hidden_layer_sizes=(UNITS,),
        activation="tanh",
        solver="lbfgs",
        alpha=penalty * len(label),
        max_iter=STEPS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A fixed number of steps is meant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs.astype(np.float64), label)
    (first, second), (first_bias, second_bias) = model.coefs_, model.intercepts_
    return Network(first, first_bias, second[:, 0], float(second_bias[0]))


def network_graph(network: Network) -> bytes:
    """`inputs` float32 [B, F] to `raw` float64 [B]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def constant(values: Any, name: str):
        return numpy_helper.from_array(np.asarray(values, dtype=np.float64), name)

    steps = [
        helper.make_node("Cast", ["inputs"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "first"], ["sums"]),
        helper.make_node("Add", ["sums", "first_bias"], ["moved"]),
        helper.make_node("Tanh", ["moved"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["product"]),
        helper.make_node("Add", ["product", "second_bias"], ["raw"]),
    ]
    graph = helper.make_graph(
        steps,
        "network",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["B", len(network.first)])],
        [helper.make_tensor_value_info("raw", TensorProto.DOUBLE, ["B"])],
        [
            constant(network.first, "first"),
            constant(network.first_bias, "first_bias"),
            constant(network.second, "second"),
            constant(network.second_bias, "second_bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model)
    return model.SerializeToString()
