"""The review folder after a check and after a retraining: decision, report, champions and page belong
together.
"""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from components.contracts import PANEL, SERVED, TIME, ContractError, write_table
from components.contracts.documents.champion import Registration
from components.contracts.documents.drift import CurrentRows, DriftReport, DriftRule, ReferenceRows
from components.contracts.documents.retraining import Decision
from components.drift.early import too_early, write_early
from components.retraining.config import Settings
from components.retraining.record import record_decision, record_outcome
from components.retraining.trail import append_word, read_trail
from tests.retraining.entries import champion, registered, reign

CHAMPION = champion()
BARS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 9, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)


@pytest.fixture
def check(tmp_path):
    """The artifacts of one check; `make(fired)` writes its drift report and records the decision."""
    stamps = {"code_version": "c", "config_hash": "h"}
    prices = {name: pl.lit(1.0) for name in ("open", "high", "low", "close", "volume")}
    panel = pl.DataFrame({"timestamp": BARS, "event_time": BARS, "known_time": BARS}).with_columns(
        symbol=pl.lit("A"), period=pl.lit("1d"), sector=pl.lit("x"), **prices
    )
    write_table(panel.select(*PANEL.columns), tmp_path / "panel", PANEL, **stamps)
    write_table(pl.DataFrame(schema=SERVED.columns), tmp_path / "current", SERVED, **stamps)

    def make(*fired: str, champion=CHAMPION, **settings) -> Decision:
        drift = tmp_path / "drift_artifact"
        drift.mkdir(exist_ok=True)
        rules = tuple(
            DriftRule(
                rule=name,
                value=0.4,
                threshold=0.25,
                fired=True,
                reason="0.4 over 0.25",
                factors=("momentum",),
            )
            for name in fired
        )
        current = CurrentRows(
            rows=100,
            bars=10,
            symbols=10,
            rows_per_bar_in_reference=10.0,
            first=BARS[-10],
            last=BARS[-1],
            source="served",
            sha256="d",
        )
        unknown = ReferenceRows(**dict.fromkeys(ReferenceRows.model_fields))
        about = DriftReport.nothing_measured("why", unknown, current)
        verdict = "drift" if fired else "no_drift"
        about.model_copy(update={"verdict": verdict, "rules": rules}).write(drift / "drift.json")
        for page in ("index.html", "evidently.html"):
            (drift / page).write_text("<html>1<!--decision-->later<!--/decision-->2</html>")
        return record_decision(
            tmp_path / "review",
            drift=drift,
            current=tmp_path / "current",
            panel=tmp_path / "panel",
            champion=champion,
            settings=Settings(**settings),
            source="s" * 64,
        )

    return tmp_path / "review", make


def registration(version: int, status: str = "registered") -> Registration:
    history = [*CHAMPION.history, reign(2, "better by 0.03", when=BARS[-1])]
    return registered(version, 2, status, champion_before=1, reason="gates", history=history)


def test_a_decision_says_on_which_data_and_shows_its_report(check):
    review, make = check
    made = make("psi")
    assert read_trail(review).decisions == (made,)
    assert (made.action, made.drift_report) == ("retrain", f"drift/{made.id}/index.html")
    assert (review / made.drift_report).exists()
    assert (made.data.source_sha256, made.data.newest_bar, made.data.rows) == (
        "s" * 64,
        BARS[-1],
        100,
    )
    assert len(made.data.current_sha256) == len(made.data.panel_sha256) == 64
    assert json.loads((review / "champions.json").read_text()) == [
        one.model_dump(mode="json") for one in CHAMPION.history
    ]
    assert made.id in (review / "index.html").read_text()


def test_an_unfinished_retraining_is_resumed_and_has_one_outcome(check):
    review, make = check
    first = make("psi")
    again = make()
    assert (again.action, again.resumes) == ("resume", first.id)
    closed = record_outcome(review, first.id, registration(2))
    assert (closed.outcome.status, closed.outcome.reason) == ("promoted", "better by 0.03")
    assert [one.outcome.status for one in read_trail(review).decisions] == ["promoted", "promoted"]
    assert json.loads((review / "champions.json").read_text())[-1]["version"] == 2
    assert make("psi").action == "cooling_down"
    with pytest.raises(ContractError, match="holds no decision x"):
        record_outcome(review, "x", registration(2))


def test_a_held_check_is_written_down_as_well(check):
    review, make = check
    append_word(review, who="ann", word="hold", reason="rebalancing")
    assert make("psi").action == "held"
    append_word(review, who="ann", word="force", reason="now")
    assert make().action == "retrain"


def test_old_pictures_go_and_summaries_stay(check):
    review, make = check
    for _ in range(4):
        made = make(keep_pictures=2)
    assert len(list(review.glob("drift/*/evidently.html"))) == 2
    assert (review / "drift" / made.id / "evidently.html").exists()
    assert len(list(review.glob("drift/*/index.html"))) == len(list(review.glob("drift/*/drift.json"))) == 4


def test_a_check_that_came_too_early_has_numbers_but_no_page(check, tmp_path):
    review, _ = check
    settings, paths = Settings(), {"current": tmp_path / "current", "panel": tmp_path / "panel", "source": ""}
    for who, reason in ((None, "no champion yet"), (CHAMPION, "carries no reference")):
        found = too_early(who, tmp_path / "none", 0, source="served", sha256="d")
        write_early(tmp_path / "early", found)
        made = record_decision(review, drift=tmp_path / "early", champion=who, settings=settings, **paths)
        assert (made.action, made.drift_report) == ("not_enough_data", None)
        assert reason in made.reason
    assert "nothing was served" in too_early(CHAMPION, tmp_path, 0, source="served", sha256="d").reason
    assert "can't be used" in too_early(CHAMPION, tmp_path, 1, source="served", sha256="d").reason


@pytest.mark.parametrize("text", ["{", "[]", '{"verdict": "drift"}'])
def test_a_broken_drift_report_is_named(check, tmp_path, text):
    review, make = check
    make()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "drift.json").write_text(text)
    count = len(read_trail(review).decisions)
    with pytest.raises(ContractError, match=r"drift\.json"):
        record_decision(
            review,
            drift=tmp_path / "broken",
            current=tmp_path / "current",
            panel=tmp_path / "panel",
            champion=CHAMPION,
            settings=Settings(),
            source="",
        )
    assert len(read_trail(review).decisions) == count


def test_the_drift_report_tells_what_was_decided_on_it_and_how_that_ended(check):
    review, make = check
    made = make("psi")
    page = review / made.drift_report
    first = page.read_text()
    assert first.startswith("<html>1<!--decision--><p><b>retrain</b> by rule (psi)")
    assert first.endswith("<!--/decision-->2</html>")
    assert "later" not in first
    better = registration(2).model_copy(update={"history": [reign(2, "<b>better</b> \\1")]})
    record_outcome(review, made.id, better)
    assert "promoted. &lt;b&gt;better&lt;/b&gt; \\1" in page.read_text()
