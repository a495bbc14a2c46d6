"""A scheme of the timeline in the graphs: which tasks see it, and that those of the verdict do not."""

import json
from pathlib import Path

import pytest

from pipelines.config import load_config, timeline_json, walk_json
from pipelines.graphs.retraining import retraining_config
from pipelines.runners.ir import compile_pipeline, read_ir

DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"
CROSSED = ["timeline.scheme=combinatorial", "timeline.groups=5"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The training pipelines of the demo, with the walk-forward alone and with a cross-validation."""
    folder = tmp_path_factory.mktemp("compiled")
    return {
        name: compile_pipeline("training", load_config(DEMO, given), folder / f"{name}.yaml")
        for name, given in {"plain": [], "crossed": CROSSED}.items()
    }


def tasks(path) -> dict[str, dict]:
    """The tasks of a compiled pipeline by their titles."""
    documents = read_ir(path)
    dags = [documents[0]["root"], *documents[0]["components"].values()]
    found = (task for one in dags if "dag" in one for task in one["dag"]["tasks"].values())
    return {task["taskInfo"]["name"]: task for task in found}


def timelines(path) -> dict[str, dict]:
    """What each task is told of the timeline, by its title."""
    given = {
        name: task.get("inputs", {}).get("parameters", {}).get("timeline")
        for name, task in tasks(path).items()
    }
    return {name: json.loads(text["runtimeValue"]["constant"]) for name, text in given.items() if text}


def test_one_task_more_and_the_backtest_reads_it(compiled):
    plain, crossed = (tasks(path) for path in compiled.values())
    assert set(crossed) - set(plain) == {"stack of the cross-validation"}
    given = crossed["backtest"]["inputs"]["artifacts"]["crossed"]
    assert given["taskOutputArtifact"]["producerTask"] == "stack-splits"
    assert "crossed" not in plain["backtest"]["inputs"]["artifacts"]


def test_the_verdicts_tasks_are_told_the_same_with_and_without_it(compiled):
    """So that the cache answers them, and none of them can see a split."""
    plain, crossed = (timelines(path) for path in compiled.values())
    own = {name for name in crossed if "scheme" in crossed[name]}
    assert own == {name for name in crossed if name.startswith("train ")} | {"stack of the cross-validation"}
    for name in ("stack", "backtest", "drift reference"):
        assert plain[name] == crossed[name]


def test_stages_are_told_the_embargo_as_a_number():
    config = load_config(DEMO, ["timeline.embargo_bars=null", "labels.horizons=[1, 5, 7]", *CROSSED])
    assert json.loads(walk_json(config))["embargo_bars"] == 4
    assert json.loads(timeline_json(config)) == {
        **json.loads(walk_json(config)),
        "scheme": "combinatorial",
        "groups": 5,
    }


def test_a_retraining_walks_forward_only():
    config = load_config(DEMO, ["retraining.fold_bars=21", *CROSSED])
    assert retraining_config(config).timeline == load_config(DEMO, ["timeline.fold_bars=21"]).timeline
