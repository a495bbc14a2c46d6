"""The graph of a run on order books: its tasks, what each takes, and which code each cache key covers."""

import json
import re

import pytest

from components.contracts.documents.experts import SHARED_CODE_END
from pipelines import code_version as module
from pipelines.commands.options import CONFIGS
from pipelines.config import load_config
from pipelines.graphs import ticks
from pipelines.runners.ir import compile_pipeline, graph
from tests.pipelines.test_code_version import codes
from tests.pipelines.test_ir import GOLDEN

DEMO = CONFIGS / "ticks_demo.yaml"
DOORS = (
    *(ticks.ingest_ticks, ticks.validate_ticks, ticks.build_tick_features, ticks.audit_tick_features),
    *(ticks.build_tick_labels, ticks.make_tick_training_set, ticks.build_oof, ticks.replay_ticks),
    ticks.judge_ticks,
    ticks.register_ticks,
)


def golden_tick_keys() -> dict[str, dict[str, list[str]]]:
    """Modules and files in the cache key of each task."""
    found = {}
    for function in sorted((door.python_func for door in DOORS), key=lambda one: one.__name__):
        reached = module.door_reach(module.ROOT, function.__module__, function.__name__)
        found[function.__name__] = {"modules": list(reached.modules), "resources": list(reached.resources)}
    return found


@pytest.fixture(scope="module")
def config():
    return load_config(DEMO)


def test_the_compiled_graph_is_the_golden_one(config, tmp_path):
    """After a wanted change: python -m tests.pipelines.write_golden, and look at the diff."""
    found = graph(compile_pipeline("ticks", config, tmp_path / "ir.yaml"))
    assert found == json.loads((GOLDEN / "ticks.json").read_text())


def test_the_reach_of_each_task_is_the_golden_one():
    """After a wanted change: python -m tests.pipelines.write_golden, and look at the diff."""
    assert golden_tick_keys() == json.loads((GOLDEN / "cache_keys_ticks.json").read_text())


def test_the_code_of_each_task_is_the_version_of_its_own_door(config):
    own = {door.python_func.__name__: module.code_version(door) for door in DOORS}
    for task, (door, code) in codes(config, "ticks").items():
        if door.startswith("train_expert"):
            assert SHARED_CODE_END in code
        elif door != "gather":
            assert code == own.pop(door), task
    assert own == {}


def test_tasks_are_called_what_their_stages_say_of_themselves(config, tmp_path):
    """A run that hears of a stage of another name can't tell which of its tasks is meant."""
    tasks = graph(compile_pipeline("ticks", config, tmp_path / "ir.yaml"))["comp-exit-handler-1"]
    for door in (door.python_func for door in DOORS):
        folder = (module.ROOT / door.__module__.replace(".", "/")).parent
        sources = [source.read_text(encoding="utf-8") for source in folder.rglob("*.py")]
        stages = {name for source in sources for name in re.findall(r'with stage\("([^"]+)"\)', source)}
        assert tasks[door.__name__.replace("_", "-")]["title"] in stages
