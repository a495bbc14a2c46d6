"""A training pipeline of more experts than one task gathers."""

from pipelines.config import load_config
from pipelines.graphs import arrange
from pipelines.runners.ir import compile_pipeline, read_ir
from tests.pipelines.test_ir import DEMO

EXPERTS = [
    *("median", "elasticnet", "median_regression", "xgboost", "lightgbm"),
    *("patchtst", "gru", "tft", "adaptive_tft"),
]


def test_more_experts_than_slots_are_gathered_one_task_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(arrange, "GATHER_SLOTS", 4)
    leaves = ", ".join(f"{name}/1d/base" for name in EXPERTS)
    config = load_config(DEMO, [f"experts.leaves=[{leaves}]"])
    ir = read_ir(compile_pipeline("training", config, tmp_path / "ir.yaml"))[0]
    parts = (ir["root"], *ir["components"].values())
    found = []
    for task in (task for part in parts for task in part.get("dag", {}).get("tasks", {}).values()):
        given = task.get("inputs", {}).get("parameters", {})
        if given.get("what", {}).get("runtimeValue", {}).get("constant") == "experts":
            names = given["names"]["runtimeValue"]["constant"]
            found.append((list(names), "before" in task["inputs"]["artifacts"]))
    assert sorted(len(names) for names, _ in found) == [1, 4, 4]
    assert sum(follows for _, follows in found) == 2
    assert sorted(name for names, _ in found for name in names) == sorted(EXPERTS)
