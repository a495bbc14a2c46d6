"""The calibration gate asks bands of a number and probabilities of a class."""

import pytest

from components.contracts.documents.class_figures import ClassFigures
from components.gates.class_gates import calibration_gate
from components.gates.config import Settings
from tests.report.made_evaluation import evaluation_of


def asked(target: str, error: float | None, few: str | None = None):
    evaluation = evaluation_of(0.1).model_copy(update={"target": target})
    figures = error is not None and ClassFigures(
        rows=40,
        average_precision=0.4,
        brier=0.6,
        brier_of_shares=0.66,
        calibration_error=error,
        classes=[],
        by_symbol=[],
        by_month=[],
    )
    block = evaluation.experts["stack"].test.model_copy(update={"classes": figures or None})
    return calibration_gate(block, evaluation, Settings(), few)


@pytest.mark.parametrize(("error", "passed"), [(0.02, True), (0.1, True), (0.11, False)])
def test_probabilities_are_held_against_their_frequencies(error, passed):
    gate = asked("trade_class", error)
    assert (gate.name, gate.value, gate.passed) == ("class_calibration", error, passed)


def test_a_model_of_classes_without_probabilities_does_not_pass():
    gate = asked("direction", None)
    assert not gate.passed
    assert "gave no probabilities" in gate.reason


def test_too_few_bars_prove_nothing():
    assert not asked("trend", 0.01, "only 3 bars").passed


def test_a_number_is_asked_for_the_coverage_of_its_band():
    gate = asked("log_return", 0.01)
    assert gate.name == "calibration"
