"""Compiles pipelines to IR and submits them to a Kubeflow Pipelines cluster."""

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from components.contracts import AlphaloopError, atomic_path
from pipelines.config import Config

TOKEN_VARIABLE = "ALPHALOOP_KFP_TOKEN"
# Readers of YAML 1.1 turn these names into booleans.
BOOLEAN_NAMES = {"n", "y", "no", "yes", "on", "off", "true", "false"}


class ClusterError(AlphaloopError):
    """A pipeline can't be compiled for, or handed to, a cluster."""


def compile_pipeline(name: str, config: Config, output: Path, *, image: str | None = None) -> Path:
    """Write the IR of pipeline `name` to `output`, atomically, and return the path.

    Raises
    ------
    ClusterError
        For an unknown pipeline, or where a parameter is named such that a YAML 1.1 reader takes it for a boolean.
    """
    from kfp import compiler

    from pipelines.build import PIPELINES, build_pipeline
    from pipelines.training import resolve_folder

    if name not in PIPELINES:
        raise ClusterError(f"There is no pipeline {name!r}. Choose one of: {', '.join(PIPELINES)}.")
    pipeline = build_pipeline(name, config, folder=resolve_folder(config), local=not config.cluster.volume_claim)
    with atomic_path(output) as temporary:
        holder = temporary.with_suffix(".yaml")
        compiler.Compiler().compile(pipeline, str(holder))
        documents = list(yaml.safe_load_all(holder.read_text(encoding="utf-8")))
        _check_names(documents[0])
        if image:
            for executor in documents[0]["deploymentSpec"]["executors"].values():
                executor["container"]["image"] = image
        holder.unlink()
        temporary.write_text(yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8")
    return output


def graph(path: Path) -> dict[str, Any]:
    """The wiring of a compiled pipeline without sources, settings and hashes: what a golden file holds.

    For each task: component, what each input comes from, what it waits for, cache, and the resources of its executor.
    """
    document = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    executors = document["deploymentSpec"]["executors"]
    components = document["components"]
    graphs = {"root": document["root"]["dag"], **{name: c["dag"] for name, c in components.items() if "dag" in c}}
    return {name: {task: _wiring(spec, components, executors) for task, spec in sorted(dag["tasks"].items())} for name, dag in graphs.items()}


def submit_pipeline(name: str, config: Config, *, host: str | None = None, image: str | None = None) -> str:
    """Compile `name` and start a run of it; returns what to tell the user: the run's id and address.

    Raises
    ------
    ClusterError
        If no host is known, or the server refuses or does not answer.
    """
    import urllib3
    from kfp import Client
    from kfp_server_api import ApiException

    address = host or config.cluster.host
    if not address:
        raise ClusterError("No cluster is known. Give --host http://..., or set cluster.host in the config.")
    with tempfile.TemporaryDirectory() as scratch:
        package = compile_pipeline(name, config, Path(scratch) / f"{name}.yaml", image=image)
        try:
            client = Client(host=address, existing_token=os.environ.get(TOKEN_VARIABLE))
            experiment = client.create_experiment(config.cluster.experiment)
            started = client.create_run_from_pipeline_package(str(package), run_name=f"{config.run.name} {name}", experiment_id=experiment.experiment_id, enable_caching=None)
        except ApiException as error:
            raise ClusterError(f"{address} refused the {name} pipeline: {error.status} {error.reason}. {_short(error.body)} A token is read from {TOKEN_VARIABLE}.") from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ClusterError(f"{address} does not answer as a Kubeflow Pipelines API: {_short(str(error))} Check the address, or forward the port.") from error
    return f"Started {name} as run {started.run_id}: {address}/#/runs/details/{started.run_id}"


def _wiring(spec: dict, components: dict, executors: dict) -> dict[str, Any]:
    inputs = spec.get("inputs", {})
    component = spec["componentRef"]["name"]
    label = components[component].get("executorLabel")
    resources = executors[label]["container"].get("resources", {}) if label else {}
    return {
        "component": component,
        "title": spec["taskInfo"]["name"],
        "artifacts": {name: _origin(value) for name, value in sorted(inputs.get("artifacts", {}).items())},
        "parameters": sorted(inputs.get("parameters", {})),
        "after": sorted(spec.get("dependentTasks", [])),
        "cached": spec.get("cachingOptions", {}).get("enableCache", False),
        "accelerator": resources.get("accelerator", {}).get("resourceType"),
    }


def _origin(value: dict) -> str:
    source = value.get("taskOutputArtifact")
    return f"{source['producerTask']}.{source['outputArtifactKey']}" if source else value.get("componentInputArtifact", "")


def _check_names(document: dict) -> None:
    for name, component in {"pipeline": document["root"], **document["components"]}.items():
        for side in ("inputDefinitions", "outputDefinitions"):
            for parameter in component.get(side, {}).get("parameters", {}):
                if str(parameter).lower() in BOOLEAN_NAMES:
                    raise ClusterError(f"{name} has a parameter named {parameter!r}, which YAML 1.1 readers take for a boolean. Rename it.")


def _short(text: str | None, limit: int = 300) -> str:
    text = " ".join((text or "").split())
    return f"{text[:limit]}…" if len(text) > limit else text
