"""Decisions: every answer that a drift report, the trail and the reviewers' words can lead to."""

from datetime import UTC, datetime

import polars as pl
import pytest

from components.contracts import TIME
from components.contracts.documents.champion import Registration
from components.contracts.documents.drift import (
    RULES,
    CurrentRows,
    DriftReport,
    DriftRule,
    ReferenceRows,
)
from components.contracts.documents.retraining import Decision, Incumbent, Outcome, Word
from components.retraining.config import TRIGGERS, Settings
from components.retraining.decide import Check, decide, outcome
from components.retraining.trail import Place, Trail
from tests.retraining.entries import SOMEWHERE, decided, ended, looked_at, registered, reign

EVERY_RULE = (*TRIGGERS, *(name for name in RULES if name not in TRIGGERS))
BARS = pl.datetime_range(
    datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 10, tzinfo=UTC), "1d", time_unit="us", eager=True
).cast(TIME)
CHAMPION = Incumbent(version=3, bundle_sha256="c" * 64)
NOBODY = Incumbent(version=None, bundle_sha256=None)
DATA = looked_at(BARS[-1])


def drift(*fired: str, verdict: str | None = None) -> DriftReport:
    rules = tuple(
        DriftRule(
            rule=name,
            fired=name in fired,
            reason=f"{name} moved",
            value=1.0,
            threshold=0.5,
            factors=(),
        )
        for name in EVERY_RULE
    )
    unknown = DriftReport.nothing_measured(
        "the report's reason",
        ReferenceRows(**dict.fromkeys(ReferenceRows.model_fields)),
        CurrentRows(**dict.fromkeys(CurrentRows.model_fields) | {"rows": 0, "source": "served"}),
    )
    found = verdict or ("drift" if fired else "no_drift")
    return unknown.model_copy(update={"verdict": found, "rules": rules})


def at(number: int) -> str:
    return f"20240310T0000{number:02d}000000Z"


def made(
    number: int, action: str, *, newest_bar: datetime = BARS[10], outcome: Outcome | None = None, **more
) -> Decision:
    return decided(
        Place(at(number), BARS[-1]),
        action=action,
        reason="an old reason",
        data=looked_at(newest_bar),
        outcome=outcome,
        **more,
    )


def said(number: int, word: str) -> Word:
    return Word(id=at(number), when=BARS[-1], who="ann", word=word, reason=f"why {word}")


def decision(
    found: DriftReport, *entries: Decision | Word, champion=CHAMPION, bars=BARS, **settings
) -> Decision:
    trail = Trail(
        tuple(e for e in entries if isinstance(e, Decision)), tuple(e for e in entries if isinstance(e, Word))
    )
    return decide(Check(found, champion, DATA, bars), trail, Settings(**settings), SOMEWHERE)


DONE = ended()


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_each_rule_triggers_and_is_named(rule):
    result = decision(drift(rule), rules=list(EVERY_RULE))
    assert (result.action, result.by, result.rules) == ("retrain", "rule", (rule,))
    assert f"{rule} moved" in result.reason
    assert result.data == DATA
    assert result.champion == CHAMPION


def test_broken_data_asks_for_a_person_unless_it_is_told_otherwise():
    assert [rule for rule in EVERY_RULE if decision(drift(rule)).action == "retrain"] == list(TRIGGERS)


def test_without_drift_nothing_happens():
    result = decision(drift())
    assert (result.action, result.rules, result.reason) == ("none", (), "the report's reason")


def test_a_rule_that_is_not_enabled_is_reported_but_triggers_nothing():
    result = decision(drift("psi"), rules=["ks"])
    assert result.action == "none"
    assert "fired but not in retraining.rules: psi" in result.reason


def test_a_verdict_of_no_drift_outweighs_a_single_rule():
    assert decision(drift("ks", verdict="no_drift")).action == "none"


def test_too_little_data_is_a_decision_of_its_own():
    assert decision(drift(verdict="not_enough_data"), champion=NOBODY).action == "not_enough_data"


@pytest.mark.parametrize(
    ("newest", "action"), [(BARS[-20], "cooling_down"), (BARS[-21], "retrain"), (BARS[-1], "cooling_down")]
)
def test_cool_down_counts_bars_of_data(newest, action):
    result = decision(drift("psi"), made(1, "retrain", newest_bar=newest, outcome=DONE), cool_down_bars=20)
    assert result.action == action
    if newest == BARS[-20]:
        assert "19 of 20 bars" in result.reason


def test_cool_down_is_counted_from_the_data_of_the_resumed_retraining():
    old = [
        made(1, "retrain", newest_bar=BARS[0], outcome=DONE),
        made(2, "resume", newest_bar=BARS[-5], outcome=DONE, resumes=at(1)),
    ]
    assert decision(drift("psi"), *old).action == "cooling_down"


def test_checks_without_retraining_do_not_cool_down():
    assert decision(drift("psi"), made(1, "none", newest_bar=BARS[-1])).action == "retrain"


def test_an_unfinished_retraining_is_resumed_whatever_the_report_says():
    for found in (drift(), drift("psi"), drift(verdict="not_enough_data")):
        result = decision(found, made(1, "retrain"))
        assert (result.action, result.resumes) == ("resume", at(1))
        assert "an old reason" in result.reason


