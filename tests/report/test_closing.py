"""How a run is judged when it ends, and the page of one that failed."""

import json
import os
import time
from pathlib import Path

import pytest

from components.contracts import AlphaloopError
from components.progress import expect, notes, stage, warn
from components.progress.notes import NOTES_VARIABLE, RUN_VARIABLE
from components.report.closing import FAILURE, close_run, failures_of, killed
from components.report.run import run_close_run

# Every state that Kubeflow's backend knows, and kfp.local's two.
BACKEND = ("UNKNOWN", "NEW", "RUNNING", "COMPLETE", "FAILED", "CACHED", "CANCELED")
GOALS = ["report"]


def event(kind: str, stage: str, **more) -> dict:
    return {"event": kind, "stage": stage, "seconds": 1.0, **more}


RUN = [
    event("started", "features"),
    event("finished", "features"),
    event("started", "train lightgbm"),
    event("advanced", "train lightgbm"),
]


def close(folder: Path, events: list[dict]) -> str:
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    close_run(folder, failed=True, message="exit code 1", events=folder / "events.jsonl")
    return (folder / FAILURE).read_text()


def test_a_stage_that_was_killed_is_named_with_what_to_do(tmp_path):
    page = close(tmp_path, [*RUN, event("started", "close")])
    assert "train lightgbm was killed" in page
    assert "out of memory" in page
    assert "start the same pipeline again" in page


def test_a_stage_that_failed_with_words_is_not_called_killed(tmp_path):
    failed = event("failed", "train lightgbm", message="The table has no rows.")
    page = close(tmp_path, [*RUN, failed])
    assert "The table has no rows." in page
    assert "was killed" not in page
    assert killed([*RUN, failed]) == []
    assert killed([*RUN, event("finished", "train lightgbm")]) == []


def test_a_failure_that_a_second_attempt_made_good_is_none():
    failed, finished = event("failed", "ingest", message="no answer"), event("finished", "ingest")
    assert failures_of([failed, finished]) == []
    assert [said.message for said in failures_of([failed, finished, failed])] == ["no answer"]


# Each task of a cluster run is a process of its own: `Task` plays one, with what it leaves in the notes.


class Task:
    """Says what a task says, under a name of its own as a process has one."""

    def __init__(self) -> None:
        notes._said.cache_clear()
        notes._attempt.cache_clear()

    def does(self, name: str) -> "Task":
        with stage(name):
            pass
        return self

    def fails(self, name: str, error: BaseException) -> "Task":
        with pytest.raises(type(error)), stage(name):
            raise error
        return self

    def is_killed_in(self, name: str) -> "Task":
        notes.keep_note({"time": time.time(), **event("started", name)})
        return self


@pytest.fixture(params=["path", "address"])
def folder(request, tmp_path, monkeypatch):
    """The lasting place of runs, by path and by address, with an old page in it; this run is `run-2`."""
    monkeypatch.delenv("ALPHALOOP_EVENTS", raising=False)
    place = tmp_path / "lasting"
    place.mkdir()
    (place / FAILURE).write_text("an old page")
    (place / "summary.json").write_text("of an older run")
    address = str(place) if request.param == "path" else f"file://{place}"
    monkeypatch.setenv(NOTES_VARIABLE, f"{address}/notes")
    for name in GOALS:  # an older run that reached all, and one that failed
        monkeypatch.setenv(RUN_VARIABLE, "run-0")
        Task().does(name)
        monkeypatch.setenv(RUN_VARIABLE, "run-1")
        Task().fails("ingest", AlphaloopError("the old failure"))
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    return place, address


def ended(folder, state: str, goals=GOALS) -> str | None:
    """The page after the run was closed; None where there is none."""
    place, address = folder
    run_close_run(address, goals=goals, state=state, message="")
    assert (place / "summary.json").exists()
    page = place / FAILURE
    return page.read_text() if page.exists() else None


