"""Compiling pipelines for a cluster: what of the config reaches the IR, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from components.image import IMAGE
from components.progress.notes import NOTES_VARIABLE
from components.settings import ConfigError
from pipelines.code_version import compiled_code
from pipelines.config import ClusterSettings, Config, load_config
from pipelines.graphs.arrange import Pods
from pipelines.graphs.build import PIPELINES, build_pipeline
from pipelines.graphs.research import ResearchError
from pipelines.graphs.retraining import RetrainingError, retraining_config
from pipelines.runners import ir
from pipelines.runners.containers import ContainerError
from pipelines.runners.ir import ClusterError, _check_names, compile_pipeline, graph, read_ir
from pipelines.task_environment import TASK_ENVIRONMENT
from pipelines.task_resources import BY_TASK, Resources, task_resources

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
DEMO = ROOT / "pipelines" / "configs" / "demo.yaml"


@pytest.fixture(scope="module")
def config():
    return load_config(DEMO)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles like `compile_pipeline`, each pipeline of a config once: `compiled("training", config)`."""
    folder, known = tmp_path_factory.mktemp("compiled"), {}

    def compiled_once(name, config):
        key = (name, config.model_dump_json())
        if key not in known:
            known[key] = compile_pipeline(name, config, folder / f"{len(known)}.yaml")
        return known[key]

    return compiled_once


@pytest.fixture(scope="module")
def documents(compiled):
    """What `compiled` writes, read once: `documents("training", config)`."""
    known = {}

    def read_once(name, config):
        path = compiled(name, config)
        if path not in known:
            known[path] = read_ir(path)
        return known[path]

    return read_once


@pytest.mark.parametrize("name", PIPELINES)
def test_the_compiled_graph_is_the_golden_one(name, compiled):
    """After a wanted change: python -m tests.pipelines.write_golden, and look at the diff."""
    found = graph(compiled(name, load_config(DEMO, ["selection.mode=quick"] if name == "selection" else [])))
    assert found == json.loads((GOLDEN / f"{name}.json").read_text())


def goals_of(documents):
    """The stages that the closing task of a compiled pipeline waits for."""
    tasks = documents[0]["root"]["dag"]["tasks"].values()
    (closing,) = (task for task in tasks if "goals" in task.get("inputs", {}).get("parameters", {}))
    return set(closing["inputs"]["parameters"]["goals"]["runtimeValue"]["constant"])


# What retraining ends with where it was decided, and what nothing waits for.
DECIDED, UNAWAITED = {"conclude", "report"}, {"data docs", "fusion page", "features"}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_run_ends_with_the_goals_of_its_closing_task_which_no_cache_answers(name, compiled):
    """Where such a task came from the cache, nobody could tell a whole run from one that never began."""
    settings = {
        "selection": ["selection.mode=quick"],
        "materialisation": ["run.store=s3://bucket/prefix", "feature_store.online=redis"],
    }
    documents = read_ir(compiled(name, load_config(DEMO, settings.get(name, []))))
    dags = [one["dag"]["tasks"] for one in documents[0]["components"].values() if "dag" in one]
    last, cached = set(), {}
    for tasks in dags:
        followed = {before for task in tasks.values() for before in task.get("dependentTasks", [])}
        last |= {task["taskInfo"]["name"] for key, task in tasks.items() if key not in followed}
        for task in tasks.values():
            cached[task["taskInfo"]["name"]] = task.get("cachingOptions", {}).get("enableCache", False)
    goals = goals_of(documents)
    assert not any(cached[goal] for goal in goals)
    assert goals <= {*last, "decide"}
    assert last - UNAWAITED - (DECIDED | {"retrain"} if name == "retraining" else set()) <= goals


def test_each_task_is_told_where_its_notes_go_and_of_which_run_it_is(compiled):
    documents = read_ir(compiled("materialisation", load_config(DEMO, ["cluster.volume_claim=shared"])))
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    named = [(one["name"], one["fieldPath"]) for executor in executors for one in executor["fieldPathAsEnv"]]
    assert set(named) == {("ALPHALOOP_RUN", "metadata.labels['pipeline/runid']")}
    assert len(named) == len(executors_of(documents))
    assert {environment["ALPHALOOP_NOTES"] for environment in environments_of(documents)} == {
        "/alphaloop/runs/demo/notes"
    }


