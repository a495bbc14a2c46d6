"""What the report's first lines tell readers who know no statistics: believe it or not, and why."""

import pytest
from made_evaluation import evaluation_of, registration, verdict

from components.contracts.documents.summary import RunSummary
from components.contracts.documents.verdict import Gate, Luck
from components.report.belief import belief, share
from components.report.sections.gates import gates_section
from components.report.summary import summarise


def luck(**change) -> Luck:
    known = {
        "models": 24,
        "earlier": 12,
        "unseen": 0,
        "chance": 0.0005,
        "sharpe": 2.5,
        "lucky_sharpe": 1.2,
        "bars": 250,
        "bars_needed": 180.0,
    }
    return Luck(**{**known, **change})


def gate(name: str, passed: bool, value: float | None = 0.5, needed: str = "") -> Gate:
    return Gate(
        name=name,
        value=value,
        threshold=0.05,
        comparison="<=",
        passed=passed,
        reason="what it asks: 0.5",
        needed=needed,
    )


def summary(told: Luck | None, *failed: str) -> RunSummary:
    gates = [gate(name, name not in failed) for name in ("spa", "deflated_sharpe", "drift", "better_than_x")]
    judged = verdict().model_copy(update={"gates": tuple(gates), "luck": told})
    return summarise(
        evaluation_of(0.1, names=("stack",)), judged, registration(), {"name": "n", "seed": 1}, truth=None
    )


def test_a_model_that_passed_everything():
    found = belief(summary(luck()))
    assert (found.kind, found.said) == ("good", "Luck does not explain this.")
    assert found.why == (
        "24 models were tried on this test window, 12 of them by other runs. If none were any good, the best"
        " of them would still look like this in fewer than 1 of 1,000 cases. A net Sharpe ratio of 2.50"
        " stands against 1.20, which luck would bring; 180 bars as good as these 250 are enough to tell them"
        " apart."
    )


def test_gates_that_let_luck_pass_are_not_believed():
    assert belief(summary(luck(chance=0.08))).said == "Luck may explain this."


@pytest.mark.parametrize(("name", "verb"), [("spa", "explains"), ("deflated_sharpe", "may explain")])
def test_a_model_that_luck_explains(name, verb):
    found = belief(summary(luck(chance=0.34, bars_needed=812.0, unseen=3), name, "drift"))
    assert (found.kind, found.said) == ("bad", f"Luck {verb} this.")
    assert "27 models were tried on this test window, 15 of them by other runs." in found.why
    assert "in 1 of 3 cases" in found.why
    assert "812 bars as good as these 250 would be needed" in found.why
    assert "the best of the 24 whose returns are kept would still" in found.why
    hopeless = belief(summary(luck(chance=0.6, bars_needed=None, models=1, earlier=0), name)).why
    assert "One model was tried on this test window. If none were any good, it would" in hopeless
    assert "in 60% of cases" in hopeless
    assert "more bars like these would not help" in hopeless


def test_a_model_that_loses_is_not_called_lucky():
    found = belief(summary(luck(chance=0.95, sharpe=-4.69, bars_needed=None), "spa", "deflated_sharpe"))
    assert (found.kind, found.said) == ("bad", "It loses money.")
    assert found.why == (
        "A net Sharpe ratio of -4.69 over 250 bars, after costs of 10 bps a side: whatever its forecasts are"
        " worth, trading on them did not pay. 24 models were tried on this test window, 12 of them by other"
        " runs."
    )
    assert belief(summary(luck(chance=0.5, sharpe=0.0), "spa")).said == "Luck explains this."


def test_a_model_that_failed_for_other_reasons():
    found = belief(summary(luck(), "drift", "better_than_x"))
    assert (found.kind, found.said) == ("warn", "Hardly luck, but not good enough.")
    assert found.why.endswith("It failed: drift, better than x.")


def test_what_cannot_be_said_is_not_said():
    assert belief(summary(luck(chance=None, bars=20))).said == "Nothing can be said."
    assert "20 bars are too few" in belief(summary(luck(chance=None, bars=20))).why
    assert belief(summary(luck(chance=None, sharpe=None))).why == "Its return is the same in each bar."
    assert belief(summary(None)) is None


def test_chances_in_percent():
    assert [share(chance) for chance in (0.0004, 0.001, 0.0312, 0.5)] == ["< 0.1%", "0.1%", "3.1%", "50.0%"]


def test_the_table_of_gates_says_what_was_not_asked_and_what_was_needed():
    asked = summary(luck())
    gates = (
        gate("spa", False, needed="1.4 times the gain"),
        gate("overfitting", True, value=None),
        gate("x", True),
    )
    rows = gates_section(asked.model_copy(update={"gates": gates})).gates
    assert [(row.word, row.kind, row.needed) for row in rows] == [
        ("fail", "bad", "1.4 times the gain"),
        ("not asked", "soft", ""),
        ("pass", "good", ""),
    ]
