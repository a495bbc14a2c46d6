"""The report's cards of what networks let through: each evidence that there is gets one, and none that there
is not.
"""

import json

from components.report.sections.networks import network_pictures

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


def test_gates_and_selected_inputs_are_drawn():
    found = network_pictures({"patchtst": {"weights": GATES}, "tft": {"weights": SELECTION}})
    titles = " ".join(picture.title for picture in found)
    drawn = json.dumps([picture.figure for picture in found])
    assert len(found) == 3
    assert "most closed and most open feature gates" in titles
    assert "inputs least and most selected" in titles
    assert '"input_29"' in drawn
    assert '"input_15"' not in drawn


def test_experts_without_such_evidence_get_no_card():
    assert network_pictures({"patchtst": {"weights": {}}, "composed": {"members": {}}}) == []
