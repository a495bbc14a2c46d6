"""Graphs made by hand, whose answers a few lines of NumPy can check: experts of windows, with context or
across the symbols of a bar.
"""

import numpy as np

from components.contracts import REGIMES

# How much of the bar's mean is taken off, and what a step of a code adds.
OTHERS, SECTOR = 0.5, 0.1


def window_graph(
    lookback: int, width: int, *, market: bool = False, context: int = 0, sector: float = SECTOR
) -> bytes:
    """`raw` = mean of the first input over the window (missing: 0), less half of its mean over all rows
    (`market`), plus `sector` times the first context column.

    `quantiles` = raw - 1, raw, raw + 1.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    def constant(name: str, values, dtype) -> object:
        return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)

    def known(source: str, target: str) -> list:
        return [
            helper.make_node("IsNaN", [source], [f"{source}_missing"]),
            helper.make_node("Where", [f"{source}_missing", "zero", source], [target]),
        ]

    nodes = [
        *known("window", "known"),
        helper.make_node("Slice", ["known", "first", "second", "last_axis"], ["column"]),
        helper.make_node("ReduceMean", ["column", "bar_and_input"], ["own"], keepdims=0),
    ]
    if market:
        nodes += [
            helper.make_node("ReduceMean", ["own", "rows"], ["mean"], keepdims=1),
            helper.make_node("Mul", ["mean", "others"], ["taken"]),
            helper.make_node("Sub", ["own", "taken"], ["centred"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["own"], ["centred"]))
    if context:
        nodes += [
            *known("context", "codes"),
            helper.make_node("Slice", ["codes", "first", "second", "last_axis"], ["code"]),
            helper.make_node("Squeeze", ["code", "last_axis"], ["flat_code"]),
            helper.make_node("Mul", ["flat_code", "per_code"], ["added"]),
            helper.make_node("Add", ["centred", "added"], ["sum"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["centred"], ["sum"]))
    # Outputs must depend on every input: `begun` and `regime` come in with weight 0.
    nodes += [
        helper.make_node("ReduceSum", ["begun", "last_axis"], ["bars"], keepdims=0),
        helper.make_node("ReduceSum", ["regime", "last_axis"], ["regimes"], keepdims=0),
        helper.make_node("Add", ["bars", "regimes"], ["rest"]),
        helper.make_node("Mul", ["rest", "zero"], ["nothing"]),
        helper.make_node("Add", ["sum", "nothing"], ["raw"]),
        helper.make_node("Unsqueeze", ["raw", "last_axis"], ["upright"]),
        helper.make_node("Add", ["upright", "steps"], ["quantiles"]),
    ]
    numbers = [("zero", 0.0), ("others", OTHERS), ("per_code", sector), ("steps", [-1.0, 0.0, 1.0])]
    places = [("first", [0]), ("second", [1]), ("last_axis", [-1]), ("rows", [0]), ("bar_and_input", [1, 2])]
    given = [
        ("window", (lookback, width)),
        ("begun", (lookback,)),
        ("regime", (len(REGIMES),)),
        *([("context", (context,))] if context else []),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *sizes]) for name, sizes in given],
        [
            helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["B"]),
            helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["B", 3]),
        ],
        [constant(name, value, np.float32) for name, value in numbers]
        + [constant(name, value, np.int64) for name, value in places],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def by_hand(
    window_BLF: np.ndarray,
    bar_B: np.ndarray | None = None,
    sector_B: np.ndarray | None = None,
    sector: float = SECTOR,
) -> np.ndarray:
    """What the graph answers, Float64 [B]; across symbols where the rows' bars are given."""
    own_B = np.nan_to_num(window_BLF[..., 0]).astype(np.float64).mean(axis=1)
    if bar_B is not None:
        own_B = own_B - OTHERS * np.array([own_B[bar_B == bar].mean() for bar in bar_B])
    return own_B if sector_B is None else own_B + sector * np.nan_to_num(sector_B)
