"""What the backend's drivers get as arguments: nothing is said twice, nothing is too long, and it is what the
tasks are meant to be told.
"""

import copy
import json
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from pydantic import ValidationError

from components.experts.leaves import Leaf, list_leaves
from components.fusion.columns import slow_columns
from components.settings import Section
from pipelines.config import LEAVES, Config, features_json, load_config, section_json
from pipelines.graphs.build import PIPELINES
from pipelines.leaves import resolve_leaves
from pipelines.runners import ir
from pipelines.runners.arguments import LONGEST_ARGUMENT, argument_bytes, say_once
from pipelines.runners.ir import ClusterError, compile_pipeline, read_ir

SHIPPED = sorted((Path(__file__).parents[2] / "pipelines" / "configs").glob("*.yaml"))
# Those of order books have a pipeline of their own.
CONFIGS = [path for path in SHIPPED if load_config(path).ticks is None]
DEMO = next(path for path in CONFIGS if path.stem == "demo")
TICKS_DEMO = next(path for path in SHIPPED if path.stem == "ticks_demo")
# Half of what Linux takes: configs grow.
GATE = 64 * 1024
EVERYTHING = [
    "selection.mode=quick",
    "cluster.volume_claim=alphaloop",
    "cluster.secrets={MLFLOW_TRACKING_PASSWORD: {secret: mlflow, key: password}}",
]


def longest(path: Path, *settings: str) -> Config:
    """A shipped config with as many leaves as a run may have, rich and neural ones first: they say most."""
    plain = load_config(path)
    leaves = [leaf for leaf in list_leaves(LEAVES) if leaf.split("/")[1] == plain.market.period]
    if not plain.fusion.tables:
        leaves = [leaf for leaf in leaves if not leaf.endswith("rich")]
    most = sorted(leaves, key=lambda leaf: (leaf.endswith("rich"), "tft" in leaf))[-8:]
    return load_config(path, [f"experts.leaves={json.dumps(most)}", *EVERYTHING, *settings])


# The others are parts of training, and us_equities says most: all pipelines of it, training of each config.
GATED = [*(("us_equities", name) for name in PIPELINES), *((path.stem, "training") for path in CONFIGS)]


@pytest.mark.parametrize(("stem", "name"), sorted({*GATED}))
def test_no_argument_of_a_shipped_config_is_over_the_gate_and_kfp_reads_the_file(stem, name, tmp_path):
    growing = ["timeline.test.end=null", "timeline.backtest.end=null"] if name == "retraining" else []
    config = longest(DEMO.with_stem(stem), *growing)
    documents = read_ir(compile_pipeline(name, config, tmp_path / "ir.yaml"))
    largest = argument_bytes(documents)
    assert largest.bytes <= GATE, largest
    json_format.ParseDict(documents[0], PipelineSpec())
    json_format.ParseDict(documents[1], PlatformSpec())
    kubernetes = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert kubernetes.keys() == documents[0]["deploymentSpec"]["executors"].keys()
    for settings in kubernetes.values():
        json_format.ParseDict(settings, KubernetesExecutorConfig())


def told(spec, within="root", given=None):
    """The constants that every task is told in the end, by its path."""
    components = {"root": spec["root"], **spec["components"]}
    found = {}
    for name, task in components[within].get("dag", {}).get("tasks", {}).items():
        parameters = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                parameters[key] = (given or {}).get(source["componentInputParameter"])
            else:
                parameters[key] = source.get("runtimeValue", {}).get("constant", source)
        found[f"{within}/{name}"] = {
            key: value for key, value in parameters.items() if not key.startswith("said--")
        }
        found |= told(spec, task["componentRef"]["name"], parameters)
    return found


@pytest.fixture(scope="module", params=["training", "retraining"])
def wordy(request, tmp_path_factory):
    """A compiled pipeline in which everything is said to each task."""
    path = tmp_path_factory.mktemp("wordy") / "ir.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ir, "say_once", lambda spec: None)
        return read_ir(compile_pipeline(request.param, longest(DEMO), path))


def test_every_task_is_told_the_same_when_things_are_said_once(wordy):
    long, short = wordy, copy.deepcopy(wordy)
    say_once(short[0])
    assert told(short[0]) == told(long[0])
    configs = [one["config"] for one in told(short[0]).values() if one.get("config")]
    assert len(configs) == str(long[0]).count(configs[0]) == 2
    assert str(short[0]).count(configs[0]) == 1
    assert argument_bytes(short).bytes < 0.7 * argument_bytes(long).bytes
    again = copy.deepcopy(short[0])
    say_once(again)
    assert again == short[0]
    _every_input_is_declared(short[0])


