"""What the IR of a pipeline declares for each task: what it may hold of memory, its environment, secrets and
volumes. A pod has this and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from components.contracts import AlphaloopError
from pipelines.runners.pods.memory import in_bytes

# What of kfp-kubernetes has no meaning on one machine, or is played elsewhere.
WITHOUT_EFFECT = {
    *("nodeSelector", "tolerations", "nodeAffinity", "podAffinity", "imagePullPolicy", "imagePullSecret"),
    *("podMetadata", "activeDeadlineSeconds", "securityContext"),
}
PLAYED = {"pvcMount", "secretAsEnv", "emptyDirMounts", "fieldPathAsEnv"}
# Where a pod says of which run it is; nothing else of a pod is known here.
RUN_FIELD = "metadata.labels['pipeline/runid']"


class PodError(AlphaloopError):
    """A task can't run here as its pod would."""


@dataclass(frozen=True)
class Claim:
    """A persistent volume claim and where a task sees it."""

    name: str
    mount_path: str
    sub_path: str = ""


@dataclass(frozen=True)
class EmptyFolder:
    """A folder that begins empty and ends with the pod; in memory, its size is in bytes."""

    mount_path: str
    in_memory: bool
    size: int | None


@dataclass(frozen=True)
class Declared:
    """What one task is given.

    `memory_limit` as the IR writes it, None where there is none; `secrets`: names of environment variables
    that come out of a secret; `run_names`: those that hold the run's name; `status`: name of the parameter
    that takes how the run ended.
    """

    title: str
    memory_limit: str | None
    accelerator: bool
    secrets: tuple[str, ...]
    optional_secrets: tuple[str, ...]
    run_names: tuple[str, ...]
    claims: tuple[Claim, ...]
    empty_folders: tuple[EmptyFolder, ...]
    status: str | None

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory_limit is None else in_bytes(self.memory_limit)


def read_declared(pipeline: Any) -> dict[str, Declared]:
    """What each task of a built kfp pipeline is given, by the name that its folder has under the pipeline's
    root.

    Raises
    ------
    PodError
        If a task is to be given what can't be played here.
    """
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    platform = json_format.MessageToDict(pipeline.platform_spec)
    kubernetes = (
        platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    )
    executors = spec["deploymentSpec"]["executors"]
    titles = {
        task["componentRef"]["name"]: task["taskInfo"]["name"]
        for component in (spec["root"], *spec["components"].values())
        for task in component.get("dag", {}).get("tasks", {}).values()
    }
    return {
        name.removeprefix("comp-"): _declared(
            titles[name],
            component,
            executors[component["executorLabel"]],
            kubernetes.get(component["executorLabel"], {}),
        )
        for name, component in spec["components"].items()
        if "executorLabel" in component
    }


def _declared(title: str, component: Mapping, executor: Mapping, platform: Mapping) -> Declared:
    unknown = sorted(platform.keys() - PLAYED - WITHOUT_EFFECT)
    if unknown:
        raise PodError(
            f"Task {title} is given {', '.join(unknown)} by its platform spec, which pods of this machine do"
            " not have. Run without --runner pods, or on a cluster."
        )
    resources = executor["container"].get("resources", {})
    optional, required = [], []
    for secret in platform.get("secretAsEnv", ()):
        names = [one["envVar"] for one in secret["keyToEnv"]]
        (optional if secret.get("optional") else required).extend(names)
    inputs = component.get("inputDefinitions", {}).get("parameters", {})
    status = [name for name, one in inputs.items() if one["parameterType"] == "TASK_FINAL_STATUS"]
    return Declared(
        title=title,
        memory_limit=resources.get("resourceMemoryLimit"),
        accelerator="accelerator" in resources,
        secrets=tuple(required),
        optional_secrets=tuple(optional),
        run_names=tuple(_run_name(title, one) for one in platform.get("fieldPathAsEnv", ())),
        claims=tuple(_claim(title, one) for one in platform.get("pvcMount", ())),
        empty_folders=tuple(_empty_folder(one) for one in platform.get("emptyDirMounts", ())),
        status=status[0] if status else None,
    )


def _run_name(title: str, given: Mapping) -> str:
    if given["fieldPath"] != RUN_FIELD:
        raise PodError(
            f"Task {title} is given {given['fieldPath']} of its pod as {given['name']}, which only a cluster"
            " knows."
        )
    return given["name"]


def _claim(title: str, mount: Mapping) -> Claim:
    if "constant" not in mount:
        raise PodError(f"Task {title} mounts a claim whose name is only known in a run of a cluster.")
    return Claim(mount["constant"], mount["mountPath"], mount.get("subPath", ""))


def _empty_folder(mount: Mapping) -> EmptyFolder:
    size = mount.get("sizeLimit")
    return EmptyFolder(mount["mountPath"], mount.get("medium") == "Memory", in_bytes(size) if size else None)
