"""A task runs the code that its pipeline was compiled with, or says at once that its image holds other."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from components.processes import sources
from pipelines.code_version import compiled_code

ROOT = Path(__file__).parents[2]
TASK = (
    "from components.progress import stage\n"
    "with stage('ingest'):\n    print('worked')\n"
    "with stage('a second one'):\n    print('and on')\n"
)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What an image holds: a copy of our sources, without what only a checkout has."""
    place = tmp_path_factory.mktemp("image")
    for floor in sources.FLOORS:
        shutil.copytree(ROOT / floor, place / floor, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return place


@pytest.fixture
def modules(tmp_path, monkeypatch) -> Path:
    """A folder on this process's path with a module and a package of the user's own."""
    folder = tmp_path / "mine"
    (folder / "my_package").mkdir(parents=True)
    (folder / "my_expert.py").write_text("class Expert:\n    pass\n")
    (folder / "my_package" / "__init__.py").write_text("")
    (folder / "my_package" / "expert.py").write_text("class Expert:\n    pass\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def task(image: Path, environment: dict[str, str], modules: Path | None = None):
    """Run a task in the image, and `modules` installed there, with what the compiled pipeline tells it."""
    path = os.pathsep.join(map(str, [image, *([modules] if modules else [])]))
    events = image / "events.jsonl"
    events.unlink(missing_ok=True)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("ALPHALOOP_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", TASK],
        env={**bare, "PYTHONPATH": path, "ALPHALOOP_EVENTS": str(events), **environment},
        cwd=image,
        capture_output=True,
        text=True,
        check=False,
    )
    failed = [
        event for event in map(json.loads, events.read_text().splitlines()) if event["event"] == "failed"
    ]
    return done, failed


def test_a_task_runs_where_the_image_holds_what_was_compiled(image, modules):
    done, failed = task(image, compiled_code(["my_expert", "my_package.expert"]), modules)
    assert (done.returncode, done.stdout, failed) == (0, "worked\nand on\n", [])


def test_a_task_that_no_compiled_pipeline_started_runs(image):
    assert task(image, {})[0].stdout == "worked\nand on\n"


@pytest.mark.parametrize("name", ["components/market/load.py", "feature_repo/definitions.py"])
def test_an_image_with_another_source_is_refused_before_anything_is_done(image, name):
    path = image / name
    kept = path.read_bytes()
    path.write_bytes(kept + b"# another state\n")
    try:
        done, failed = task(image, {**compiled_code([]), "ALPHALOOP_IMAGE": "registry.example/alphaloop:1"})
    finally:
        path.write_bytes(kept)
    assert done.returncode != 0
    assert "worked" not in done.stdout
    (failure,) = failed
    assert (failure["stage"], failure["mendable"]) == ("ingest", True)
    said = failure["message"]
    assert said.startswith(
        "Image registry.example/alphaloop:1 holds other code than this pipeline was compiled with: "
    )
    assert f"{sources.task_sources()} in the pipeline" in said
    assert "Build the image anew" in said
    assert "compile again" in said


def test_an_image_without_the_module_of_a_leaf_is_refused_with_how_to_add_it(image, modules):
    done, (failure,) = task(image, compiled_code(["my_expert"]))
    assert "worked" not in done.stdout
    assert "has no module 'my_expert'" in failure["message"]
    assert "COPY my_expert.py /opt/modules/" in failure["message"]


@pytest.mark.parametrize(
    "changed", ["my_package/expert.py", "my_package/__init__.py", "my_package/weights.json"]
)
def test_an_image_with_another_state_of_a_module_is_refused(image, modules, changed, tmp_path):
    environment = compiled_code(["my_expert", "my_package.expert"])
    other = shutil.copytree(modules, tmp_path / "other")
    with (other / changed).open("a") as handle:
        handle.write("{}\n")
    done, (failure,) = task(image, environment, other)
    assert "worked" not in done.stdout
    assert "holds another state of the module 'my_package.expert'" in failure["message"]
    assert "COPY my_package /opt/modules/my_package" in failure["message"]


def test_what_only_a_checkout_has_changes_nothing(image, modules):
    """Compiled files, hidden ones and what an editor leaves are in no image."""
    environment = compiled_code(["my_package.expert"])
    for folder in (image / "components" / "market", modules / "my_package"):
        (folder / ".cache").mkdir()
        for name in (".DS_Store", ".cache/x.py"):
            (folder / name).write_text("x")
    (image / "components" / "market" / "load.py.orig").write_text("x")
    done, failed = task(image, environment, modules)
    assert (done.returncode, failed) == (0, [])


def test_what_is_hashed_is_what_is_installed():
    """Another kind of file would be in a checkout and in no image, or change an image unseen."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = {pattern.removeprefix("*") for pattern in project["tool"]["setuptools"]["package-data"]["*"]}
    assert installed | {".py"} == sources.INSTALLED
    tracked = subprocess.run(
        ["git", "ls-files", *sources.FLOORS], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert {Path(name).suffix for name in tracked} <= sources.INSTALLED


def test_folders_are_read_once_a_process():
    sources._folder_hash.cache_clear()
    first = sources.task_sources()
    read = sources._folder_hash.cache_info().misses
    assert read > 0
    assert sources.task_sources() == first
    assert sources._folder_hash.cache_info().misses == read
