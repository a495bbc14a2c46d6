"""The audit trail: order, many processes at once, kills in the middle, and what must not be overwritten."""

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from components.contracts.documents.retraining import Decision
from components.retraining import trail as module
from components.retraining.trail import (
    Trail,
    TrailError,
    append_decision,
    append_word,
    close_decision,
    read_trail,
)
from tests.retraining.entries import decided, ended

APPEND = """
import sys
from pathlib import Path
from components.retraining.trail import append_decision, append_word
from tests.retraining.entries import decided
folder, name = Path(sys.argv[1]), sys.argv[2]
def make(trail, place):
    seen = len(trail.decisions) + len(trail.words)
    return decided(place, action="none", rules=(), who=name, reason=str(seen))
for number in range(int(sys.argv[3])):
    append_decision(folder, make)
    append_word(folder, who=name, word="hold", reason=str(number))
"""


def retrain(folder) -> Decision:
    return append_decision(folder, lambda _, place: decided(place))


def appender(folder, name, count) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", APPEND, str(folder), name, str(count)])


def test_an_empty_folder_is_an_empty_trail(tmp_path):
    assert read_trail(tmp_path / "none") == Trail()


def test_entries_come_back_in_the_order_in_which_they_were_made(tmp_path):
    one = retrain(tmp_path)
    word = append_word(tmp_path, who=" ann ", word="hold", reason=" rebalancing ")
    saw = []

    def held(trail, place):
        saw.extend([len(trail.decisions), len(trail.words), place.id])
        return decided(place, action="held")

    two = append_decision(tmp_path, held)
    trail = read_trail(tmp_path)
    assert trail == Trail((one, two), (word,))
    assert (word.who, word.reason) == ("ann", "rebalancing")
    assert one.id < word.id < two.id
    assert saw == [1, 1, two.id]
    assert trail.open_decision() == one


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path, monkeypatch):
    first = retrain(tmp_path)

    class Past(module.datetime):
        @classmethod
        def now(cls, zone):
            return cls(2001, 1, 1, tzinfo=zone)

    monkeypatch.setattr(module, "datetime", Past)
    assert append_word(tmp_path, who="ann", word="force", reason="r").id > first.id


def test_several_processes_append_without_losing_or_reordering_anything(tmp_path):
    running = [appender(tmp_path, name, 15) for name in ("a", "b", "c")]
    seen = 0
    while any(process.poll() is None for process in running):
        trail = read_trail(tmp_path)
        assert len(trail.decisions) + len(trail.words) >= seen
        seen = len(trail.decisions) + len(trail.words)
        time.sleep(0.01)
    assert [process.returncode for process in running] == [0, 0, 0]
    trail = read_trail(tmp_path)
    assert (len(trail.decisions), len(trail.words)) == (45, 45)
    order = sorted([*trail.decisions, *trail.words], key=lambda entry: entry.id)
    assert [int(entry.reason) for entry in order if isinstance(entry, Decision)] == [
        place for place, entry in enumerate(order) if isinstance(entry, Decision)
    ]
    for name in "abc":
        assert [word.reason for word in trail.words if word.who == name] == [
            str(number) for number in range(15)
        ]


def test_a_kill_in_the_middle_leaves_whole_entries_and_no_lock(tmp_path):
    for _ in range(5):
        running = appender(tmp_path, "a", 10_000)
        count = len(read_trail(tmp_path).words)
        while len(read_trail(tmp_path).words) < count + 5:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        running.wait()
        read_trail(tmp_path)
    assert append_word(tmp_path, who="ann", word="approve", reason="still works").word == "approve"


def test_an_outcome_is_written_once(tmp_path):
    made = retrain(tmp_path)
    resumed = append_decision(tmp_path, lambda _, place: decided(place, action="resume", resumes=made.id))
    closed = close_decision(tmp_path, made.id, ended("promoted"))
    assert closed.outcome.status == "promoted"
    assert closed.model_copy(update={"outcome": None}) == made
    trail = read_trail(tmp_path)
    assert trail.open_decision() is None
    assert trail.decisions[1] == resumed.model_copy(update={"outcome": closed.outcome})
    later = ended("promoted", when=closed.outcome.when + timedelta(hours=1))
    assert close_decision(tmp_path, made.id, later) == closed
    with pytest.raises(TrailError, match="has an outcome already \\(promoted"):
        close_decision(tmp_path, made.id, ended("rejected"))
    with pytest.raises(TrailError, match="holds no decision 20"):
        close_decision(tmp_path, "20000101T000000000000Z", ended("rejected"))
    assert read_trail(tmp_path) == trail


@pytest.mark.parametrize(
    ("word", "who", "reason"), [("stop", "ann", "r"), ("hold", "ann", "  "), ("hold", "", "r")]
)
def test_a_word_needs_a_kind_a_name_and_a_reason(tmp_path, word, who, reason):
    with pytest.raises(TrailError):
        append_word(tmp_path, who=who, word=word, reason=reason)
    assert read_trail(tmp_path) == Trail()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1}', None])
def test_a_broken_entry_is_named(tmp_path, text):
    made = retrain(tmp_path)
    path = tmp_path / "decisions" / f"{made.id}.json"
    renamed = made.model_copy(update={"id": "another"})
    path.write_text(json.dumps(renamed.model_dump(mode="json")) if text is None else text)
    with pytest.raises(TrailError, match=path.name):
        read_trail(tmp_path)


def test_a_folder_that_can_not_be_written_is_explained(tmp_path):
    (tmp_path / "review").write_text("a file")
    with pytest.raises(TrailError, match="can't be written"):
        retrain(tmp_path / "review")
