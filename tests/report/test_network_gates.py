"""The report's cards of what networks let through: each evidence that there is gets one, and none that there
is not.
"""

from types import SimpleNamespace

from components.report.run_report import _gates_of_networks

GATES = {
    "feature_gate": {"columns": ["momentum", "noise"], "mean": [0.9, 0.1], "by_regime": {"bull": [0.9, 0.1]}},
    "regime_gate": {
        "columns": ["trend", "volatility"],
        "mean": [0.5, 0.5],
        "by_regime": {"bull": [0.7, 0.3], "unknown": [0.3, 0.7]},
    },
}
SELECTION = {
    "variable_selection": {
        "columns": [f"input_{number}" for number in range(30)],
        "mean": [number / 100 for number in range(30)],
        "by_regime": {},
    }
}


def cards(**explanations) -> str:
    return " ".join(_gates_of_networks(SimpleNamespace(explanations=explanations)))


def test_gates_and_selected_inputs_are_drawn():
    found = cards(patchtst={"weights": GATES}, tft={"weights": SELECTION})
    assert found.count('class="plot') == 3
    assert "most closed and most open feature gates" in found
    assert "inputs least and most selected" in found
    assert '"input_29"' in found
    assert '"input_15"' not in found


def test_experts_without_such_evidence_get_no_card():
    assert cards(patchtst={"weights": {}}, composed={"members": {}}) == ""