def test_selection_that_is_off_is_refused(config, tmp_path):
    with pytest.raises(ResearchError, match=r"selection\.mode is off"):
        compile_pipeline("selection", config, tmp_path / "ir.yaml")


@pytest.mark.parametrize(
    ("name", "setting"),
    [("training", "selection.experts"), ("selection", "selection.experts"), ("mining", "mining.experts")],
)
def test_an_expert_that_is_not_trained_is_named_before_anything_runs(name, setting, tmp_path):
    with pytest.raises(ConfigError, match=rf"{setting} names the expert 'lightgbmm'.*lightgbm, median"):
        compile_pipeline(
            name, load_config(DEMO, ["selection.mode=quick", f"{setting}=[lightgbmm]"]), tmp_path / "ir.yaml"
        )
    compile_pipeline(
        name, load_config(DEMO, ["selection.mode=quick", f"{setting}=[lightgbm]"]), tmp_path / "ir.yaml"
    )


def test_image_volume_retries_and_gpu_reach_the_ir(tmp_path):
    config = load_config(DEMO, ["cluster.volume_claim=shared", "cluster.retries=1", "cluster.gpu=1"])
    documents = read_ir(
        compile_pipeline("training", config, tmp_path / "ir.yaml", image="example/alphaloop:1")
    )
    executors = documents[0]["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"example/alphaloop:1"}
    accelerators = [
        e["container"]["resources"].get("accelerator", {}).get("resourceType") for e in executors.values()
    ]
    assert accelerators.count("nvidia.com/gpu") == 1
    mounts = [
        m
        for e in documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
        for m in e["pvcMount"]
    ]
    assert {(m["constant"], m["mountPath"]) for m in mounts} == {("shared", "/alphaloop")}
    tasks = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert {t["retryPolicy"]["maxRetryCount"] for t in tasks.values()} == {1}
    assert tasks["find-source"].get("cachingOptions", {}) == {}
    assert tasks["ingest"]["cachingOptions"] == {"enableCache": True}


def executors_of(documents):
    return list(documents[0]["deploymentSpec"]["executors"].values())


def tasks_in(documents):
    """Every task of a compiled pipeline that runs something: those within the exit handler and it itself."""
    dags = [documents[0]["root"]["dag"]]
    dags += [one["dag"] for one in documents[0]["components"].values() if "dag" in one]
    runs = {name for name, one in documents[0]["components"].items() if "executorLabel" in one}
    return [task for dag in dags for task in dag["tasks"].values() if task["componentRef"]["name"] in runs]


def kubernetes_of(documents):
    """What the platform spec gives each task, by executor."""
    return documents[1]["platforms"]["kubernetes"].get("deploymentSpec", {}).get("executors", {})


def pipeline_config_of(documents):
    return documents[1]["platforms"]["kubernetes"]["pipelineConfig"]


def resources_of(documents, task):
    """Request of cores, limit of cores, request and limit of memory of a task."""
    found = documents[0]["deploymentSpec"]["executors"][f"exec-{task}"]["container"]["resources"]
    names = ("CpuRequest", "CpuLimit", "MemoryRequest", "MemoryLimit")
    return [found.get(f"resource{name}") for name in names]


def on_gpus(documents):
    """What the tasks that ask for a GPU ask for and how many, the labels and taints of their nodes."""
    return [
        (
            executor["container"]["resources"]["accelerator"]["resourceType"],
            executor["container"]["resources"]["accelerator"]["resourceCount"],
            kubernetes_of(documents).get(name, {}).get("nodeSelector", {}).get("labels"),
            kubernetes_of(documents).get(name, {}).get("tolerations"),
        )
        for name, executor in documents[0]["deploymentSpec"]["executors"].items()
        if "accelerator" in executor["container"]["resources"]
    ]


def mounts_of(documents):
    return [
        (mount["constant"], mount["mountPath"])
        for executor in kubernetes_of(documents).values()
        for mount in executor.get("pvcMount", [])
    ]


def environments_of(documents):
    """The environment of every task as the compiled graph says it."""
    return [
        {one["name"]: one["value"] for one in executor["container"].get("env", [])}
        for executor in executors_of(documents)
    ]


def secrets_of(documents):
    """For every task: its variables that come out of secrets, with secret and key."""
    return [
        {
            pair["envVar"]: (one["secretName"], pair["secretKey"])
            for one in executor.get("secretAsEnv", [])
            for pair in one["keyToEnv"]
        }
        for executor in kubernetes_of(documents).values()
    ]


TIMES_TO_LIVE = ("resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure")


def resources_of_row(task):
    row = BY_TASK[task]
    return [row.cpu, row.cpu_limit or None, row.memory, row.memory_limit]


# Setting: another value than the default, what else it needs, and what the compiled graph then says.
OF_THE_GRAPH = {
    "cluster.retries": (5, [], lambda ir: {t["retryPolicy"]["maxRetryCount"] for t in tasks_in(ir)} == {5}),
    "cluster.data_claim": (
        "bars",
        [],
        lambda ir: [name for name, _ in mounts_of(ir) if name == "bars"] == ["bars"] * 2,
    ),
    "cluster.data_path": (
        "/market",
        [],
        lambda ir: {one["ALPHALOOP_DATA"] for one in environments_of(ir)} == {"/market"},
    ),
    "cluster.environment": (
        "{MLFLOW_TRACKING_USERNAME: alphaloop}",
        [],
        lambda ir: {one.get("MLFLOW_TRACKING_USERNAME") for one in environments_of(ir)} == {"alphaloop"},
    ),
    "cluster.secrets": (
        "{A_PASSWORD: {secret: mlflow, key: password}, A_KEY: {secret: s3, key: secret-key}}",
        [],
        lambda ir: (
            secrets_of(ir)
            == [{"A_PASSWORD": ("mlflow", "password"), "A_KEY": ("s3", "secret-key")}] * len(executors_of(ir))
        ),
    ),
    "cluster.resources": (
        "{close-run: {cpu: 200m, memory: 300Mi}, stack: {cpu: 1.5, cpu_limit: 3, memory_limit: 1G}}",
        [],
        lambda ir: (
            resources_of(ir, "close-run") == ["200m", None, "300Mi", "300Mi"]
            and resources_of(ir, "stack") == ["1.5", "3", BY_TASK["stack"].memory, "1G"]
            and resources_of(ir, "ingest") == resources_of_row("ingest")
        ),
    ),
    "cluster.gpu": (1, [], lambda ir: [one[:3] for one in on_gpus(ir)] == [("nvidia.com/gpu", "1", None)]),
    "cluster.gpu_selector": (
        "{pool: gpus, arch: hopper}",
        [],
        lambda ir: [one[2] for one in on_gpus(ir)] == [{"pool": "gpus", "arch": "hopper"}],
    ),
    "cluster.gpu_tolerations": (
        "[{key: nvidia.com/gpu, effect: NoSchedule}, {key: a, operator: Equal, value: b}]",
        [],
        lambda ir: (
            [one[3] for one in on_gpus(ir)]
            == [
                [
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                    {"key": "a", "operator": "Equal", "value": "b"},
                ]
            ]
        ),
    ),
    "cluster.deadline_hours": (
        1.5,
        [],
        lambda ir: pipeline_config_of(ir)["activeDeadlineSeconds"] == 5400,
    ),
    "cluster.keep_days": (
        7,
        [],
        lambda ir: {pipeline_config_of(ir)[name] for name in TIMES_TO_LIVE} == {7 * 86400},
    ),
    "cluster.volume_claim": (
        "shared",
        [],
        lambda ir: mounts_of(ir) == [("shared", "/alphaloop")] * len(executors_of(ir)),
    ),
    "cluster.mount_path": (
        "/elsewhere",
        ["cluster.volume_claim=shared"],
        lambda ir: mounts_of(ir) == [("shared", "/elsewhere")] * len(executors_of(ir)),
    ),
    "experts.gpu": (
        "[lightgbm]",
        ["cluster.gpu=1"],
        lambda ir: (
            [name for name, e in ir[0]["deploymentSpec"]["executors"].items() if "accelerator" in str(e)]
            == ["exec-train-expert-4"]
        ),
    ),
    "experts.gpu_resource": (
        "amd.com/gpu",
        ["cluster.gpu=1"],
        lambda ir: "resourceType: amd.com/gpu" in yaml.safe_dump(ir),
    ),
}


# These say where a pipeline is submitted to, and stand in no graph.
OF_A_SUBMISSION = {
    f"cluster.{name}"
    for name in ("host", "experiment", "namespace", "service_account", "pipeline_root", "ca_file", "proxy")
}


def test_every_setting_of_a_cluster_is_tried_below():
    settings = {f"cluster.{name}" for name in ClusterSettings.model_fields}
    assert settings == {key for key in {*OF_THE_GRAPH, *OF_A_SUBMISSION} if key.startswith("cluster.")}


@pytest.mark.parametrize("beside", ["nothing else", "a volume"])
@pytest.mark.parametrize("setting", OF_THE_GRAPH)
def test_each_setting_of_a_cluster_is_in_the_compiled_graph_whatever_else_is_set(setting, beside, documents):
    value, needs, found = OF_THE_GRAPH[setting]
    others = [*needs, *(["cluster.volume_claim=shared"] if beside == "a volume" and not needs else [])]
    assert found(documents("training", load_config(DEMO, [*others, f"{setting}={value}"])))
    if not setting.endswith(beside.replace("a volume", "volume_claim")):
        assert not found(documents("training", load_config(DEMO, others)))


@pytest.mark.parametrize("name", ["training", "materialisation", "retraining", "mining"])
def test_retries_reach_every_task_of_every_pipeline(name, tmp_path):
    config = load_config(DEMO, ["cluster.retries=4"])
    tasks = tasks_in(read_ir(compile_pipeline(name, config, tmp_path / "ir.yaml")))
    assert len(tasks) > 4
    assert {task.get("retryPolicy", {}).get("maxRetryCount") for task in tasks} == {4}
    none = load_config(DEMO, ["cluster.retries=0"])
    tasks = tasks_in(read_ir(compile_pipeline(name, none, tmp_path / "ir.yaml")))
    assert not any("retryPolicy" in task for task in tasks)


@pytest.mark.parametrize("name", ["training", "materialisation", "retraining", "selection", "mining"])
def test_every_task_of_every_pipeline_has_its_environment_and_secrets(name, tmp_path):
    settings = [
        "selection.mode=quick",
        "cluster.data_path=/market",
        "cluster.environment={OMP_NUM_THREADS: 3, DO_NOT_TRACK: 'false'}",
        "cluster.secrets={AWS_SECRET_ACCESS_KEY: {secret: s3, key: secret-key}}",
    ]
    documents = read_ir(compile_pipeline(name, load_config(DEMO, settings), tmp_path / "ir.yaml"))
    wanted = {
        **TASK_ENVIRONMENT,
        "ALPHALOOP_DATA": "/market",
        "OMP_NUM_THREADS": "3",
        "DO_NOT_TRACK": "false",
        **compiled_code([]),
        "ALPHALOOP_IMAGE": IMAGE,
        NOTES_VARIABLE: "/tmp/alphaloop/demo/notes",
        "ALPHALOOP_MEMORY_SHARE": "0.7",
        "ALPHALOOP_ENGINE": "local",
    }
    found = environments_of(documents)
    assert len(found) > 4
    assert [one for one in found if one != wanted] == []
    assert secrets_of(documents) == [{"AWS_SECRET_ACCESS_KEY": ("s3", "secret-key")}] * len(found)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("cluster.environment={A-B: x}", r"cluster\.environment"),
        ("cluster.secrets={A: {secret: Mine, key: k}}", r"cluster\.secrets\.A\.secret"),
        ("cluster.secrets={A: {secret: mine}}", r"cluster\.secrets\.A\.key"),
        ("cluster.secrets={A: hunter2}", r"cluster\.secrets: A wants the Secret and the key"),
        ("cluster={environment: {A: x}, secrets: {A: {secret: s, key: k}}}", "both name A"),
    ],
)
def test_a_variable_that_no_pod_could_have_is_refused(setting, says):
    with pytest.raises(ConfigError, match=says):
        load_config(DEMO, [setting])


