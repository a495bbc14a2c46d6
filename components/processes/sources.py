"""Which code this process can run, as hashes, and the check that it is the code that a pipeline was compiled
with: a pod runs what its image holds, whatever the checkout of whoever compiled.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from components.contracts.errors import AlphaloopError
from components.processes.imports import HOUSE, look_in_working_folder

# What a compiled pipeline tells its tasks: the hash of our sources, and `name=hash` of each module of the
# user's own; and the image that they were to run in.
SOURCES_VARIABLE = "ALPHALOOP_SOURCES"
MODULES_VARIABLE = "ALPHALOOP_MODULES"
IMAGE_NAME_VARIABLE = "ALPHALOOP_IMAGE"
# Folders of the sources that a task can import.
FLOORS = ("components", "feature_repo")
# What is installed of them; what else may lie in a checkout, no task can see.
INSTALLED = {".py", ".yaml", ".css", ".js", ".html"}
# Where the image finds modules of one's own.
MODULES_FOLDER = "/opt/modules"


class OtherCode(AlphaloopError):
    """A task would run other code than its pipeline was compiled with."""


@cache
def require_compiled_code() -> None:
    """Refuse to go on where this process holds other sources, or other modules of the user's own, than the
    pipeline that it is a task of was compiled with. Processes that no compiled pipeline started pass.

    Raises
    ------
    OtherCode
        With both hashes and how to bring image and pipeline together.
    """
    compiled = os.environ.get(SOURCES_VARIABLE)
    if compiled and compiled != task_sources():
        raise OtherCode(
            f"{_image()} holds other code than this pipeline was compiled with: {task_sources()} there,"
            f" {compiled} in the pipeline. Build the image anew from the checkout that compiles, push it as"
            " a tag of its own and name that with --image; or compile again from the checkout that"
            " the image was built from."
        )
    for entry in os.environ.get(MODULES_VARIABLE, "").split():
        name, _, version = entry.partition("=")
        _require_module(name, version)


def _require_module(name: str, compiled: str) -> None:
    top = name.partition(".")[0]
    how = (
        f"Add it with a Dockerfile of two lines, `FROM` that image and `COPY {top}.py {MODULES_FOLDER}/` (for"
        f" a package: `COPY {top} {MODULES_FOLDER}/{top}`), push the result and name it with --image."
    )
    if not package_files(name):
        raise OtherCode(f"{_image()} has no module {name!r}, which an expert of this pipeline is. {how}")
    held = module_version(name)
    if held != compiled:
        raise OtherCode(
            f"{_image()} holds another state of the module {name!r} than this pipeline was compiled with:"
            f" {held} there, {compiled} in the pipeline. {how} Or compile again where the module is the"
            " image's."
        )


def _image() -> str:
    name = os.environ.get(IMAGE_NAME_VARIABLE)
    return f"Image {name}" if name else "The image of this task"


def task_sources() -> str:
    """Hash, 16 hex digits, of every source that a task can import.

    An image that holds another hash runs other code.
    """
    return hashlib.sha256("".join(map(_folder_hash, FLOORS)).encode()).hexdigest()[:16]


def module_version(name: str) -> str:
    """Hash, 16 hex digits, of a module of the user's own with all of its package.

    A package's other files count because the module may read them.
    """
    digest = hashlib.sha256(name.encode())
    for path, place in package_files(name):
        digest.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def package_files(name: str) -> list[tuple[Path, Path]]:
    """Files of a module's package, or its one file, none where it is not found; each with the folder that
    names start at.
    """
    look_in_working_folder()
    top = importlib.util.find_spec(name.partition(".")[0])
    if top is None:
        return []
    places = [Path(place) for place in top.submodule_search_locations or ([top.origin] if top.origin else [])]
    return [
        (path, place.parent)
        for place in places
        for path in ([place] if place.is_file() else _seen(sorted(place.rglob("*")), place))
    ]


@cache
def _folder_hash(folder: str) -> str:
    digest = hashlib.sha256()
    for path in _seen(sorted((HOUSE / folder).rglob("*")), HOUSE):
        if path.suffix in INSTALLED:
            digest.update(path.relative_to(HOUSE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _seen(paths: Iterable[Path], below: Path) -> list[Path]:
    """The files among `paths`, without compiled and hidden ones."""
    return [
        path
        for path in paths
        if path.is_file()
        and not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(below).parts)
    ]
