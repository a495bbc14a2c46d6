"""Each kind of process that we start, in a working folder with packages called like our own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.processes.imports import own_modules_only, python_module
from serving.processes.launch import _children
from tests.pipelines.small_run import COMMAND
from tests.processes.planted import SIGN, plant
from tests.serving.made_answers import make_plan

SPAWNING = """
import multiprocessing
from components.processes.endings import end_with_spawner

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=end_with_spawner)
    worker.start()
    worker.join()
    raise SystemExit(worker.exitcode)
"""
USERS = """
import sys
from components.processes.imports import users_module

found = users_module("my_package.my_expert")
import serving, feature_repo, pipelines.config  # noqa: E401
print(found.WORD, *(module.__file__ for module in (serving, feature_repo, pipelines)), sep="\\n")
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return plant(tmp_path / "mine")


def ran(command: list[str], folder: Path, environment=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment or own_modules_only(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_planted_packages_are_found_where_nothing_keeps_them_out(folder):
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    for name in ("components", "pipelines.config", "serving"):
        found = ran([sys.executable, "-m", name], folder, plain)
        assert SIGN in found.stderr
    assert SIGN not in ran(python_module("components.image"), folder, plain).stderr


def test_a_run_its_child_and_its_tasks(folder):
    """The market's own words reach the terminal: they come from a task, which the run's child started."""
    (folder / "bars.csv").write_text("timestamp,symbol\n2020-01-01,A\n")
    config = {"run": {"folder": str(folder / "run")}, "market": {"source": "csv", "path": "bars.csv"}}
    (folder / "own.yaml").write_text(json.dumps(config))
    environment = {**os.environ, "ALPHALOOP_DATA": str(folder)}
    found = ran([*COMMAND, "run", "--config", "own.yaml"], folder, environment)
    said = found.stdout + found.stderr
    log = (folder / "run" / "kfp.log").read_text()
    assert SIGN not in said + log
    assert found.returncode == 1
    assert "bars.csv" in said
    assert "Stage: ingest" in said
    assert "executor_main" in log or "components/market" in log


@pytest.mark.parametrize("number", [0, 1, 2], ids=["service", "registry follower", "log writer"])
def test_what_serve_starts(folder, number, tmp_path):
    """Each refuses the plan in its own words, so it was ours that ran."""
    plan = make_plan(tmp_path / "run")
    plan.serving_folder.mkdir(parents=True)
    (tmp_path / "plan.json").write_text("{}")
    child = _children(plan, tmp_path / "plan.json")[number]
    found = ran(list(child.command), folder, dict(child.environment))
    said = found.stdout + found.stderr
    assert SIGN not in said
    assert "is not a serving plan" in said


def test_workers_that_torchrun_starts(folder, tmp_path):
    (tmp_path / "arguments.json").write_text(json.dumps({"surplus": 1}))
    code = (
        "from pathlib import Path; from components.experts.training.processes import _torchrun;"
        f"_torchrun(2, Path({str(tmp_path / 'arguments.json')!r}), open({str(tmp_path / 'log')!r}, 'wb'))"
    )
    assert ran([sys.executable, "-P", "-c", code], folder).returncode == 0
    failures = [json.loads(path.read_text()) for path in tmp_path.glob("failure-*.json")]
    log = (tmp_path / "log").read_text()
    assert failures, log
    assert SIGN not in log + json.dumps(failures)
    assert all("_trained" in failure["trace"] for failure in failures), "it came as far as our own code"


def test_workers_of_a_search(folder, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    found = ran([sys.executable, str(script)], folder)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_module_that_the_user_names_is_found_after_our_own(folder):
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "my_expert.py").write_text("WORD = 'found'\n")
    found = ran([sys.executable, "-P", "-c", USERS], folder)
    assert not found.stderr
    word, *places = found.stdout.splitlines()
    assert word == "found"
    assert not any(place.startswith(str(folder)) for place in places)
