"""Which code a task runs: a hash over the modules and files that its door reaches, and the packages that they
import.

It is an argument of every cached task, so a changed stage is never answered from the cache and an unchanged
one always is. kfp's own key holds the source of the door besides.
"""

import hashlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Protocol

from packaging.requirements import Requirement

from components.processes.sources import (
    FLOORS,
    MODULES_VARIABLE,
    SOURCES_VARIABLE,
    module_version,
    package_files,
    task_sources,
)
from pipelines.reach import Reach, Source, has_page_output, own_modules, reach_of, read_source

ROOT = Path(__file__).parent.parent
# Where tasks run in containers: the image's id, which stands for all that is installed there.
IMAGE_ID_VARIABLE = "ALPHALOOP_TASK_IMAGE_ID"
# What carries a task, or a piece of one, from here to there changes nothing in what it computes.
CARRIERS = ("kfp", "kfp-kubernetes", "kfp-pipeline-spec", "kfp-server-api", "ray")
OURSELVES = "alphaloop"
PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"


class Door(Protocol):
    """A component of KFP made from a function."""

    python_func: Callable


@dataclass(frozen=True)
class Installed:
    """A distribution: version, what it requires, and the top names that can be imported from it."""

    version: str
    requires: tuple[str, ...]
    provides: frozenset[str]


def code_version(door: Door, *modules: str) -> str:
    """Hash, 16 hex digits, of the code that a door's task runs.

    Counted are our own modules that the door reaches through imports, without docstrings and comments; the
    templates, styles and scripts that they use; Python's minor version, the packages that they import, and
    what those require.

    Code of pages (modules named `page`, `components.page`, and their files) counts only for a door that has a
    page among its outputs. A task without one may still draw a page before it fails; but a task that failed
    is never answered from the cache, and what one that succeeded handed on does not depend on how pages look.
    So an edited style renews pages, and no table that models are made of.

    Parameters
    ----------
    modules : what the task loads by a name that only its settings tell. Of a module that is not ours, all
        files of its package count, and what they reach of ours.
    """
    return version_at(ROOT, door.python_func.__module__, door.python_func.__name__, modules)


@cache
def version_at(root: Path, module: str, function: str, modules: tuple[str, ...] = ()) -> str:
    """As `code_version`, for a function of a module below `root`."""
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    foreign = [name for name in modules if name.partition(".")[0] not in FLOORS]
    reach = door_reach(root, module, function, modules)
    digest = hashlib.sha256(read_source(path, function).digest.encode())
    own = own_modules_of(root)
    for name in reach.modules:
        digest.update(f"{name}={read_source(own[name]).digest}\n".encode())
    for name in reach.resources:
        digest.update(f"{name}={hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    digest.update("".join(map(module_version, foreign)).encode())
    digest.update(_environment(reach.packages).encode())
    return digest.hexdigest()[:16]


def door_reach(root: Path, module: str, function: str, modules: tuple[str, ...] = ()) -> Reach:
    """What counts in the version of a door's task, as names."""
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    foreign = [name for name in modules if name.partition(".")[0] not in FLOORS]
    starts = [read_source(path, function), *(source for name in foreign for source in _sources(name))]
    return reach_of(root, starts, modules, pages=has_page_output(path, function))


@cache
def own_modules_of(root: Path) -> dict[str, Path]:
    """`own_modules`, read once."""
    return own_modules(root)


def compiled_code(modules: Iterable[str]) -> dict[str, str]:
    """Environment that has each task check that it runs the code that is here: our sources, and `modules` of
    the user's own (`components.processes.sources.require_compiled_code`).
    """
    versions = " ".join(f"{name}={module_version(name)}" for name in sorted(set(modules)))
    return {SOURCES_VARIABLE: task_sources(), **({MODULES_VARIABLE: versions} if versions else {})}


def _sources(name: str) -> list[Source]:
    return [read_source(path) for path, _ in package_files(name) if path.suffix == ".py"]


@cache
def _environment(packages: tuple[str, ...]) -> str:
    """The image that tasks run in, or Python and the distributions behind `packages` with their versions."""
    if IMAGE_ID_VARIABLE in os.environ:
        return os.environ[IMAGE_ID_VARIABLE]
    installed = _installed()
    versions = [f"{name}=={installed[name].version}" for name in required(packages)]
    return "\n".join([PYTHON, *versions])


def required(packages: Iterable[str]) -> list[str]:
    """Names, sorted, of the installed distributions that the packages, known by what is imported, come from,
    and of those that these require; what only carries tasks is left out.
    """
    installed, extras = _installed(), _extras()
    wanted = set(packages)
    waiting = [name for name, one in installed.items() if one.provides & wanted]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found and name in installed and name not in (*CARRIERS, OURSELVES):
            found.add(name)
            waiting += _needs(installed[name].requires, frozenset(extras.get(name, {""})))
    return sorted(found)


@cache
def _needs(requires: tuple[str, ...], extras: frozenset[str]) -> list[str]:
    """Canonical names of the requirements that hold here, with the extras that we ask for; found once, for
    every task asks for those of most that is installed.
    """
    parsed = map(Requirement, requires)
    return [
        _canonical(one.name)
        for one in parsed
        if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    ]


@cache
def _installed() -> dict[str, Installed]:
    """What is installed, by canonical name; of one that is found twice the first, which is imported."""
    found: dict[str, Installed] = {}
    for one in distributions():
        about = _headers(one.read_text("METADATA") or one.read_text("PKG-INFO") or one.read_text("") or "")
        if not about["Name"]:  # what a removal left
            continue
        name = _canonical(about["Name"][0])
        if name not in found:
            found[name] = Installed(about["Version"][0], (*about["Requires-Dist"],), _provides(one))
    return found


def _headers(text: str) -> Mapping[str, list[str]]:
    """What a distribution says about itself, by name: the lines before its description. Python's own reader,
    that of letters, takes ten times as long, for it reads the descriptions too.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for line in text.partition("\n\n")[0].replace("\n ", " ").splitlines():
        name, separator, value = line.partition(": ")
        if separator:
            found[name].append(value.strip())
    return found


def _provides(one: Distribution) -> frozenset[str]:
    """Top names of a distribution: those that it declares, else those of its files."""
    declared = (one.read_text("top_level.txt") or "").split()
    files = () if declared else (line.split(",")[0] for line in (one.read_text("RECORD") or "").splitlines())
    return frozenset(declared or (file.split("/")[0].partition(".")[0] for file in files))


@cache
def _extras() -> dict[str, set[str]]:
    """Extras by distribution as our own requirements name them, always with none."""
    ours = _installed().get(OURSELVES)
    parsed = [Requirement(text) for text in (ours.requires if ours else ())]
    return {_canonical(one.name): {"", *one.extras} for one in parsed}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
