"""Watching: the schedule, checks that fail, a folder in use, and how it ends.

The checks themselves are in test_retraining.py.
"""

import io

import pytest
from rich.console import Console

import pipelines.commands.retrain
from components.contracts import AlphaloopError
from pipelines.commands import watch as module
from pipelines.commands.watch import WatchError, describe, seconds_of, watch
from pipelines.config import Config
from pipelines.runners.local_run import FolderInUse, RunFailed
from tests.retraining.entries import decided, ended

CONFIG = Config.model_validate({"retraining": {"every": "10s"}})
NONE = decided(action="none", reason="no column moved")
PROMOTED = decided(reason="psi: 0.4", outcome=ended())


class Stop(Exception):
    """Ends a test's watching."""


@pytest.fixture
def story(monkeypatch):
    """Plays `events` as the outcomes of checks, each with the seconds that it takes, on a clock of its own;
    returns what was printed and the starts.
    """

    def play(*events, once=False, every=None, keyboard=False):
        clock, starts, output, left = [1000.0], [], io.StringIO(), list(events)

        def check(*_, **__):
            starts.append(clock[0] - 1000.0)
            if not left:
                raise KeyboardInterrupt if keyboard else Stop
            event, seconds = left.pop(0)
            clock[0] += seconds
            if isinstance(event, Exception):
                raise event
            return event

        monkeypatch.setattr(pipelines.commands.retrain, "run_retraining", check)
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(module.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        failure = None
        try:
            watch(
                CONFIG, once, every, console=Console(file=output, width=300, highlight=False, soft_wrap=True)
            )
        except (Stop, AlphaloopError) as error:
            failure = error
        return output.getvalue(), starts, failure

    return play


def test_checks_come_as_planned_and_say_one_line_each(story):
    text, starts, _ = story((NONE, 1), (PROMOTED, 2))
    assert starts == [0, 10, 20]
    lines = [line for line in text.splitlines() if "next check" not in line]
    assert len(lines) == 2
    assert "none" in lines[0]
    assert "no column moved" in lines[0]
    assert "promoted" in lines[1]
    assert "version 2, champion 1 → 2: better; retrained because of psi: 0.4" in lines[1]


def test_a_long_check_is_followed_by_the_next_planned_one(story):
    assert story((NONE, 25), (NONE, 10), (NONE, 1))[1] == [0, 30, 40, 50]


def test_a_source_that_is_fetched_is_asked_before_each_check(story, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "components.market.fetched.fetch", lambda settings, folder: asked.append(settings.source)
    )
    story((NONE, 1), (NONE, 1))
    assert asked == []
    market = {"source": "yahoo", "symbols": ["AAPL"], "start": "2020-01-01"}
    monkeypatch.setitem(
        globals(), "CONFIG", Config.model_validate({"market": market, "retraining": {"every": "10s"}})
    )
    assert len(story((NONE, 1), (NONE, 1))[1]) == len(asked) == 3


def test_a_failing_check_is_told_and_the_next_one_comes(story):
    text, starts, failure = story((RunFailed("stage x: the disk is full"), 1), (NONE, 1))
    assert "the disk is full" in text
    assert starts == [0, 10, 20]
    assert isinstance(failure, Stop)


def test_a_single_check_that_fails_is_an_error_and_one_that_decides_is_none(story):
    _, starts, failure = story((RunFailed("the disk is full"), 1), once=True)
    assert isinstance(failure, WatchError)
    assert "the disk is full" in str(failure)
    assert starts == [0]
    assert story((NONE, 1), once=True)[1:] == ([0], None)


def test_a_folder_in_use_is_waited_for(story):
    busy = FolderInUse("Another run is using /runs/demo. Wait for it to end.")
    text, starts, failure = story((busy, 0), (busy, 0), (NONE, 1), once=True)
    assert failure is None
    assert starts == [0, 5, 10]
    assert text.count("Another run is using /runs/demo") == 1


def test_the_keyboard_ends_it_without_an_error(story):
    text, _, failure = story((NONE, 1), keyboard=True)
    assert failure is None
    assert "stopped" in text


def test_another_schedule_may_be_given(story):
    assert story((NONE, 1), (NONE, 1), every="30s")[1] == [0, 30, 60]


def test_a_test_window_that_ends_stops_it_before_the_first_check():
    with pytest.raises(AlphaloopError, match=r"timeline\.test\.end"):
        watch(Config.model_validate({"timeline": {"test": {"end": "2024-01-01"}}}), once=True)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), (" 6h ", 21600), ("1d", 86400)])
def test_lengths_of_time(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "1", "m", "-5m", "1.5h", "1w", "1d 2h", "9999999s", "１m"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(WatchError, match="Write a whole number and a unit"):
        seconds_of(text)


def test_a_decision_without_outcome_is_told_by_its_reason():
    assert describe(NONE) == "no column moved"
