"""Which code a stage runs: a hash over its sources, the ground floor and the installed packages.

It is an argument of every task, so a changed stage is never answered from the cache and an unchanged one
always is.
"""

import hashlib
import importlib.util
import os
import platform
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
GROUND = ("contracts", "settings", "timeline", "metrics", "progress", "sizing", "scoring")
# Where tasks run in containers: the image's id, which stands for all that is installed there.
IMAGE_VARIABLE = "ALPHALOOP_TASK_IMAGE_ID"


def code_version(door, *modules) -> str:
    stage = door.python_func.__module__.split(".")[1]
    also = tuple("/".join(m.split(".")[:2]) for m in modules) + (
        ("feature_repo",) if stage == "feature_store" else ()
    )
    return _old(stage, also=also)


def _old(stage: str, *, also: tuple[str, ...] = ()) -> str:
    """Hash, 16 hex digits, of `components/<stage>`, the ground floor, further folders below the root, and the
    environment.
    """
    digest = hashlib.sha256(_environment().encode())
    for folder in (f"components/{stage}", *(f"components/{name}" for name in GROUND), *also):
        digest.update(_folder_hash(folder).encode())
    return digest.hexdigest()[:16]


def module_version(name: str | None) -> str:
    """Hash, 16 hex digits, of an expert's module that is not one of Alphaloop's own, with all of its package;
    empty for None.

    A package's other files count because the module may import them; what it imports from elsewhere does not.
    """
    if name is None:
        return ""
    top = importlib.util.find_spec(name.partition(".")[0])
    places = [Path(place) for place in top.submodule_search_locations or ([top.origin] if top.origin else [])]
    digest = hashlib.sha256(name.encode())
    for place in places:
        files = (
            [place]
            if place.is_file()
            else sorted(
                path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts
            )
        )
        for path in files:
            digest.update(path.relative_to(place.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def task_sources() -> str:
    """Hash, 16 hex digits, of every source that a task can import.

    An image that holds another hash runs other code.
    """
    return hashlib.sha256(
        "".join(_folder_hash(folder) for folder in ("components", "feature_repo")).encode()
    ).hexdigest()[:16]


@cache
def _folder_hash(folder: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def _environment() -> str:
    if IMAGE_VARIABLE in os.environ:
        return os.environ[IMAGE_VARIABLE]
    packages = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()})
    return "\n".join([platform.python_version(), *packages])
