"""Compiles pipelines to KFP's IR for a cluster, and reads such files."""

from pathlib import Path
from typing import Any

import yaml

from components.contracts import AlphaloopError, atomic_path
from components.credentials import names_a_secret, require_no_credential
from components.image import IMAGE
from components.lasting.folder import below
from components.processes.sources import IMAGE_NAME_VARIABLE
from pipelines.cluster_config import ClusterSettings
from pipelines.code_version import compiled_code
from pipelines.config import Config
from pipelines.lasting import lasting_folder
from pipelines.leaves import users_modules
from pipelines.runners.arguments import LONGEST_ARGUMENT, argument_bytes, say_once
from pipelines.runners.containers import require_image_name

# libyaml is some ten times as fast; not every build of PyYAML has it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# No line is folded: libyaml and PyYAML's own writer fold at different places.
LINE_WIDTH = 1_000_000
# Readers of YAML 1.1 turn these names into booleans.
SCRATCH = Path("/tmp/alphaloop")
BOOLEAN_NAMES = {"n", "y", "no", "yes", "on", "off", "true", "false"}


class ClusterError(AlphaloopError):
    """A pipeline can't be compiled for, or handed to, a cluster."""


def compile_pipeline(name: str, config: Config, output: Path, *, image: str | None = None) -> Path:
    """Write the IR of pipeline `name` to `output`, atomically, and return the path.

    Raises
    ------
    ClusterError
        For an unknown pipeline, a setting of `cluster` that could have no effect, and as `write_ir` raises
        it.
    """
    from pipelines.graphs.arrange import Pods
    from pipelines.graphs.build import OF_TICKS, PIPELINES, build_pipeline

    known = (*PIPELINES, OF_TICKS)
    if name not in known:
        raise ClusterError(f"There is no pipeline {name!r}. Choose one of: {', '.join(known)}.")
    if "mount_path" in config.cluster.model_fields_set and not config.cluster.volume_claim:
        raise ClusterError(
            f"cluster.mount_path={config.cluster.mount_path} says where a volume is mounted, but no volume is"
            " named. Set cluster.volume_claim, or take mount_path out."
        )
    image = image or IMAGE
    require_image_name(image)
    folder = resolve_folder(config)
    pipeline = build_pipeline(
        name,
        config,
        folder=folder,
        pods=Pods(
            data=config.cluster.data_path,
            notes=below(lasting_folder(config, folder), "notes"),
            retries=config.cluster.retries,
            code={**compiled_code(users_modules(name, config)), IMAGE_NAME_VARIABLE: image},
        ),
    )
    return write_ir(pipeline, output, image, config.cluster)


def write_ir(pipeline: Any, output: Path, image: str, cluster: ClusterSettings | None = None) -> Path:
    """Write the IR of a built pipeline to `output`, atomically, and return the path; with `cluster` it says
    how long a run may last there, and for how long it is kept.

    Raises
    ------
    ClusterError
        Where a parameter is named such that a YAML 1.1 reader takes it for a boolean, or no cluster could
        start it.
    """
    from kfp import compiler

    with atomic_path(output) as temporary:
        holder = temporary.with_suffix(".yaml")
        compiler.Compiler().compile(pipeline, str(holder))
        documents = read_ir(holder)
        _check_names(documents[0])
        say_once(documents[0])
        for executor in documents[0]["deploymentSpec"]["executors"].values():
            executor["container"]["image"] = image
        holder.unlink()
        if cluster:
            _limit_the_run(documents, cluster)
        _check_arguments(documents)
        _check_credentials(documents)
        text = yaml.dump_all(documents, Dumper=DUMPER, sort_keys=True, width=LINE_WIDTH)
        temporary.write_text(text, encoding="utf-8")
    return output


def _limit_the_run(documents: list[dict[str, Any]], cluster: ClusterSettings) -> None:
    """Say how long the run may last, and for how long the cluster keeps its pods: after an end of any kind,
    because what a cluster says of success and failure alone stands above what is said of both.
    """
    if len(documents) == 1:
        documents.append({"platforms": {"kubernetes": {}}})
    kept = round(cluster.keep_days * 24 * 3600)
    documents[1]["platforms"]["kubernetes"]["pipelineConfig"] = {
        "activeDeadlineSeconds": round(cluster.deadline_hours * 3600),
        "resourceTtlOnCompletion": kept,
        "resourceTtlOnSuccess": kept,
        "resourceTtlOnFailure": kept,
    }


