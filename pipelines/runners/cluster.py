"""Hands pipelines to a Kubeflow Pipelines cluster: compiled, uploaded as a version, and started from it."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.code_version import ROOT
from pipelines.config import Config
from pipelines.lasting import require_lasting
from pipelines.runners.ir import compile_pipeline, read_ir
from pipelines.runners.kubeflow_api import CONFLICT, NOT_FOUND, Kubeflow, Refused, connect

EXPERIMENTS, PIPELINES, UPLOADS, RUNS = (
    "ExperimentServiceApi",
    "PipelineServiceApi",
    "PipelineUploadServiceApi",
    "RunServiceApi",
)
# The server's limit of a version's name.
VERSION_CHARACTERS = 127
HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Uploaded:
    """A version of a pipeline that the server keeps, and the experiment under which its runs are listed."""

    pipeline_id: str
    version_id: str
    version: str
    experiment_id: str

    @property
    def reference(self) -> Any:
        """What a run or a schedule names it by."""
        import kfp_server_api

        return kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=self.pipeline_id, pipeline_version_id=self.version_id
        )


def submit_pipeline(name: str, config: Config, *, host: str | None = None, image: str | None = None) -> str:
    """Compile `name`, upload it where the server has not this very version yet, and start a run of it;
    returns what to tell the user: its title, id and address.

    Raises
    ------
    ClusterError
        If no host is known, or the server refuses or does not answer.
    WouldVanish
        If what the run makes would not last.
    """
    import kfp_server_api

    server = connect(config.cluster, host)
    require_lasting(config)
    uploaded = upload(server, name, config, image)
    title = run_title(name, config)
    run = kfp_server_api.V2beta1Run(
        display_name=title, pipeline_version_reference=uploaded.reference, **run_settings(uploaded, config)
    )
    started = server.call(RUNS, "run_service_create_run", run)
    return (
        f"Started {title!r} from version {uploaded.version} as run {started.run_id}:"
        f" {server.address}/#/runs/details/{started.run_id}"
    )


def run_settings(uploaded: Uploaded, config: Config) -> Mapping[str, Any]:
    """What a run and a schedule are told alike: experiment, service account, where artifacts go."""
    import kfp_server_api

    root = config.cluster.pipeline_root or None
    return {
        "experiment_id": uploaded.experiment_id,
        "service_account": config.cluster.service_account or None,
        "runtime_config": kfp_server_api.V2beta1RuntimeConfig(pipeline_root=root, parameters={}),
    }


def upload(server: Kubeflow, name: str, config: Config, image: str | None = None) -> Uploaded:
    """Compile `name` and see that the server has it as a version, named by its content: what is there
    already is not uploaded again.
    """
    with tempfile.TemporaryDirectory() as scratch:
        package = compile_pipeline(name, config, Path(scratch) / f"{name}.yaml", image=image)
        pipeline = read_ir(package)[0]["pipelineInfo"]["name"]
        content = hashlib.sha256(package.read_bytes()).hexdigest()[:HASH_CHARACTERS]
        # Some servers want a version's name to be the only one of its kind in the whole namespace.
        wanted = f"{pipeline[: VERSION_CHARACTERS - HASH_CHARACTERS - 1]}-{content}"
        experiment = experiment_id(server, config.cluster.experiment)
        pipeline_id = _pipeline_id(server, pipeline)
        found = _version_id(server, pipeline_id, wanted) or _upload(server, pipeline_id, wanted, package)
        return Uploaded(pipeline_id, found, wanted, experiment)


def find_experiment(server: Kubeflow, name: str) -> str | None:
    """The id of an experiment, None where there is none of that name."""
    listed = server.listed(
        EXPERIMENTS,
        "experiment_service_list_experiments",
        "experiments",
        filter=named(name),
        **server.scope,
    )
    return next((one.experiment_id for one in listed if one.display_name == name), None)


def experiment_id(server: Kubeflow, name: str) -> str:
    """The id of an experiment, which is made where there is none of that name."""
    import kfp_server_api

    found = find_experiment(server, name)
    if found:
        return found
    made = kfp_server_api.V2beta1Experiment(display_name=name, **server.scope)
    try:
        return server.call(EXPERIMENTS, "experiment_service_create_experiment", made).experiment_id
    except Refused as refused:
        return _made_by_another(refused, lambda: find_experiment(server, name))


def named(name: str) -> str:
    """A filter of listing calls: what bears this name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def run_title(name: str, config: Config) -> str:
    """A title by which runs can be told apart: what, when, of which code."""
    return f"{config.run.name} {name} {datetime.now(UTC):%Y-%m-%d %H:%M} UTC {code_name()}"


def code_name() -> str:
    """The commit of this checkout, `-dirty` behind it where files differ; of an installed copy its
    version.
    """
    asked_for = ("ls-files", "--error-unmatch", "pipelines/__init__.py")
    if _git(*asked_for) is None:
        return version("alphaloop")
    return _git("describe", "--always", "--dirty", "--exclude", "*", "--abbrev=7") or version("alphaloop")


def _pipeline_id(server: Kubeflow, name: str) -> str:
    import kfp_server_api

    def find() -> str | None:
        try:
            found = server.call(PIPELINES, "pipeline_service_get_pipeline_by_name", name, **server.scope)
        except Refused as refused:
            if refused.status != NOT_FOUND:
                raise
            return None
        return found.pipeline_id

    found = find()
    if found:
        return found
    made = kfp_server_api.V2beta1Pipeline(name=name, display_name=name, **server.scope)
    try:
        return server.call(PIPELINES, "pipeline_service_create_pipeline", made).pipeline_id
    except Refused as refused:
        return _made_by_another(refused, find)


def _version_id(server: Kubeflow, pipeline_id: str, name: str) -> str | None:
    listed = server.listed(
        PIPELINES,
        "pipeline_service_list_pipeline_versions",
        "pipeline_versions",
        pipeline_id,
        filter=named(name),
    )
    return next((one.pipeline_version_id for one in listed if one.display_name == name), None)


def _upload(server: Kubeflow, pipeline_id: str, name: str, package: Path) -> str:
    told = {"name": name, "pipelineid": pipeline_id, "description": f"Alphaloop {code_name()}"}
    try:
        return server.call(UPLOADS, "upload_pipeline_version", str(package), **told).pipeline_version_id
    except Refused as refused:
        return _made_by_another(refused, lambda: _version_id(server, pipeline_id, name))


def _made_by_another(refused: Refused, find: Callable[[], str | None]) -> str:
    """The id of what somebody else made between our question and our call; raises on where that is not why
    the server refused.
    """
    found = find() if refused.status == CONFLICT else None
    if found is None:
        raise refused
    return found


def _git(*arguments: str) -> str | None:
    """What git says of the folder that holds the sources; None where there is no git, or it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
