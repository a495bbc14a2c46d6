"""What a cluster can answer from its cache: a task's key there holds the ids of its input artifacts and the
values of its parameters, so nothing behind an artifact of a task that always runs is ever answered.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.memory.share import SHARE_VARIABLE
from components.spread.choice import ENGINE_VARIABLES
from pipelines.config import load_config
from pipelines.graphs.build import PIPELINES
from pipelines.runners.ir import compile_pipeline, read_ir
from pipelines.runners.pods.play import play
from tests.pipelines.test_ir import DEMO

# Artifacts that a cached task takes from a task that always runs, each with the reason. There is none.
ARTIFACTS: dict[tuple[str, str], str] = {}
# The same of parameters: each is the same value as long as the content that it stands for is.
PARAMETERS = {
    ("ingest", "source"): "the content hash of the market data",
    ("fuse", "source"): "the content hash of the slow tables",
    ("make-training-set", "publication"): "the name of a publication, which is made of its content's hashes",
    ("train-expert", "token"): "that of the same training, where it ended well before",
}
SLOW = {
    "tables": [
        {
            "name": "slow",
            "path": "slow.csv",
            "observed": "day",
            "release_lag_days": 1,
            "columns": [{"name": "x"}],
        }
    ]
}
SETTINGS = [
    *("selection.mode=quick", "timeline.test.end=null", "timeline.backtest.end=null"),
    *("cluster.data_claim=bars", "run.store=s3://bucket/demo", "feature_store.online=redis"),
    f"fusion={json.dumps(SLOW)}",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    config = load_config(DEMO, SETTINGS)
    return {name: read_ir(compile_pipeline(name, config, folder / f"{name}.yaml"))[0] for name in PIPELINES}


Task = Mapping[str, Any]


def taken(spec: Mapping[str, Any]) -> Iterator[tuple[Task, str, str, Task]]:
    """Every input that a task takes from another: the task, `artifacts` or `parameters`, the input's name,
    and the task that hands it over, through all graphs that lie between.
    """
    components = {"root": spec["root"], **spec["components"]}

    def walk(graph: str, given: Mapping[tuple[str, str], Task]) -> Iterator[tuple[Task, str, str, Task]]:
        tasks = components[graph]["dag"]["tasks"]
        for task in tasks.values():
            inputs = {
                (kind, name): tasks[source[f"taskOutput{one}"]["producerTask"]]
                if f"taskOutput{one}" in source
                else given.get((kind, source.get(f"componentInput{one}")))
                for kind, one in (("artifacts", "Artifact"), ("parameters", "Parameter"))
                for name, source in task.get("inputs", {}).get(kind, {}).items()
            }
            inputs = {place: producer for place, producer in inputs.items() if producer is not None}
            if "dag" in components[task["componentRef"]["name"]]:
                yield from walk(task["componentRef"]["name"], inputs)
            else:
                yield from ((task, kind, name, producer) for (kind, name), producer in inputs.items())

    yield from walk("root", {})


def always_runs(task: Task) -> bool:
    return not task.get("cachingOptions", {}).get("enableCache", False)


def door(task: Task) -> str:
    return task["componentRef"]["name"].removeprefix("comp-").rstrip("-0123456789")


@pytest.mark.parametrize("name", PIPELINES)
def test_nothing_that_could_be_cached_stands_behind_a_task_that_always_runs(name, compiled):
    behind = {
        (kind, door(task), taken_as)
        for task, kind, taken_as, producer in taken(compiled[name])
        if not always_runs(task) and always_runs(producer)
    }
    allowed = {("artifacts", *one) for one in ARTIFACTS} | {("parameters", *one) for one in PARAMETERS}
    assert behind <= allowed
    if name == "training":
        assert behind == allowed, "take off the lists what no longer holds"


def test_the_walk_finds_an_artifact_of_a_task_that_always_runs_in_a_graph_below(compiled):
    """The fault that the test above is there for, planted behind the condition of a retraining."""
    spec = json.loads(json.dumps(compiled["retraining"]))
    drift = next(
        task
        for one in spec["components"].values()
        for task in one.get("dag", {}).get("tasks", {}).values()
        if door(task) == "validate"
    )
    drift["cachingOptions"] = {}
    behind = {
        (door(task), taken_as)
        for task, kind, taken_as, producer in taken(spec)
        if kind == "artifacts" and not always_runs(task) and always_runs(producer)
    }
    assert {("backtest", "panel"), ("make-training-set", "panel"), ("build-features", "panel")} <= behind


def test_what_reads_the_data_mounts_their_claim_and_nothing_else_does(tmp_path):
    config = load_config(DEMO, [*SETTINGS, "cluster.data_path=/bars"])
    documents = read_ir(compile_pipeline("training", config, tmp_path / "ir.yaml"))
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounts = {name: executor["pvcMount"] for name, executor in executors.items() if "pvcMount" in executor}
    assert set(mounts) == {"exec-find-source", "exec-find-slow-source", "exec-ingest", "exec-fuse"}
    assert {(one["constant"], one["mountPath"]) for (one,) in mounts.values()} == {("bars", "/bars")}


def lineages(*settings: str) -> dict[str, str]:
    """The lineage that the training pipeline names for each expert."""
    config = load_config(DEMO, [*SETTINGS, *settings])
    with tempfile.TemporaryDirectory() as scratch:
        spec = read_ir(compile_pipeline("training", config, Path(scratch) / "ir.yaml"))[0]
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    found = tasks["find-trained"]["inputs"]["parameters"]["lineages"]["runtimeValue"]["constant"]
    return dict(zip(config.experts.names.values(), found, strict=True))


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_a_training_is_another_one_where_anything_that_it_is_made_from_is():
    plain = lineages()
    assert len({*plain.values()}) == len(plain) == 5
    assert changed(plain, lineages()) == set()
    assert changed(plain, lineages("experts.overrides.lightgbm={rounds: 7}")) == {"lightgbm"}
    assert changed(plain, lineages("features.normalisation=zscore")) == {*plain}, "far before the training"
    assert changed(plain, lineages("selection.fewest_inputs=4")) == {*plain} - {"median"}
    assert changed(plain, lineages("gates.min_sharpe=9", "backtest.cost_bps_per_side=9")) == set()


def test_how_a_run_uses_its_machine_is_part_of_no_key(compiled, tmp_path):
    """A cluster's keys hold command, image and inputs; a task's environment is in none of them."""
    config = load_config(DEMO, [*SETTINGS, *COMPUTE])
    other = read_ir(compile_pipeline("training", config, tmp_path / "ir.yaml"))[0]
    told = [take_compute(spec) for spec in (compiled["training"], other)]
    ray = ("0.3", "ray", "ray://ray-head:10001")
    assert [set(heard) for _, heard in told] == [{("0.7", "local", None)}, {ray}]
    assert told[0][0] == told[1][0]


COMPUTE = ("compute.memory_share=0.3", "compute.engine=ray", "compute.address=ray://ray-head:10001")


def take_compute(spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str | None, ...]]]:
    """A compiled pipeline without what tasks are told of the machine's use, and that of each task."""
    rest, told = json.loads(json.dumps(spec)), []
    for executor in rest["deploymentSpec"]["executors"].values():
        environment = {one["name"]: one["value"] for one in executor["container"]["env"]}
        told.append(tuple(environment.pop(name, None) for name in (SHARE_VARIABLE, *ENGINE_VARIABLES)))
        executor["container"]["env"] = sorted(environment.items())
    return rest, told


def test_pods_of_this_machine_are_told_the_same_by_other_means(tmp_path):
    """kfp.local puts a task's environment into its key."""
    played = [play(load_config(DEMO, settings), tmp_path).config for settings in ((), COMPUTE)]
    assert played[0] == played[1]
