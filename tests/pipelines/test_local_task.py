"""A task of a local run that ends without a word is told of with its stage; so is the end of the process that
leads the run.
"""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from components.memory.share import SHARE_VARIABLE
from components.progress import EVENTS_VARIABLE
from components.spread.choice import ENGINE_VARIABLE
from components.spread.on_ray import RayError
from pipelines.config import load_config
from pipelines.runners import local_run, local_task
from pipelines.runners.local_run import RunFailed, run_locally
from pipelines.runners.local_task import LocalTasks
from tests.pipelines.small_run import SETTINGS, read_events
from tests.pipelines.test_ir import DEMO

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux keeps them")
BEGIN = "from components.progress import stage; import os, signal, time"
KILLED = (
    f"{BEGIN}\nwith stage('labels'):\n x = bytearray(150 * 2**20)\n time.sleep(1)\n"
    " os.kill(os.getpid(), signal.SIGKILL)"
)
REFUSED = f"{BEGIN}\nwith stage('labels'): x = bytearray(10**12)"
WITH_WORDS = f"{BEGIN}\nwith stage('labels'): raise ValueError('the table has no rows')"
BEFORE_IT = "import numpy; numpy.ones(10**12)"
WELL = f"{BEGIN}\nwith stage('labels'): pass"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a program as kfp does, below a shell and under a limit; returns exit code and events."""
    events = tmp_path / "events.jsonl"
    events.write_text('{"event": "started", "stage": "ingest"}\n{"event": "failed", "stage": "ingest"}\n')
    monkeypatch.setenv(EVENTS_VARIABLE, str(events))
    tasks = LocalTasks({"make-labels": "labels", "make-reference": "drift reference"}, events)

    def begin(program: str) -> tuple[int, list[dict]]:
        script = f"ulimit -v 4000000\n{sys.executable} -c {shlex.quote(program)}\n"
        asked = {"outputs": {"outputFile": str(tmp_path / "make-labels" / "out.json")}}
        code = tasks.run_in_subprocess(["sh", "-c", script, "sh", "--executor_input", json.dumps(asked)])
        return code, [json.loads(line) for line in events.read_text().splitlines()[2:]]

    return begin


def test_a_task_that_was_killed_is_told_of_with_stage_peak_and_what_to_lower(run):
    code, events = run(KILLED)
    assert (code, [one["event"] for one in events]) == (137, ["started", "failed"])
    assert events[-1]["stage"] == "labels"
    assert events[-1]["message"].startswith("labels was killed by ")
    mib = int(events[-1]["message"].partition("It held ")[2].split(" MiB")[0])
    assert 150 <= mib < 400
    assert "labels.horizons" in events[-1]["message"]


@pytest.mark.parametrize(("after", "how"), [(5, "a signal that"), (6, "the kernel, ")])
def test_only_what_the_kernel_killed_meanwhile_counts(run, monkeypatch, after, how):
    counts = iter([5, after])
    monkeypatch.setattr(local_task, "kernel_kills", lambda: next(counts))
    _, events = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert events[-1]["message"].startswith(f"labels was killed by {how}")


@pytest.mark.parametrize("program", [REFUSED, BEFORE_IT], ids=["in its stage", "before its stage"])
def test_a_task_that_was_refused_memory_says_so_under_its_stages_name(run, program):
    code, events = run(program)
    assert code
    assert [one["stage"] for one in events if one["event"] == "failed"] == ["labels"]
    # A task that dies at once outside of its stage may not have been looked at before.
    held = "It held " if program is REFUSED else ("It held ", "What it held at its peak is not known")
    assert events[-1]["message"].removeprefix("labels ran out of memory. ").startswith(held)
    assert "labels.horizons" in events[-1]["message"]


def test_what_a_task_beside_it_says_is_not_taken_for_its_own(run):
    """The drift reference is at work, and has failed, while the labels end without a word."""
    other = "_emit({'event': 'failed', 'stage': 'drift reference', 'message': 'no rows', 'seconds': 1.0})"
    code, events = run(
        f"{BEGIN}\nfrom components.progress import _emit\n{other}\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert code
    assert [one["stage"] for one in events if one["event"] == "failed"] == ["drift reference", "labels"]


def test_a_task_with_words_of_its_own_keeps_them_and_one_that_ends_well_has_none(run):
    code, events = run(WITH_WORDS)
    assert (code, [one["event"] for one in events]) == (1, ["started", "failed"])
    assert events[-1]["message"] == "ValueError: the table has no rows"
    code, events = run(WELL)
    assert (code, [one["event"] for one in events[2:]]) == (0, ["started", "finished"])


@pytest.mark.parametrize(
    ("script", "where", "word"),
    [
        ("kill -9 $$", "set-up", "was killed"),
        ("echo MemoryError; exit 1", "set-up", "ran out of memory"),
        ("{said}; kill -9 $$", "train lightgbm", "was killed"),
        ("{said}; {done}; kill -9 $$", "between two stages", "was killed"),
    ],
    ids=["killed", "refused", "in a stage", "between stages"],
)
def test_the_end_of_the_process_that_leads_a_run_is_told_with_where_it_was(
    tmp_path, monkeypatch, script, where, word
):
    """Planted in its place: never `Stage: none`."""
    events = [
        {"event": kind, "stage": stage, "seconds": 1.0}
        for kind, stage in (("started", "set-up"), ("finished", "set-up"), ("started", "train lightgbm"))
    ]
    say = "; ".join(f"echo {shlex.quote(json.dumps(one))} >> ${EVENTS_VARIABLE}" for one in events)
    done = f"echo {shlex.quote(json.dumps({**events[-1], 'event': 'finished'}))} >> ${EVENTS_VARIABLE}"
    program = ["sh", "-c", script.format(said=say, done=done)]
    monkeypatch.setattr(local_run, "python_module", lambda *_: program)
    config = load_config(DEMO, [f"run.folder={tmp_path / 'run'}"])
    with pytest.raises(RunFailed) as failed:
        run_locally("training", config)
    text = str(failed.value)
    assert f"Stage: {where}. Log: " in text
    assert f"The process that leads the run {word}" in text
    assert where in (tmp_path / "run" / "failure.html").read_text()


def test_what_surrounds_a_run_does_not_choose_how_it_uses_the_machine(tmp_path, monkeypatch):
    """The config alone does: its default too."""
    surroundings = {ENGINE_VARIABLE: "spark", SHARE_VARIABLE: "much"}
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    told = f'echo "${ENGINE_VARIABLE} ${SHARE_VARIABLE}"; exit 3'
    monkeypatch.setattr(local_run, "python_module", lambda *_: ["sh", "-c", told])
    with pytest.raises(RunFailed, match=r"Its last words:\nlocal 0\.7\n"):
        run_locally("training", load_config(DEMO, [f"run.folder={tmp_path / 'run'}"]))


def test_without_ray_nothing_is_begun_that_ray_is_to_fit(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = load_config(DEMO, [f"run.folder={tmp_path / 'run'}", "compute.engine=ray"])
    with pytest.raises(RayError, match="Ray is not installed here"):
        run_locally("training", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(600)
def test_a_run_of_kfp_names_the_stage_whose_task_was_killed(tmp_path, monkeypatch):
    """A whole run whose first task ends as by the kernel: its process is killed as soon as it is forked."""
    knife = tmp_path / "knife"
    knife.mkdir()
    (knife / "sitecustomize.py").write_text(
        "import os, signal, sys\n\n"
        "def cut():\n"
        f"    if not os.path.exists({str(knife / 'used')!r}):\n"
        f"        open({str(knife / 'used')!r}, 'x').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n\n"
        "if 'pipelines.runners.warm.server' in sys.orig_argv:\n"
        "    os.register_at_fork(after_in_child=cut)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(knife), str(Path(local_run.__file__).parents[2])]))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    config = load_config(path, [f"run.folder={tmp_path / 'run'}"])
    with pytest.raises(RunFailed, match=r"(?s)ingest was killed by .*Stage: ingest\. Log: "):
        run_locally("training", config)
    assert [one["stage"] for one in read_events(tmp_path / "run") if one["event"] == "failed"] == ["ingest"]