def test_a_pipeline_run_here_shows_its_first_failure(config):
    pipeline = build_pipeline("materialisation", config, folder="/run")
    assert "retry_policy" not in str(pipeline.pipeline_spec)
    assert "retry_policy" in str(
        build_pipeline(
            "materialisation", config, folder="/run", pods=Pods(data="/data", retries=1)
        ).pipeline_spec
    )
    assert "env {" not in str(pipeline.pipeline_spec)


def test_a_mount_path_without_a_volume_is_refused(tmp_path):
    with pytest.raises(ClusterError, match=r"cluster\.mount_path=/mine .* Set cluster\.volume_claim"):
        compile_pipeline("training", load_config(DEMO, ["cluster.mount_path=/mine"]), tmp_path / "ir.yaml")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("mount_path=x", r"cluster\.mount_path"),
        ("resources={stack: {memory_limit: lots}}", r"cluster\.resources\.stack\.memory_limit"),
        ("resources={stack: {memory: 8 GB}}", r"cluster\.resources\.stack\.memory"),
        ("resources={stack: {cpu: two}}", r"cluster\.resources\.stack\.cpu"),
        ("resources={stack: {memory: 2Gi, memory_limit: 1Gi}}", "memory=2Gi is more than memory_limit=1Gi"),
        ("resources={train_expert: {cpu: 1}}", "no task 'train_expert'.*Did you mean 'train-expert'"),
        ("gpu=2", r"cluster\.gpu"),
        ("gpu_tolerations=[{key: a, operator: Equal}]", "Equal wants key and value"),
        ("gpu_tolerations=[{key: a, effect: Never}]", r"cluster\.gpu_tolerations\.0\.effect"),
        ("deadline_hours=0", r"cluster\.deadline_hours"),
    ],
)
def test_what_kubernetes_does_not_read_is_refused_with_the_config(wrong, says):
    with pytest.raises(ConfigError, match=says):
        load_config(DEMO, [f"cluster.{wrong}"])