def test_a_check_that_trains_nothing_advises_and_leaves_all_as_it_was():
    def advice(*entries, found):
        trail = Trail(
            tuple(e for e in entries if isinstance(e, Decision)),
            tuple(e for e in entries if isinstance(e, Word)),
        )
        check = Check(found, CHAMPION, DATA, BARS, trains=False)
        return decide(check, trail, Settings(), SOMEWHERE)

    for entries in ((), (made(1, "retrain"),), (said(1, "force"),)):
        result = advice(*entries, found=drift("psi"))
        assert (result.action, result.resumes, result.retrains) == ("advised", None, False)
        assert "this check trains nothing" in result.reason
    assert advice(found=drift()).action == "none"
    assert advice(said(1, "hold"), found=drift("psi")).action == "held"
    # The next retraining decides as if nobody had looked.
    assert decision(drift("psi"), made(1, "advised")).action == "retrain"
    assert decision(drift(), said(1, "force"), made(2, "advised")).action == "retrain"
    assert decision(drift(), made(1, "retrain"), made(2, "advised")).action == "resume"


def test_a_hold_stops_everything_even_an_unfinished_retraining():
    for entries in ([], [made(1, "retrain")]):
        result = decision(drift("psi"), *entries, said(2, "hold"))
        assert (result.action, result.by, result.who) == ("held", "reviewer", "ann")
        assert "why hold" in result.reason


def test_a_hold_says_what_would_count_without_it():
    assert "psi moved" in decision(drift("psi"), said(1, "hold")).reason
    assert "the report's reason" in decision(drift(), said(1, "hold")).reason


def test_approve_lifts_a_hold():
    words = said(1, "hold"), said(2, "approve")
    assert decision(drift("psi"), *words).action == "retrain"
    assert decision(drift("psi"), *words).by == "rule"
    assert decision(drift(), *words).action == "none"
    assert decision(drift(), made(1, "retrain"), *words).action == "resume"


def test_force_retrains_whatever_the_report_the_hold_and_the_cool_down_say():
    for found in (drift(), drift(verdict="not_enough_data"), drift("psi")):
        entries = [made(1, "retrain", newest_bar=BARS[-1], outcome=DONE), said(2, "hold"), said(3, "force")]
        result = decision(found, *entries, approval="required", champion=NOBODY)
        assert (result.action, result.by, result.who) == ("retrain", "reviewer", "ann")
        assert "why force" in result.reason


@pytest.mark.parametrize("answer", ["retrain", "resume"])
def test_a_force_counts_once(answer):
    closed = [made(1, "retrain", outcome=DONE), said(2, "force"), made(3, answer, outcome=DONE)]
    assert decision(drift(), *closed).action == "none"


def test_a_force_outlives_a_later_approve_but_not_a_later_hold():
    assert decision(drift(), said(1, "force"), said(2, "approve")).action == "retrain"
    assert decision(drift(), said(1, "force"), said(2, "hold")).action == "held"
    assert decision(drift(), said(1, "force"), said(2, "hold"), said(3, "approve")).action == "none"


def test_with_approval_required_a_trigger_waits():
    assert decision(drift("psi"), approval="required").action == "waiting_for_approval"
    assert decision(drift(), approval="required").action == "none"


def test_an_approved_decision_goes_ahead_with_the_rules_that_it_waited_for():
    result = decision(drift(), made(1, "waiting_for_approval"), said(2, "approve"), approval="required")
    assert (result.action, result.by, result.rules) == ("retrain", "reviewer", ("psi",))
    assert at(1) in result.reason


def test_an_approval_concerns_only_what_waited_before_it():
    assert (
        decision(
            drift("psi"), said(1, "approve"), made(2, "waiting_for_approval"), approval="required"
        ).action
        == "waiting_for_approval"
    )


@pytest.mark.parametrize("later", ["none", "retrain"])
def test_what_a_later_check_settled_waits_no_longer(later):
    entries = [
        made(1, "waiting_for_approval"),
        made(2, later, outcome=DONE if later == "retrain" else None),
        said(3, "approve"),
    ]
    assert decision(drift(), *entries, approval="required").action == "none"


def test_an_approval_counts_once():
    entries = [made(1, "waiting_for_approval"), said(2, "approve"), made(3, "retrain", outcome=DONE)]
    assert (
        decision(drift("psi"), *entries, approval="required", cool_down_bars=0).action
        == "waiting_for_approval"
    )


def registration(status: str, version: int | None, after: int | None) -> Registration:
    return registered(version, after, status, history=[reign(after, "better by 0.02")])


@pytest.mark.parametrize(
    ("status", "version", "after", "expected", "reason"),
    [
        ("registered", 4, 4, "promoted", "better by 0.02"),
        ("registered", 4, 3, "kept_champion", "gates say"),
        ("rejected", None, 3, "rejected", "gates say"),
        ("unchanged", 3, 3, "kept_champion", "gates say"),
        (
            "unchanged",
            4,
            4,
            "promoted",
            "better by 0.02",
        ),  # killed after the promotion, before the outcome was written
    ],
)
def test_the_outcome_follows_from_the_registry_and_the_champion_of_the_decision(
    status, version, after, expected, reason
):
    found = outcome(decided(champion=CHAMPION), registration(status, version, after))
    assert found.model_dump(exclude={"when"}) == {
        "status": expected,
        "version": version,
        "champion_before": 3,
        "champion_after": after,
        "reason": reason,
    }


def test_a_first_model_is_promoted():
    assert outcome(decided(champion=NOBODY), registration("registered", 1, 1)).status == "promoted"
