"""Events: what the terminal learns from a stage."""

import json

import pytest

from components.contracts import ContractError
from components.progress import FIELDS, advance, is_event, report, stage, track, warn


@pytest.fixture
def events(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("ALPHALOOP_EVENTS", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_stage_tells_start_progress_and_end(events):
    with stage("features"):
        report("features", "60 factors")
        advance("features", 1, 4, "fold 1")
    kinds = [event["event"] for event in events()]
    assert kinds == ["started", "said", "advanced", "finished"]
    assert events()[-1]["seconds"] >= 0


def test_a_failure_carries_its_message_and_whether_it_can_be_mended(events):
    with pytest.raises(ContractError), stage("labels"):
        raise ContractError("column 'close' is missing")
    with pytest.raises(ZeroDivisionError), stage("labels"):
        _ = 1 / 0
    failed = [event for event in events() if event["event"] == "failed"]
    assert [(event["message"], event["mendable"]) for event in failed] == [
        ("column 'close' is missing", True),
        ("ZeroDivisionError: division by zero", False),
    ]


def test_tracking_counts_and_without_a_file_lines_go_to_standard_error(monkeypatch, capsys, events):
    assert list(track("audit", "abc")) == ["a", "b", "c"]
    assert [event["done"] for event in events()] == [1, 2, 3]
    monkeypatch.delenv("ALPHALOOP_EVENTS")
    warn("audit", "look here")
    assert capsys.readouterr().err == "[audit] look here\n"


def test_what_a_stage_says_is_an_event_and_other_lines_are_none(events):
    with stage("labels"):
        report("labels", "60")
        warn("labels", "look here")
        advance("labels", 1, 4)
    with pytest.raises(ContractError), stage("labels"):
        raise ContractError("column 'close' is missing")
    said = events()
    assert {event["event"] for event in said} == set(FIELDS)
    assert all(map(is_event, said))
    for other in (
        None,
        [],
        {},
        {"event": "started"},
        {"event": "end", "stage": "labels"},
        {"event": ["said"], "stage": "labels"},
        {"event": "said", "stage": "labels"},
        {"event": "advanced", "stage": "labels", "done": "1", "total": 4, "what": ""},
    ):
        assert not is_event(other)