@pytest.mark.parametrize("right", ["memory=512Mi", "memory=8000000000", "cpu=1.5", "cpu=4"])
def test_a_request_may_be_a_number_or_text(right):
    name, _, value = right.partition("=")
    config = load_config(DEMO, [f"cluster.resources={{stack: {{{name}: {value}}}}}"])
    assert getattr(config.cluster.resources["stack"], name) == value


def test_a_request_over_the_measured_limit_raises_it_and_a_limit_below_the_request_lowers_that():
    assert task_resources("close-run", {}) == BY_TASK["close-run"]
    more = task_resources("train-expert", {"train-expert": Resources(memory="20Gi")})
    assert (more.memory, more.memory_limit) == ("20Gi", "20Gi")
    less = task_resources("train-expert", {"train-expert": Resources(memory_limit="300M")})
    assert (less.memory, less.memory_limit, less.cpu) == ("300M", "300M", BY_TASK["train-expert"].cpu)


@pytest.mark.parametrize("name", ["training", "materialisation", "retraining", "selection", "mining"])
def test_every_task_has_its_measured_row_and_a_cpu_cluster_is_asked_for_no_gpu(name, tmp_path):
    config = load_config(DEMO, ["selection.mode=quick"])
    documents = read_ir(compile_pipeline(name, config, tmp_path / "ir.yaml"))
    for label in documents[0]["deploymentSpec"]["executors"]:
        task = label.removeprefix("exec-").rstrip("-0123456789")
        assert resources_of(documents, label.removeprefix("exec-")) == resources_of_row(task)
    assert on_gpus(documents) == []
    shared = {name for name, one in kubernetes_of(documents).items() if "emptyDirMounts" in one}
    assert shared == {name for name in documents[0]["deploymentSpec"]["executors"] if "train-expert" in name}
    for executor in shared:
        (mount,) = kubernetes_of(documents)[executor]["emptyDirMounts"]
        assert (mount["mountPath"], mount["medium"], mount["sizeLimit"]) == ("/dev/shm", "Memory", "1Gi")


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        (["cluster.gpu=0", "cluster.gpu_selector={pool: gpus}"], False),
        (["cluster.gpu=auto", "cluster.gpu_selector={pool: gpus}"], True),
        (["cluster.gpu_tolerations=[{key: nvidia.com/gpu}]"], True),
        (["cluster.gpu=1"], True),
        ([], False),
    ],
)
def test_auto_asks_for_gpus_where_the_config_says_that_there_are_nodes_for_it(settings, asks):
    assert load_config(DEMO, settings).cluster.asks_for_gpus is asks


