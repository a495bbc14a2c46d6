"""For networks: how open each feature gate is, which inputs are selected, and which factor group counts in
which regime.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from components.contracts.documents.experts import Explanation, Weights
from components.page import Picture
from components.report.picture import EVERY_LABEL, lying_bars, picture, shown_name

DEPTH = [[0, "rgba(36,86,201,0.05)"], [1, "rgba(36,86,201,0.85)"]]
AT_EACH_END = 10


def network_pictures(explanations: Mapping[str, Explanation]) -> list[Picture]:
    """A picture for each evidence that a network left of itself; explanations are explain.json by expert."""
    pictures = []
    for name, explanation in explanations.items():
        weights, network = explanation.weights, shown_name(name)
        if "feature_gate" in weights:
            pictures.append(_gates(network, weights["feature_gate"]))
        if "variable_selection" in weights:
            pictures.append(_selection(network, weights["variable_selection"]))
        if "regime_gate" in weights:
            pictures.append(_regimes(network, weights["regime_gate"]))
    return pictures


def _gates(network: str, gate: Weights) -> Picture:
    bars = _both_ends(gate.mean, gate.columns)
    layout = {"xaxis": {"range": [0, 1], "title": "mean opening"}, "yaxis": EVERY_LABEL}
    return picture(f"{network}: most closed and most open feature gates", [bars], layout, tall=True)


def _selection(network: str, selection: Weights) -> Picture:
    bars = _both_ends(selection.mean, selection.columns)
    layout = {"xaxis": {"rangemode": "tozero", "title": "mean weight"}, "yaxis": EVERY_LABEL}
    return picture(f"{network}: inputs least and most selected", [bars], layout, tall=True)


def _regimes(network: str, gate: Weights) -> Picture:
    heat = {
        "type": "heatmap",
        "x": gate.columns,
        "y": list(gate.by_regime),
        "z": list(gate.by_regime.values()),
        "colorscale": DEPTH,
        "colorbar": {"thickness": 10},
        "texttemplate": "%{z:.2f}",
    }
    return picture(f"{network}: weight of each factor group by regime", [heat], tall=True)


def _both_ends(values: Sequence[float | None], columns: Sequence[str]) -> dict[str, Any]:
    """The smallest and the largest values, all where there are few; unknown ones are left out."""
    known = ((value, column) for value, column in zip(values, columns, strict=True) if value is not None)
    found = sorted(known)
    few = len(found) <= 2 * AT_EACH_END
    shown = found if few else [*found[:AT_EACH_END], *found[-AT_EACH_END:]]
    return lying_bars([column for _, column in shown], [value for value, _ in shown])
