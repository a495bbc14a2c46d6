"""Capacity in the report: what is said of curves whose crossings are known; nothing where nobody can tell."""

import pytest
from made_evaluation import evaluation_of

from components.contracts.documents.evaluation import CapacityRow
from components.report.sections.capacity import capacity_of, money


def evaluation_with(sharpes: list[float | None], names: tuple[str, ...] = ("stack",)):
    """Capitals of 1e5, 1e6, ..., for each name."""
    evaluation = evaluation_of(0.05, names=names)
    rows = [
        CapacityRow(capital=10.0 ** (5 + i), sharpe_net=value, return_net=0.1, cost_share=None)
        for i, value in enumerate(sharpes)
    ]
    for name in names:
        evaluation.experts[name].test.portfolio.long_short.capacity.extend(rows)
    return evaluation


@pytest.mark.parametrize(
    ("sharpes", "said"),
    [
        ([2.0, 2.0, 0.0, -2.0], "Stack: at 3.2 M half of the Sharpe ratio is gone, at 10 M nothing is left."),
        ([2.0, 1.5, 1.0, 0.5], "Stack: at 10 M half of the Sharpe ratio is gone."),
        ([2.0, 1.9, 1.8], "The stack keeps more than half of its Sharpe ratio up to 10 M."),
        ([-0.1, -0.2], "The stack earns nothing after costs at a capital of 100 k or more."),
        ([None, None], "The stack earns nothing after costs at a capital of 100 k or more."),
    ],
)
def test_what_is_said_of_a_curve(sharpes, said):
    found = capacity_of(evaluation_with(sharpes), ("stack", "best_single"))
    assert found.picture.note == said
    assert len(found.rows) == len(sharpes)
    assert found.rows[0][0] == "100 k"
    assert found.rows[0][3] == "–"


def test_others_stand_beside_the_stack_and_nothing_stands_without_it():
    names = ("stack", "best_single")
    assert len(capacity_of(evaluation_with([1.0], names), names).picture.figure["data"]) == 2
    assert capacity_of(evaluation_with([1.0], ("best_single",)), names) is None
    assert capacity_of(evaluation_of(0.05), names) is None


def test_a_fall_without_a_floor_is_cut_off():
    figure = capacity_of(evaluation_with([2.0, -50.0]), ("stack",)).picture.figure
    assert -2.6 < figure["layout"]["yaxis"]["range"][0] < -2


@pytest.mark.parametrize(
    ("value", "said"), [(950.0, "950"), (1e5, "100 k"), (3.2e7, "32 M"), (1e9, "1 B"), (1.26e6, "1.3 M")]
)
def test_amounts_of_money(value, said):
    assert money(value) == said
