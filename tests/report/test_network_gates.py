"""The report's cards of what networks let through: each evidence that there is gets one, and none that there
is not.
"""

import json

import pytest

from components.contracts.documents.experts import EXPLAIN, STATUS, Explanation, FailedExpert
from components.report.result import _explanations
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
    weights = {"patchtst": GATES, "tft": SELECTION}
    found = network_pictures(
        {name: Explanation.model_validate({"weights": found}) for name, found in weights.items()}
    )
    titles = " ".join(picture.title for picture in found)
    drawn = json.dumps([picture.figure for picture in found])
    assert len(found) == 3
    assert "most closed and most open feature gates" in titles
    assert "inputs least and most selected" in titles
    assert '"input_29"' in drawn
    assert '"input_15"' not in drawn


def test_experts_without_such_evidence_get_no_card():
    left = {"patchtst": Explanation(weights={}), "composed": Explanation(weights={}, rows={"bull": 9})}
    assert network_pictures(left) == []


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        ({"importance": {"momentum": 0.4}}, "weights: Field required"),
        (
            {"weights": {"feature_gate": {"columns": ["momentum"], "mean": "all"}}},
            "weights.feature_gate.mean",
        ),
        (
            {"weights": {"feature_gate": {"columns": ["momentum"], "mean": [0.1, 0.2]}}},
            "weights.feature_gate",
        ),
        (["momentum"], "holds no JSON object"),
    ],
)
def test_an_explanation_of_another_shape_is_skipped_with_one_warning(shape, key, tmp_path, capsys):
    for name, explanation in (("patchtst", {"weights": GATES}), ("mine", shape)):
        model = tmp_path / name / "model"
        model.mkdir(parents=True)
        FailedExpert(expert=name, reason="", trace_file="").write(tmp_path / name / STATUS)
        (model / EXPLAIN).write_text(json.dumps(explanation))
    found = _explanations([tmp_path / "patchtst", tmp_path / "mine"])
    said = capsys.readouterr().err.splitlines()
    assert list(found) == ["patchtst"]
    assert len(network_pictures(found)) == 2
    assert len(said) == 1
    assert str(tmp_path / "mine" / "model") in said[0]
    assert EXPLAIN in said[0]
    assert key in said[0]
