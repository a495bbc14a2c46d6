"""Tasks of a local run in containers: the engine, the image, and the folders that tasks see under the same
paths as this machine does.
"""

import glob
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError
from components.image import IMAGE
from pipelines.code_version import task_sources
from pipelines.config import Config

FOLDER_LABEL = "alphaloop.run_folder"
# What tasks are told of this process's environment, by prefix.
PASSED_ON = ("ALPHALOOP_", "MLFLOW_", "AWS_", "TMPDIR")
SHARED_MEMORY = "1g"
ASK_TIMEOUT_S = 5
# Registry, path of lower-case names, tag, digest, as every registry has them.
IMAGE_NAME = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][\w.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?"
)
# Tasks hold to what clusters demand: no rights, and nothing to write to but what is mounted and /tmp.
CONFINED = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
ASK_SOURCES = ["python3", "-c", "from pipelines.code_version import task_sources; print(task_sources())"]


class ContainerError(AlphaloopError):
    """Tasks can't run in containers here."""


def find_image() -> str:
    """The id of the image that tasks run in, once it is known to hold the same stages as this process.

    Raises
    ------
    ContainerError
        If no engine answers, the image is missing (nothing is ever pulled), or it holds other sources.
    """
    import docker

    build = (
        "Build it from the repository's root: docker build -f infra/image/Dockerfile --target tasks-cpu -t"
        f" {IMAGE} ."
    )
    try:
        client = docker.from_env()
        try:
            image = client.images.get(IMAGE).id
            held = (
                client.containers.run(image, ASK_SOURCES, remove=True, network_mode="none").decode().strip()
            )
        finally:
            client.close()
    except docker.errors.ImageNotFound:
        raise ContainerError(
            f"The engine has no image {IMAGE}. {build} Or name another in ALPHALOOP_IMAGE."
        ) from None
    except docker.errors.ContainerError as error:
        raise ContainerError(
            f"Image {IMAGE} can't tell which stages it holds"
            f" ({_last_line(error.stderr.decode(errors='replace'))}). {build}"
        ) from None
    except docker.errors.DockerException as error:
        place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise ContainerError(
            f"No Docker engine answers at {place} ({_last_line(error)}). Start it, set DOCKER_HOST, or leave"
            " out --runner docker."
        ) from None
    if held != task_sources():
        raise ContainerError(
            f"Image {IMAGE} holds other stages than this checkout: {held} there, {task_sources()} here."
            f" {build}"
        )
    return image


def require_image_name(image: str) -> None:
    """Refuse what no cluster could pull: its pods would wait for it until the run's deadline."""
    if not IMAGE_NAME.fullmatch(image):
        # What stands before an @ may be a password.
        shown = repr(image) if "@" not in image.partition("@sha256:")[0] else "what was given"
        raise ContainerError(
            f"{shown} is no name of an image. Write registry/repository:tag, or registry/repository@sha256:"
            " and 64 digits of its digest; a name has no capitals, and a registry's password belongs into an"
            " image pull secret of the cluster."
        )


def pinned_image(image: str) -> str:
    """`image` by the digest under which this machine's engine pushed or pulled it, so that pods of one
    pipeline never run different states of a tag; unchanged where that is not known here.

    Raises
    ------
    ContainerError
        If nothing can be pulled by this name.
    """
    import docker

    require_image_name(image)
    if "@" in image:
        return image
    try:
        client = docker.from_env(timeout=ASK_TIMEOUT_S)
        try:
            known = client.images.get(image).attrs["RepoDigests"]
        finally:
            client.close()
    except (docker.errors.DockerException, OSError):  # no engine here, or not this image
        return image
    path, _, name = image.rpartition("/")
    repository = f"{path}/{name.partition(':')[0]}".removeprefix("/")
    return next((pinned for pinned in known if pinned.partition("@")[0] == repository), image)


def docker_runner(folder: Path, config: Config, environment: Mapping[str, str]):
    """A `kfp.local.DockerRunner` whose containers belong to this user, see the run folder and the market
    data, use the host's network, and write what passes to the run's own folder for that: /tmp is memory.

    Containers that an earlier, killed run of the same folder left behind are removed first.
    """
    import docker
    from kfp import local

    remove_containers(folder)
    mounts = [docker.types.Mount(str(folder), str(folder), type="bind")]
    mounts += [
        docker.types.Mount(str(place), str(place), type="bind", read_only=True)
        for place in data_places(config, Path(os.environ["ALPHALOOP_DATA"]))
    ]
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) or name == config.feature_store.redis_variable
    }
    return local.DockerRunner(
        mounts=mounts,
        environment={**passed_on, **environment},
        user=f"{os.getuid()}:{os.getgid()}",
        network_mode="host",
        shm_size=SHARED_MEMORY,
        labels={FOLDER_LABEL: str(folder)},
        **CONFINED,
    )


def remove_containers(folder: Path) -> int:
    """Remove the containers that belong to a run folder, running or not; returns how many there were."""
    import docker

    client = docker.from_env()
    try:
        found = client.containers.list(all=True, filters={"label": f"{FOLDER_LABEL}={folder}"})
        for container in found:
            try:
                container.remove(force=True)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or going, by itself
                    raise
    finally:
        client.close()
    return len(found)


def data_places(config: Config, data: Path) -> list[Path]:
    """Existing folders and files that the market is read from: the data folder, and what the config names
    outside of it.
    """
    named = [config.market.path] if config.market.path else []
    named += [config.market.sectors.path] if config.market.sectors else []
    places = [data]
    for name in named:
        place = Path(os.path.abspath(data / name))
        while glob.has_magic(str(place)):
            place = place.parent
        if not any(place.is_relative_to(known) for known in places):
            places.append(place)
    return [place for place in places if place.exists()]


def run_container(
    client: Any,
    image: str,
    command: list[str],
    volumes: dict[str, Any],
    take: Callable[[str], None],
    **arguments: Any,
) -> int:
    """Run one task's container to its end, pass its output on to `take`, and return its exit code.

    It replaces kfp's own function, which lets the engine remove the container: where that is quicker than the
    question for the exit code, a task that failed counts there as one that succeeded.
    """
    container = client.containers.run(image=image, command=command, volumes=volumes, detach=True, **arguments)
    try:
        for chunk in container.logs(stream=True):
            take(chunk.decode(errors="replace"))
        return container.wait()["StatusCode"]
    finally:
        container.remove(force=True)


def _last_line(message: Exception | str) -> str:
    return (str(message).strip().splitlines() or [type(message).__name__])[-1]