def test_a_task_that_took_longer_than_an_hour_is_tried_again_too(tmp_path):
    """Kubeflow tries nothing again that began longer ago than the longest wait."""
    documents = read_ir(compile_pipeline("training", load_config(DEMO), tmp_path / "ir.yaml"))
    waits = {task["retryPolicy"]["backoffMaxDuration"] for task in tasks_in(documents)}
    assert waits == {"2592000s"}
    assert load_config(DEMO).cluster.deadline_hours * 3600 < 2592000


def test_what_only_the_volume_knows_is_never_answered_from_a_clusters_cache(tmp_path):
    config = load_config(DEMO, ["cluster.volume_claim=shared"])
    documents = read_ir(compile_pipeline("training", config, tmp_path / "ir.yaml"))
    tasks = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert cached.isdisjoint({"find-source", "materialise"})
    assert {"ingest", "validate", "build-features", "make-training-set", "train-expert"} <= cached


def test_the_ir_is_the_same_file_without_libyaml(compiled, config, tmp_path, monkeypatch):
    fast = compiled("materialisation", config)
    documents = read_ir(fast)
    monkeypatch.setattr(ir, "LOADER", yaml.SafeLoader)
    monkeypatch.setattr(ir, "DUMPER", yaml.SafeDumper)
    slow = compile_pipeline("materialisation", config, tmp_path / "ir.yaml")
    assert slow.read_text() == fast.read_text()
    assert read_ir(slow) == documents


