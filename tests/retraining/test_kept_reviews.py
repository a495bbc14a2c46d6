"""A review folder that 0.4.0 left: read whole, shown whole, and carried on."""

import json
import shutil
from pathlib import Path

import pytest

from components.retraining.page import write_review_page
from components.retraining.review_folder import read_review
from components.retraining.trail import append_decision, append_word, close_decision, read_trail
from tests.retraining.entries import decided, ended

KEPT = Path(__file__).parent / "kept" / "review_0_4_0"


@pytest.fixture
def review(tmp_path) -> Path:
    return shutil.copytree(KEPT, tmp_path / "demo" / "review")


def test_every_entry_is_read_with_all_that_it_held(review):
    trail = read_trail(review)
    assert [one.action for one in trail.decisions] == ["not_enough_data", "held", "retrain", "resume", "none"]
    assert [one.word for one in trail.words] == ["hold", "approve"]
    for kind, entries in (("decisions", trail.decisions), ("words", trail.words)):
        for one in entries:
            was = json.loads((review / kind / f"{one.id}.json").read_text())
            now = one.model_dump(mode="json")
            assert now == {"resumes": None} | was if kind == "decisions" else now == was


def test_the_page_shows_it_whole(review):
    found = read_review(review)
    assert found.problems == []
    assert [reign.version for reign in found.champions] == [1, 2]
    assert {report.verdict for report in found.drift.values()} == {"not_enough_data", "drift"}
    html = write_review_page(review).read_text()
    for one in found.decisions:
        assert f'id="decision-{one.id}"' in html
    assert "<b>rank_a</b> moved most: KS" in html


def test_it_is_carried_on(review):
    before = read_trail(review)
    made = append_decision(review, lambda _, place: decided(place))
    append_word(review, who="ann", word="hold", reason="later")
    closed = close_decision(review, made.id, ended("rejected"))
    after = read_trail(review)
    assert after.decisions == (*before.decisions, closed)
    assert after.words[:-1] == before.words
    assert before.open_decision() is None
