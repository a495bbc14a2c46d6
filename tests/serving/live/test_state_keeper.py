"""What the keeper of the state makes of faults: answers go on, the status says why, and what nobody
expected leaves its trace in the log.
"""

from unittest.mock import MagicMock

import pytest

from serving.api.answer_types import CheckAnswer
from serving.live import state_keeper
from serving.live.state_keeper import StateKeeper
from serving.live.store_reads import Reads
from tests.serving.made_answers import make_plan, notice


@pytest.fixture
def reads():
    reads = Reads(1)
    yield reads
    reads.close()


@pytest.fixture
def keeper(tmp_path, reads):
    """A keeper over a folder with nothing in it."""
    keeper = StateKeeper(make_plan(tmp_path), MagicMock(), reads)
    keeper.plan.serving_folder.mkdir()
    return keeper


def fail(*_: object, **__: object):
    raise RuntimeError("planted")


def test_a_store_that_is_not_there_is_one_line(keeper, caplog):
    keeper.look()
    keeper.look()
    assert "There is no feature store" in keeper.problem_of_store
    assert caplog.text.count("The feature store can't be opened") == 1
    assert "Traceback" not in caplog.text


def test_an_unexpected_fault_of_opening_the_store_leaves_its_trace_once(keeper, caplog, monkeypatch):
    monkeypatch.setattr(state_keeper, "OnlineReader", fail)
    for number in range(3):
        # Another publication each time, so that it is tried again.
        monkeypatch.setattr(state_keeper, "store_signature", lambda *_, number=number: (number,))
        keeper.look()
    assert keeper.problem_of_store == "RuntimeError: planted"
    assert not keeper.ready
    assert caplog.text.count("Traceback") == caplog.text.count("in fail\n") == 1


def test_an_unexpected_fault_of_reading_the_store_leaves_its_trace_once(keeper, caplog, monkeypatch):
    reader = MagicMock()
    reader.read = fail
    reader.current = {"schema": "s"}
    monkeypatch.setattr(state_keeper, "OnlineReader", lambda *_: reader)
    keeper.look()
    keeper.look()
    assert keeper.reads.problem == "RuntimeError: planted"
    assert caplog.text.count("Traceback") == caplog.text.count("in fail\n") == 1


def test_a_bundle_that_is_not_there_is_refused_in_one_line(keeper, tmp_path, caplog):
    notice(tmp_path / "nowhere").write(keeper.plan.champion_file)
    keeper.look()
    assert keeper.refusal.version == 3
    assert "Refused version 3" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_unexpected_fault_of_loading_a_model_leaves_its_trace_once(keeper, tmp_path, caplog, monkeypatch):
    notice(tmp_path / "bundle").write(keeper.plan.champion_file)
    monkeypatch.setattr(state_keeper.Model, "load", fail)
    keeper.look()
    keeper.look()
    assert keeper.refusal.reason == "RuntimeError: planted"
    assert caplog.text.count("Traceback") == caplog.text.count("in fail\n") == 1


def test_a_notice_that_does_not_fit_names_file_and_key(keeper, caplog):
    keeper.plan.champion_file.write_text('{"version": "3"}')
    keeper.look()
    assert keeper.refusal.version is None
    assert str(keeper.plan.champion_file) in keeper.refusal.reason
    assert "bundle_sha256: Field required" in keeper.refusal.reason
    assert "Traceback" not in caplog.text


def test_a_look_that_fails_is_logged_with_its_trace_and_the_next_one_follows(keeper, caplog, monkeypatch):
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            keeper._stop.set()
        fail()

    monkeypatch.setattr(keeper, "look", look)
    monkeypatch.setattr(keeper._stop, "wait", lambda _: None)
    keeper._run()
    assert len(looks) == 2
    assert caplog.text.count("Traceback") == 2


def test_a_look_that_fails_is_said_by_a_check_until_one_succeeds(keeper, caplog, monkeypatch):
    ok = CheckAnswer(name="champion", ok=True, reason="version 3")
    monkeypatch.setattr(keeper, "_check", lambda: (ok,))
    for step in ("_look_at_store", "_look_at_champion", "_look_at_market", "_tell"):
        monkeypatch.setattr(keeper, step, lambda: None)
    seen = []

    def looked(stop_after: int):
        """Stands for the pause between two looks."""

        def wait(_: float) -> None:
            seen.append((keeper.ready, [check.name for check in keeper.checks]))
            if len(seen) == 2:
                monkeypatch.setattr(keeper, "_look_at_market", lambda: None)
            if len(seen) == stop_after:
                keeper._stop.is_set = lambda: True

        return wait

    monkeypatch.setattr(keeper, "_stop", MagicMock(is_set=lambda: False, wait=looked(3)))
    monkeypatch.setattr(keeper, "_look_at_market", fail)
    keeper.checks = (ok,)
    keeper._run()
    assert seen == [(False, ["champion", "look"]), (False, ["champion", "look"]), (True, ["champion"])]
    assert caplog.text.count("RuntimeError: planted") == 2
    assert keeper.metrics.ready.set.call_args_list[0].args == (False,)


def test_a_service_that_ends_is_not_ready_whatever_the_checks_say(keeper, monkeypatch):
    monkeypatch.setattr(keeper, "checks", (CheckAnswer(name="champion", ok=True, reason="version 3"),))
    assert keeper.ready
    keeper.begin_to_end()
    keeper.checks = (CheckAnswer(name="champion", ok=True, reason="a look that had begun before"),)
    assert not keeper.ready