def test_names_that_yaml_reads_as_booleans_are_refused():
    good = {"root": {}, "components": {"comp-a": {"inputDefinitions": {"parameters": {"seed": {}}}}}}
    _check_names(good)
    for name in ("n", "y", "yes", "no", "on", "off", "true", "False"):
        bad = {"root": {}, "components": {"comp-a": {"inputDefinitions": {"parameters": {name: {}}}}}}
        with pytest.raises(ClusterError, match="take for a boolean"):
            _check_names(bad)


def test_an_image_that_none_can_pull_is_refused_before_anything_is_compiled(config, tmp_path):
    with pytest.raises(ContainerError, match="no name of an image"):
        compile_pipeline("training", config, tmp_path / "ir.yaml", image="Registry/A b")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_pipeline_is_named(config, tmp_path):
    with pytest.raises(ClusterError, match="Choose one of: training, materialisation, retraining"):
        compile_pipeline("trainng", config, tmp_path / "ir.yaml")
    assert list(tmp_path.iterdir()) == []


def test_a_retraining_whose_windows_do_not_grow_is_refused(tmp_path):
    fixed = ROOT / "pipelines" / "configs" / "us_equities.yaml"
    with pytest.raises(RetrainingError, match=r"timeline\.test\.end=2025-06-30 ends on a fixed day"):
        retraining_config(load_config(fixed))
    with pytest.raises(RetrainingError, match=r"timeline\.backtest\.end=2024-01-01"):
        compile_pipeline(
            "retraining", load_config(DEMO, ["timeline.backtest.end=2024-01-01"]), tmp_path / "ir.yaml"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_retraining_may_walk_in_shorter_folds():
    config = load_config(DEMO, ["retraining.fold_bars=21"])
    assert retraining_config(config).timeline.fold_bars == 21
    assert config.timeline.fold_bars == 75
    as_it_is = load_config(DEMO, ["retraining.fold_bars=null"])
    assert retraining_config(as_it_is) == as_it_is


def test_a_slow_column_named_like_a_factor_is_refused_with_the_config():
    fusion = {
        "tables": [
            {
                "name": "notes",
                "path": "notes.parquet",
                "release_lag_days": 1,
                "columns": [{"name": "momentum_20"}],
            }
        ]
    }
    with pytest.raises(ValidationError, match="the name 'momentum_20' is taken"):
        Config.model_validate({"fusion": fusion})
    fusion["tables"][0]["columns"][0] = {"name": "quality", "column": "momentum_20"}
    assert Config.model_validate({"fusion": fusion}).fusion.tables