def read_ir(path: Path) -> list[dict[str, Any]]:
    """The documents of a compiled pipeline: its spec and, where it uses a volume, the platform's."""
    return list(yaml.load_all(path.read_text(encoding="utf-8"), LOADER))


def resolve_folder(config: Config) -> str:
    """The absolute run folder of a task: below the mounted volume, else a scratch folder of its own, where
    any user may write.
    """
    if config.cluster.volume_claim:
        return str(Path(config.cluster.mount_path) / config.run.folder)
    return str(SCRATCH / Path(config.run.folder).absolute().name)


def graph(path: Path) -> dict[str, Any]:
    """The wiring of a compiled pipeline without sources, settings and hashes: what a golden file holds.

    For each task: component, what each input comes from, what it waits for, cache, the resources of its
    executor, and its condition where it has one.
    """
    document = read_ir(path)[0]
    executors = document["deploymentSpec"]["executors"]
    components = document["components"]
    graphs = {
        "root": document["root"]["dag"],
        **{name: c["dag"] for name, c in components.items() if "dag" in c},
    }
    return {
        name: {task: _wiring(spec, components, executors) for task, spec in sorted(dag["tasks"].items())}
        for name, dag in graphs.items()
    }


def _wiring(spec: dict, components: dict, executors: dict) -> dict[str, Any]:
    inputs = spec.get("inputs", {})
    component = spec["componentRef"]["name"]
    label = components[component].get("executorLabel")
    resources = executors[label]["container"].get("resources", {}) if label else {}
    condition = spec.get("triggerPolicy", {}).get("condition")
    return {
        "component": component,
        "title": spec["taskInfo"]["name"],
        "artifacts": {name: _origin(value) for name, value in sorted(inputs.get("artifacts", {}).items())},
        "parameters": sorted(inputs.get("parameters", {})),
        "after": sorted(spec.get("dependentTasks", [])),
        "cached": spec.get("cachingOptions", {}).get("enableCache", False),
        "accelerator": resources.get("accelerator", {}).get("resourceType"),
        **({"condition": condition} if condition else {}),
    }


def _origin(value: dict) -> str:
    source = value.get("taskOutputArtifact")
    return (
        f"{source['producerTask']}.{source['outputArtifactKey']}"
        if source
        else value.get("componentInputArtifact", "")
    )


def _check_names(document: dict) -> None:
    for name, component in {"pipeline": document["root"], **document["components"]}.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for parameter in component.get(side, {}).get("parameters", {}):
                if str(parameter).lower() in BOOLEAN_NAMES:
                    raise ClusterError(
                        f"{name} has a parameter named {parameter!r}, which YAML 1.1 readers take for a"
                        " boolean. Rename it."
                    )


def _check_arguments(documents: list[dict[str, Any]]) -> None:
    largest = argument_bytes(documents)
    if largest.bytes > LONGEST_ARGUMENT:
        raise ClusterError(
            f"The cluster could not start this pipeline: the {largest.name} has {largest.bytes:,} bytes, and"
            f" Linux starts no program with an argument of more than {LONGEST_ARGUMENT:,}. Most of it is what"
            " the config says: take out tables and columns of fusion, overrides or leaves that the run can"
            " do without, or split it into two runs."
        )


def _check_credentials(documents: list[dict[str, Any]]) -> None:
    """Whoever may look at a run may read all of this."""
    require_no_credential(documents[0], "The compiled pipeline")
    require_no_credential(documents[1:], "The compiled pipeline")
    for task, executor in documents[0]["deploymentSpec"]["executors"].items():
        for variable in executor["container"].get("env", []):
            if names_a_secret(variable["name"]) and variable["value"]:
                raise ClusterError(
                    f"The compiled pipeline would say the value of {variable['name']} (in {task}). Name it in"
                    " cluster.secrets."
                )
