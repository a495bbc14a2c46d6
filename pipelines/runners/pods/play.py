"""How a configuration for a cluster is played on one machine: which claims there are, which folders play
them, and the runner that kfp is given.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.image import IMAGE
from components.lasting.folder import below
from components.progress import report
from pipelines.code_version import compiled_code
from pipelines.compute_config import ComputeSettings
from pipelines.config import Config, data_folder
from pipelines.lasting import folder_of_store, lasting_folder, vanishing
from pipelines.leaves import users_modules
from pipelines.runners.containers import data_places
from pipelines.runners.ir import resolve_folder, write_ir
from pipelines.runners.pods.declared import Declared, PodError, read_declared
from pipelines.runners.pods.runner import Pods
from pipelines.runners.pods.volumes import Volumes

# The claim that the run folder plays where the config names none.
PLAYED_CLAIM, PLAYED_DATA_CLAIM = "alphaloop", "alphaloop-data"


@dataclass(frozen=True)
class Played:
    """The configuration that tasks get, the run's folder as they see it, what plays their volumes, and what a
    person should know of that.
    """

    config: Config
    folder: str
    volumes: Volumes
    note: str


def play(config: Config, run_folder: Path) -> Played:
    """The run folder plays the claim, under another path, and the data folder that of the data. Where all
    that must last has an address, there is no claim.
    """
    cluster = config.cluster
    claim = cluster.volume_claim or (PLAYED_CLAIM if vanishing(config) else "")
    data = data_folder().absolute()
    data_claim = (cluster.data_claim or PLAYED_DATA_CLAIM) if data.is_dir() else ""
    claims = {"volume_claim": claim, "data_claim": data_claim}
    # kfp.local's keys hold what a task is told, and `compute` is part of no key: `Pods.run_task` tells that.
    update = {"cluster": cluster.model_copy(update=claims), "compute": ComputeSettings()}
    config = config.model_copy(update=update)
    outside = [place for place in data_places(config, data) if place != data]
    readable = {str(place): place for place in outside}
    note = (
        f"{run_folder} plays the volume claim {claim!r}, which tasks see at {cluster.mount_path}; of the"
        " rest of this machine they see the installed packages and their inputs"
    )
    store = folder_of_store(config)
    if store and store.is_relative_to(cluster.mount_path):
        store = None  # it lies in the claim
    if store:
        note += f"; run.store, {store}, they see as it is, as one more volume"
    if not claim:
        note = "no volume: all that lasts has an address; of this machine tasks see the installed packages"
    folder = cluster.mount_path if claim else resolve_folder(config)
    volumes = Volumes(run_folder, {claim: run_folder, data_claim: data}, readable, store)
    return Played(config, folder, volumes, note)


def pipeline_in_pods(
    name: str,
    config: Config,
    run_folder: Path,
    *,
    scratch: Path,
    on_event: Callable[[dict[str, Any]], None],
) -> Any:
    """The pipeline `name` as it is compiled for a cluster, its tasks to be run in pods.

    Raises
    ------
    PodError, ClusterError
        If a task is to be given what is not there, or a cluster could not start it.
    """
    from kfp import components

    from pipelines.graphs.arrange import Pods as InPods
    from pipelines.graphs.build import build_pipeline

    played = play(config, run_folder)
    report("set-up", played.note)
    pods = InPods(
        data=played.config.cluster.data_path,
        notes=below(lasting_folder(played.config, played.folder), "notes"),
        code=compiled_code(users_modules(name, config)),
    )
    built = build_pipeline(name, played.config, folder=played.folder, pods=pods)
    ir = write_ir(built, scratch / f"{name}.yaml", IMAGE)
    pipeline = components.load_component_from_file(str(ir))
    play_pods(pipeline, played, run_folder, scratch / "pods", on_event)
    return pipeline


def play_pods(
    pipeline: Any, played: Played, run_folder: Path, scratch: Path, on_event: Callable[[dict[str, Any]], None]
) -> None:
    """Have kfp's subprocess runner run each task of a built pipeline in a pod.

    Raises
    ------
    PodError
        If a task is to be given what is not there.
    """
    from kfp.local import subprocess_task_handler

    declared = read_declared(pipeline)
    pods = Pods(
        run_folder / "artifacts",
        scratch,
        declared,
        played.volumes,
        find_secrets(declared, os.environ),
        on_event,
    )
    subprocess_task_handler.run_local_subprocess = pods.run_task


def find_secrets(declared: Mapping[str, Declared], environment: Mapping[str, str]) -> dict[str, str]:
    """Values of the secrets that tasks are given, from this process's own environment.

    Raises
    ------
    PodError
        If one that is not optional is missing there.
    """
    needed = {name for one in declared.values() for name in one.secrets}
    missing = sorted(needed - environment.keys())
    if missing:
        raise PodError(
            f"cluster.secrets gives tasks {', '.join(missing)}, and here it comes out of your own"
            f" environment, where it is not set. Set it: export {missing[0]}=..."
        )
    wanted = needed | {name for one in declared.values() for name in one.optional_secrets}
    return {name: environment[name] for name in wanted & environment.keys()}