@pytest.mark.parametrize("state", BACKEND)
def test_a_run_that_reached_its_end_leaves_no_page_and_removes_an_old_one(folder, state):
    Task().does("ingest")
    Task().fails("features", AlphaloopError("the disk is full"))
    Task().is_killed_in("features")
    Task().does("features")
    Task().does("report")
    assert ended(folder, state) is None


@pytest.mark.parametrize("state", BACKEND)
def test_a_run_in_which_a_stage_failed_tells_which_why_and_what_to_do(folder, state):
    Task().does("ingest")
    Task().fails("audit", AlphaloopError("rsi_14 leaks 3 bars. Mend the factor."))
    page = ended(folder, state)
    for words in ("audit", "rsi_14 leaks 3 bars. Mend the factor.", "What to do", "ingest"):
        assert words in page
    assert "the old failure" not in page


@pytest.mark.parametrize("state", BACKEND)
def test_a_stage_that_was_killed_at_each_attempt_is_named(folder, state):
    Task().does("ingest")
    Task().is_killed_in("train patchtst")
    Task().is_killed_in("train patchtst")
    page = ended(folder, state)
    assert "The process of train patchtst was killed" in page
    assert "market.symbols" in page


@pytest.mark.parametrize("state", [state for state in BACKEND if state not in ("COMPLETE", "CACHED")])
def test_a_run_whose_pods_never_began_says_where_to_look(folder, state):
    page = ended(folder, state)
    assert "before report" in page
    assert "pipeline/runid=run-2" in page


@pytest.mark.parametrize("state", ["COMPLETE", "CACHED"])
def test_a_run_that_came_from_the_cache_whole_leaves_no_page(folder, state):
    assert ended(folder, state) is None


@pytest.mark.parametrize("state", BACKEND)
def test_a_retraining_that_decided_not_to_retrain_is_whole(folder, state):
    Task().does("decide")
    assert ended(folder, state, ["decide"]) is None


@pytest.mark.parametrize("state", BACKEND)
def test_a_retraining_that_began_is_whole_once_it_is_concluded(folder, state):
    deciding = Task().does("decide")
    expect("decide", "conclude")
    assert deciding
    assert "before conclude" in ended(folder, state, ["decide"])
    Task().does("conclude")
    assert ended(folder, state, ["decide"]) is None


def test_what_was_not_foreseen_points_at_the_trace_and_warnings_are_told(folder):
    task = Task()
    warn("audit", "close_1 was left out")
    task.fails("audit", KeyError("volume"))
    page = ended(folder, "FAILED")
    assert "KeyError" in page
    assert "holds its trace" in page
    assert "close_1 was left out" in page


def test_each_attempt_leaves_one_note_and_old_notes_go(folder):
    place, _ = folder
    Task().fails("ingest", AlphaloopError("no answer"))
    Task().does("ingest")
    assert len(list((place / "notes" / "run-2").glob("ingest.*.jsonl"))) == 2
    (old,) = (place / "notes" / "run-1").iterdir()
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    assert ended(folder, "FAILED") is not None
    assert not old.exists()
    assert (place / "notes" / "run-0").exists()


def test_a_place_that_can_not_be_written_is_told_and_stops_no_task(monkeypatch, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(NOTES_VARIABLE, str(blocked / "notes"))
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    Task().does("ingest")
    assert "[ingest] no note was left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "page"), [("SUCCEEDED", False), ("COMPLETE", False), ("FAILED", True), ("RUNNING", True)]
)
def test_on_one_machine_the_orchestrator_knows(monkeypatch, tmp_path, state, page):
    for variable in (NOTES_VARIABLE, RUN_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    events = tmp_path / "events.jsonl"
    events.write_text(json.dumps(event("failed", "audit", message="rsi_14 leaks")) + "\n")
    monkeypatch.setenv("ALPHALOOP_EVENTS", str(events))
    run_close_run(str(tmp_path), goals=GOALS, state=state, message="")
    assert (tmp_path / FAILURE).exists() == page
    assert not page or "rsi_14 leaks" in (tmp_path / FAILURE).read_text()
