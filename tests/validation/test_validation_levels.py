"""What must hold for a jump to count as a change of scale: one row that has it all, then one field the other
way.
"""

from dataclasses import fields, replace

import polars as pl
import pytest

from components.validation.levels import Jump, asked_of_jumps, kind

ALL_HOLD = Jump(**{field.name: pl.lit(True) for field in fields(Jump)})

# A fall from 100 to 50 overnight, usual range 2 %, trading as ever, and 50 three bars later.
SPLIT = {
    "size": 0.693,
    "jump": -0.693,
    "distance": 0.0,
    "move": -0.693,
    "earlier_close": 100.0,
    "later_close": 50.0,
    "usual_range": 0.02,
    "later_volume_ratio": 1.0,
    "later_turnover_ratio": 1.0,
    "later_span_ratio": 1.0,
}


def kind_of(jump: Jump) -> str | None:
    return pl.select(kind(jump)).item()


def kind_measured(**changed: float) -> str | None:
    return pl.DataFrame([SPLIT | changed]).select(kind(asked_of_jumps())).item()


def test_a_jump_of_which_all_holds_is_a_split():
    assert kind_of(ALL_HOLD) == "unadjusted_split"


@pytest.mark.parametrize("answer", [False, None])
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("lasts", None),
        ("traded_calmly", None),
        ("stands_out", None),
        ("at_simple_ratio", "currency_jump"),
        ("large_as_currency", "unadjusted_split"),
    ],
)
def test_one_field_the_other_way(field, answer, expected):
    assert kind_of(replace(ALL_HOLD, **{field: pl.lit(answer, dtype=pl.Boolean)})) == expected


def test_what_is_neither_at_a_ratio_nor_large_is_left_alone():
    assert kind_of(replace(ALL_HOLD, at_simple_ratio=pl.lit(False), large_as_currency=pl.lit(False))) is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "unadjusted_split"),
        ({"later_close": 75.0}, None),  # half of the way back: more than 30 % reverted
        ({"later_close": 60.0}, "unadjusted_split"),  # 0.511 of 0.693 remains: 74 %
        ({"later_volume_ratio": 2.1, "later_turnover_ratio": 2.1}, None),
        ({"later_volume_ratio": 2.1}, "unadjusted_split"),  # turnover stayed ordinary
        ({"later_span_ratio": 2.1}, None),
        ({"usual_range": 0.14}, None),  # 0.693 is less than five usual ranges
        ({"distance": 0.05}, "currency_jump"),  # log(1.03) and half a usual range are 0.0396
        ({"move": -0.80}, "currency_jump"),  # the bar itself moved on by more than twice log(1.03) + 0.02
        ({"size": 0.2, "jump": -0.2, "distance": 0.05, "later_close": 81.0}, None),  # below log(1.4) = 0.336
        ({"later_volume_ratio": float("nan"), "later_turnover_ratio": float("nan")}, None),
    ],
)
def test_one_measured_row_and_what_changes_its_kind(changed, expected):
    assert kind_measured(**changed) == expected


def test_a_split_of_three_to_one_or_more_may_come_with_livelier_trading():
    fallen = {"size": 1.0986, "jump": -1.0986, "move": -1.0986, "later_close": 33.3}
    lively = {"later_volume_ratio": 3.9, "later_turnover_ratio": 3.9}
    assert kind_measured(**fallen, **lively) == "unadjusted_split"
    assert kind_measured(**lively) is None
