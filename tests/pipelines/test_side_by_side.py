"""Tasks that do not wait for each other run side by side where they are small; failures, conditions and exit
handlers are kfp's.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.dsl import Dataset, Input, Output
from kfp.local import logging_utils, subprocess_task_handler
from kfp.local.orchestrator import enhanced_dag_orchestrator as kfp_graphs

from components.memory.limits import Limit
from pipelines.runners import side_by_side
from pipelines.runners.side_by_side import ROOM_BYTES, SMALL_BYTES, run_side_by_side

# How long a task waits to meet another: long where they must meet, short where they must not.
MEETING_S, ALONE_S = 60.0, 0.5


@dsl.component(base_image="python", install_kfp_package=False)
def work(name: str, made: Output[Dataset], read: Input[Dataset] = None):
    """What `Played` does in its place."""


@dsl.component(base_image="python", install_kfp_package=False)
def tell(name: str) -> bool:
    """The same, with a number as its output."""


@dsl.component(base_image="python", install_kfp_package=False)
def close(state: dsl.PipelineTaskFinalStatus):
    """The task of an exit handler."""


class Played:
    """Takes the place of processes: each task makes a file, and does what the test says of its name."""

    def __init__(self, does: dict[str, Callable[[Path], int]], default: Callable[[Path], int]) -> None:
        self.does, self.default = does, default
        self.ran: list[str] = []
        self.closing: str | None = None

    def __call__(self, full_command, env_vars=None) -> int:
        asked = json.loads(full_command[full_command.index("--executor_input") + 1])
        told = asked["inputs"].get("parameterValues", {})
        if "state" in told:
            self.closing = told["state"]["state"]
            return 0
        self.ran.append(told["name"])
        made = asked["outputs"].get("artifacts", {})
        place = Path(made["made"]["artifacts"][0]["uri"] if made else os.devnull)
        if made:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        said = {"artifacts": made} if made else {"parameterValues": {"Output": told["name"] == "yes"}}
        Path(asked["outputs"]["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
        Path(asked["outputs"]["outputFile"]).write_text(json.dumps(said), encoding="utf-8")
        return self.does.get(told["name"], self.default)(place)


def nothing(place: Path) -> int:
    return 0


def large(place: Path) -> int:
    with place.open("wb") as file:
        file.truncate(SMALL_BYTES + 1)
    return 0


class Meeting:
    """Tasks that wait for each other; `met` is whether they were at work at the same time."""

    def __init__(self, patience_s: float) -> None:
        self.barrier, self.patience_s, self.met = threading.Barrier(2), patience_s, False

    def __call__(self, place: Path) -> int:
        try:
            self.barrier.wait(self.patience_s)
            self.met = True
        except threading.BrokenBarrierError:
            self.barrier.reset()
        return 0


@pytest.fixture
def play(monkeypatch, tmp_path, caplog):
    for module, name in (
        (kfp_graphs, "run_enhanced_dag"),
        (logging_utils, "local_logger_context"),
        (logging_utils, "indented_print"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(local.config.LocalExecutionConfig, "instance", None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(side_by_side, "limit", lambda: Limit("a machine", 8 * ROOM_BYTES, used=0))
    caplog.set_level(logging.INFO)

    def play(pipeline, played: Played, most: int = 2) -> Played:
        local.init(
            local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), enable_caching=True
        )
        run_side_by_side(most)
        monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", played)
        pipeline()
        return played

    return play


def two_after(first: str, *, cached: tuple[bool, bool] = (True, True), reads: bool = True):
    @dsl.pipeline(name="two")
    def two():
        with dsl.ExitHandler(close(), name="body"):
            before = work(name=first)
            for name, keeps in zip(("left", "right"), cached, strict=True):
                given = {"read": before.outputs["made"]} if reads else {}
                work(name=name, **given).after(before).set_caching_options(keeps)

    return two


def test_tasks_that_do_not_wait_for_each_other_run_at_the_same_time(play):
    meeting = Meeting(MEETING_S)
    played = play(two_after("first"), Played({"left": meeting, "right": meeting}, nothing))
    assert meeting.met
    assert played.ran[0] == "first"
    assert played.closing == "SUCCEEDED"


@pytest.mark.parametrize(
    ("pipeline", "does", "most"),
    [
        (two_after("first"), {"first": large}, 2),
        (two_after("first", cached=(False, False)), {}, 2),
        (two_after("first"), {}, 1),
    ],
    ids=["they read much", "no cache answers them", "one core"],
)
def test_tasks_run_alone_that_are_large_or_act_on_what_is_shared(play, pipeline, does, most):
    meeting = Meeting(ALONE_S)
    played = play(pipeline, Played({**does, "left": meeting, "right": meeting}, nothing), most)
    assert not meeting.met
    assert sorted(played.ran) == ["first", "left", "right"]


@pytest.mark.parametrize(("free", "met"), [(ROOM_BYTES, True), (ROOM_BYTES - 1, False)])
def test_tasks_run_alone_where_memory_is_short(play, monkeypatch, free, met):
    meeting = Meeting(MEETING_S if met else ALONE_S)
    played = Played({"left": meeting, "right": meeting}, nothing)
    monkeypatch.setattr(side_by_side, "limit", lambda: Limit("a machine", free + 5, used=5))
    play(two_after("first"), played)
    assert meeting.met == met


@pytest.mark.parametrize(
    ("pipeline", "does"),
    [
        (two_after("first", reads=False), {"first": large}),
        (two_after("first", cached=(True, False)), {}),
    ],
    ids=["they read nothing", "only one acts on what is shared"],
)
def test_tasks_that_do_not_disturb_each_other_are_not_kept_apart(play, pipeline, does):
    meeting = Meeting(MEETING_S)
    play(pipeline, Played({**does, "left": meeting, "right": meeting}, nothing))
    assert meeting.met


def test_what_needs_a_task_that_failed_is_skipped_and_the_rest_goes_on(play):
    @dsl.pipeline(name="fails")
    def fails():
        with dsl.ExitHandler(close(), name="body"):
            broken = work(name="broken")
            after = work(name="after it", read=broken.outputs["made"])
            work(name="after that").after(after)
            work(name="last", read=work(name="other").outputs["made"])

    played = Played({"broken": lambda place: 1}, nothing)
    with pytest.raises(RuntimeError, match=r"Inner task failed: .*work"):
        play(fails, played)
    assert sorted(played.ran) == ["broken", "last", "other"]
    assert played.closing == "FAILED"


def test_an_exit_handler_comes_behind_what_lies_beside_its_body_too(play):
    @dsl.pipeline(name="beside")
    def beside():
        with dsl.ExitHandler(close(), name="body"):
            work(name="inside")
        work(name="outside")

    found = []

    def outlast(place: Path) -> int:
        time.sleep(ALONE_S)
        found.append(played.closing)
        return 0

    played = Played({"outside": outlast}, nothing)
    play(beside, played)
    assert (found, played.closing) == ([None], "SUCCEEDED")


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_branch_runs_where_its_condition_is_true(play, answer):
    @dsl.pipeline(name="branch")
    def branch():
        with dsl.ExitHandler(close(), name="body"):
            asked = tell(name=answer)
            with dsl.If(asked.output == True, name="wanted"):  # noqa: E712
                work(name="inside")

    played = play(branch, Played({}, nothing))
    assert played.ran == ([answer, "inside"] if answer == "yes" else [answer])
    assert played.closing == "SUCCEEDED"


def test_what_the_cache_answers_is_not_run_again(play):
    for times in (1, 2):
        heard: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record, heard=heard: heard.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        played = play(two_after("first"), Played({}, nothing))
        assert sum(" cache hit (" in line for line in heard) == (0 if times == 1 else 4)
        assert len(played.ran) == (3 if times == 1 else 0)