def _every_input_is_declared(spec):
    for component in spec["components"].values():
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        for task in component.get("dag", {}).get("tasks", {}).values():
            given = task.get("inputs", {}).get("parameters", {})
            inner = spec["components"][task["componentRef"]["name"]]
            assert given.keys() <= inner.get("inputDefinitions", {}).get("parameters", {}).keys()
            assert {
                one["componentInputParameter"]
                for one in given.values()
                if len(one) == 1 and "componentInputParameter" in one
            } <= declared.keys()


def pipeline_of(text: str, *, below: bool = True) -> list[dict]:
    """A pipeline of one task that is told `text`, inside a graph of its own or at the top."""
    task = {"componentRef": {"name": "comp-a"}, "inputs": {"parameters": {"settings": {}}}}
    task["inputs"]["parameters"]["settings"] = {"runtimeValue": {"constant": text}}
    inner = {"dag": {"tasks": {"a": task}}}
    outer = {"dag": {"tasks": {"inner": {"componentRef": {"name": "comp-inner"}}}}}
    return [
        {
            "root": outer if below else inner,
            "components": {"comp-a": {"executorLabel": "exec-a"}, **({"comp-inner": inner} if below else {})},
            "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "x"}}}},
        }
    ]


def test_bytes_are_those_of_the_backends_json():
    plain, odd = (
        argument_bytes(pipeline_of("x" * 900)),
        argument_bytes(pipeline_of('<&>"é' * 100 + "x" * 400)),
    )
    assert plain.name == "component of comp-inner"
    wanted = {"dag": {"tasks": pipeline_of("x" * 900)[0]["components"]["comp-inner"]["dag"]["tasks"]}}
    assert plain.bytes == len(json.dumps(wanted, separators=(",", ":"), sort_keys=True))
    assert odd.bytes - plain.bytes == 100 * (3 * 6 + 2 + 2) - 500


def test_a_pipeline_that_no_driver_could_take_is_refused_and_nothing_is_written(tmp_path):
    column = {"name": "", "column": "close", "normalisation": "zscore"}
    table = {"name": "wide", "path": "wide.parquet", "release_lag_days": 1}
    table["columns"] = [{**column, "name": f"a_slow_column_number_{number}"} for number in range(300)]
    wide = load_config(DEMO, [f"fusion.tables={json.dumps([table])}", *EVERYTHING])
    with pytest.raises(ClusterError, match=r"has 1\d\d,\d\d\d bytes.*131,071.*take out tables and columns"):
        compile_pipeline("training", wide, tmp_path / "ir.yaml")
    assert list(tmp_path.iterdir()) == []
    ir._check_arguments(pipeline_of("x" * (LONGEST_ARGUMENT - 200)))
    with pytest.raises(ClusterError, match="component of comp-inner"):
        ir._check_arguments(pipeline_of("x" * LONGEST_ARGUMENT))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_shipped_config_says_reads_back_equal(path):
    config = longest(path) if path in CONFIGS else load_config(path)
    for name in Config.model_fields:
        if getattr(config, name) is not None:
            _reads_back(getattr(config, name))
    for leaf in resolve_leaves(config):
        _reads_back(leaf)
        assert Leaf.model_validate_json(section_json(leaf)).settings == leaf.settings
    features = type(config.features).model_validate_json(features_json(config))
    assert [one.name for one in features.slow] == [one["name"] for one in slow_columns(config.fusion)]
    _reads_back(features)


def _reads_back(section: Section) -> None:
    """Types and all: 1, 1.0 and true are equal, and not the same setting."""
    again = type(section).model_validate_json(section_json(section))
    assert again == section
    assert again.model_dump_json() == section.model_dump_json()


def others(annotation, value):
    """Values that a field might take instead of `value`."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 2, value / 2, 0, 1]
    if isinstance(value, str):
        return [f"{value}x", "other", "", *get_args(annotation)]
    return [None, 1, 0.5, "other", (), {}, *(one for part in get_args(annotation) for one in get_args(part))]


def variants(section: Section):
    """The section with one setting another, for every setting in it and below."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from (section.model_copy(update={name: changed}) for changed in variants(value))
        for other in others(field.annotation, value):
            try:
                changed = type(section).model_validate({**section.model_dump(), name: other})
            except (ValidationError, TypeError):
                continue
            yield changed


@pytest.mark.parametrize("path", [DEMO, TICKS_DEMO], ids=lambda path: path.stem)
def test_settings_that_differ_from_the_defaults_read_back_equal(path):
    config, tried = load_config(path), 0
    # A run on bars has no section of ticks.
    for name in (name for name in Config.model_fields if getattr(config, name) is not None):
        for changed in variants(getattr(config, name)):
            try:
                type(changed).model_validate(changed.model_dump())
            except ValidationError:
                continue  # one that its section refuses
            _reads_back(changed)
            tried += 1
    assert tried > 500
