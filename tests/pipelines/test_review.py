"""A reviewer's words and the table of decisions, without a run of any pipeline."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from components.retraining.trail import TrailError, append_decision, read_trail
from pipelines.commands.review import ReviewError, say_word, show_review
from pipelines.config import Config
from tests.retraining.entries import decided


@pytest.fixture
def config(tmp_path):
    (tmp_path / "run").mkdir()
    return Config.model_validate({"run": {"folder": str(tmp_path / "run")}})


def shown(config, **options) -> str:
    table, page = show_review(config, **options)
    assert Path(page).exists()
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("word", ["hold", "force", "approve"])
def test_a_word_is_kept_and_its_meaning_told(config, tmp_path, word):
    said = say_word(config, word, "index rebalancing", who="ann")
    assert said.startswith(f"ann said {word} at ")
    assert str(tmp_path / "run" / "review" / "index.html") in said
    kept = read_trail(tmp_path / "run" / "review").words
    assert [(one.word, one.who, one.reason) for one in kept] == [(word, "ann", "index rebalancing")]
    assert "index rebalancing" in (tmp_path / "run" / "review" / "index.html").read_text()


def test_who_speaks_is_known_without_being_asked(config, tmp_path):
    say_word(config, "hold", "r")
    assert read_trail(tmp_path / "run" / "review").words[0].who


def test_a_word_without_reason_is_refused(config):
    with pytest.raises(TrailError, match="needs a name and a reason"):
        say_word(config, "hold", "  ")


def test_a_word_to_a_run_that_does_not_exist_is_refused(tmp_path):
    other = Config.model_validate({"run": {"folder": str(tmp_path / "nowhere")}})
    for act in (lambda: say_word(other, "hold", "r"), lambda: show_review(other)):
        with pytest.raises(ReviewError, match="There is no run in"):
            act()
    assert not (tmp_path / "nowhere").exists()


def test_the_table_shows_the_newest_first_and_text_as_it_is(config, tmp_path):
    assert "0 decisions, 0 words" in shown(config)
    append_decision(tmp_path / "run" / "review", lambda _, place: decided(place, reason="psi: [bold]0.4[/]"))
    say_word(config, "hold", "wait", who="ann")
    text = shown(config)
    assert "1 decisions, 1 words" in text
    assert text.index("hold") < text.index("retrain")
    assert "psi: [bold]0.4[/]" in text
    assert "open" in text
    assert "retrain" not in shown(config, newest=1)


def test_who_speaks_is_the_user_that_the_environment_names(config, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_USER", "grace")
    assert say_word(config, "hold", "index rebalancing").startswith("grace said hold at ")
