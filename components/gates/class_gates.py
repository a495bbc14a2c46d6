"""The calibration gate: of bands where a number is predicted, of probabilities where classes are.

A band from p10 to p90 around a label that is -1, 0 or 1 holds nearly all of them whatever the model knows, so
that its coverage is not asked there.
"""

from components.contracts.classes import class_values
from components.contracts.documents.evaluation import Evaluation, Measurement
from components.contracts.documents.verdict import Gate
from components.gates.config import Settings
from components.gates.gate import gate


def calibration_gate(block: Measurement, evaluation: Evaluation, settings: Settings, few: str | None) -> Gate:
    """Whether bands cover, or probabilities happen as often, as they say; `few` says in words that the bars
    are too few.
    """
    if not class_values(evaluation.target):
        return _coverage_gate(block.calibration.inside_p10_p90, settings, few)
    figures = block.classes
    absent = None if figures else "the model gave no probabilities"
    return gate(
        "class_calibration",
        figures and figures.calibration_error,
        "<=",
        settings.max_class_calibration_error,
        "mean distance of the classes' probabilities from their frequencies",
        lacking=absent or few,
    )


def _coverage_gate(inside: float | None, settings: Settings, few: str | None) -> Gate:
    distance = None if inside is None else abs(inside - settings.coverage)
    found = "unknown" if inside is None else f"{inside:.3f}"
    what = f"distance of the p10 to p90 coverage ({found}) from {settings.coverage:g}"
    return gate("calibration", distance, "<=", settings.coverage_tolerance, what, lacking=few)
