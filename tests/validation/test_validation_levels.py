"""What must hold for a jump to count as a change of scale: one row that has it all, then one field the other
way.
"""

from dataclasses import fields, replace

import polars as pl
import pytest

from components.validation.levels import Jump, asked_of_jumps, kind

NOT_ASKED = (
    "doubtful",
    "small",
    "as_news",
    "large_as_unit",
    "beyond_belief",
    "another",
    "in_shares_too",
    "in_value",
    "locked",
)
ALL_HOLD = Jump(**{field.name: pl.lit(field.name not in NOT_ASKED) for field in fields(Jump)})

# A fall from 100 to 50 overnight, usual range 2 %, trading as ever, and 50 three bars later.
SPLIT = {
    "size": 0.693,
    "jump": -0.693,
    "distance": 0.0,
    "bonus_distance": 0.1,
    "one_price_share": 0.0,
    "move": -0.693,
    "step": 1,
    "sighted": True,
    "span": 0.02,
    "span_ratio": 1.0,
    "volume_ratio": 1.0,
    "turnover_ratio": 1.0,
    "earlier_close": 100.0,
    "later_close": 50.0,
    "usual_range": 0.02,
    "usual_gap": 0.005,
    "later_volume_ratio": 1.0,
    "later_turnover_ratio": 1.0,
    "later_span_ratio": 1.0,
}
# A busy day: twice the shares of a split that stay, on ranges half as wide again.
BUSY = {"volume_ratio": 6.0, "turnover_ratio": 3.0, "later_volume_ratio": 6.0, "later_turnover_ratio": 3.0}
# Nine times the shares, and the value traded as before.
NINE = {"volume_ratio": 9.0, "later_volume_ratio": 9.0}


def kind_of(jump: Jump) -> str | None:
    return pl.select(kind(jump)).item()


def kind_measured(**changed: float) -> str | None:
    return pl.DataFrame([SPLIT | changed]).select(kind(asked_of_jumps())).item()


def fallen(ratio: float, **changed: float) -> dict[str, float]:
    size = pl.select(pl.lit(ratio).log()).item()
    way = {"size": size, "jump": -size, "move": -size, "later_close": 100 / ratio}
    return way | changed


def test_a_jump_of_which_all_holds_is_a_split():
    assert kind_of(ALL_HOLD) == "unadjusted_split"


@pytest.mark.parametrize("answer", [False, None])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["lasts"], None),
        (["stands_out"], None),
        (["calm"], "unadjusted_split"),
        (["contained"], "unadjusted_split"),
        (["calm", "calm_in_shares", "contained"], None),
        (["calm", "calm_in_shares", "at_ratio_exactly", "at_bonus_ratio"], "unexplained_step"),
        (["at_ratio", "at_ratio_exactly", "at_bonus_ratio"], "currency_jump"),
        (["at_ratio", "at_ratio_exactly", "at_bonus_ratio", "calm_in_shares"], "unexplained_step"),
        (["at_ratio", "at_ratio_exactly", "at_bonus_ratio", "large_as_currency"], "unexplained_step"),
    ],
)
def test_fields_the_other_way(changed, answer, expected):
    other = dict.fromkeys(changed, pl.lit(answer, dtype=pl.Boolean))
    assert kind_of(replace(ALL_HOLD, **other)) == expected


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        ({"another": True}, "recycled_ticker"),
        ({"large_as_unit": True}, "currency_jump"),
        ({"as_news": True, "calm": False, "calm_in_shares": False}, "unexplained_step"),
        ({"small": True, "large_as_currency": False}, "bonus_issue"),
        ({"small": True, "large_as_currency": False, "at_bonus_ratio": False}, "unexplained_step"),
        (
            {"beyond_belief": True, "calm": False, "calm_in_shares": False, "contained": False},
            "currency_jump",
        ),
    ],
)
def test_what_a_found_jump_is_called(turned, expected):
    assert kind_of(replace(ALL_HOLD, **{name: pl.lit(value) for name, value in turned.items()})) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "unadjusted_split"),
        ({"later_close": 75.0}, None),  # half of the way back: more than 30 % reverted
        ({"later_close": 60.0}, "unadjusted_split"),  # 0.511 of 0.693 remains: 74 %
        ({"later_volume_ratio": 2.1, "later_turnover_ratio": 2.1}, "unadjusted_split"),  # a narrow day
        ({"later_volume_ratio": 2.1, "later_turnover_ratio": 2.1, "span": 0.15}, None),
        ({"later_volume_ratio": 2.1, "span": 0.15}, "unadjusted_split"),  # turnover stayed ordinary
        (BUSY, "unadjusted_split"),
        (BUSY | {"turnover_ratio": 4.6}, "unexplained_step"),
        (BUSY | {"turnover_ratio": 4.6, "distance": 0.03}, None),
        (BUSY | {"volume_ratio": 16.0, "turnover_ratio": 8.1}, None),
        (BUSY | {"span_ratio": 2.4}, "unadjusted_split"),
        (BUSY | {"span_ratio": 2.6}, "unexplained_step"),
        (BUSY | {"span_ratio": 2.6, "turnover_ratio": 2.4, "later_turnover_ratio": 2.4}, "unadjusted_split"),
        (BUSY | {"span_ratio": 2.6, "span": 0.017}, "unadjusted_split"),
        (BUSY | {"span_ratio": 4.1}, None),
        (BUSY | {"sighted": False}, None),
        (BUSY | {"distance": 0.03}, "unexplained_step"),  # 0.02 and a quarter of the usual range are 0.025
        ({"later_span_ratio": 3.4}, "unadjusted_split"),  # ordinary value traded
        ({"later_span_ratio": 3.6}, "unexplained_step"),
        ({"later_span_ratio": 4.1}, None),
        ({"usual_range": 0.14}, None),  # 0.693 is less than five usual ranges
        ({"step": 9, "usual_range": 0.05}, None),  # nine bars may go three times as far
        ({"step": 9}, "unadjusted_split"),
        ({"step": 22}, "recycled_ticker"),
        ({"distance": 0.05}, "currency_jump"),  # log(1.03) and half a usual range are 0.0396
        ({"distance": 0.05, "volume_ratio": 4.5}, "unexplained_step"),  # a crash sells shares
        (fallen(9.0, distance=0.1) | NINE, "unadjusted_split"),
        (fallen(9.0, distance=0.1) | NINE | {"later_volume_ratio": 4.4}, "unexplained_step"),
        (fallen(9.0, distance=0.1) | NINE | {"later_span_ratio": 2.1, "span": 0.5}, None),  # a crash
        (fallen(100.0) | {"later_turnover_ratio": 0.01, "turnover_ratio": 0.01}, "currency_jump"),
        (fallen(1.25, distance=0.2, bonus_distance=0.0, span=0.0), None),  # limit down all day
        (fallen(1.25, distance=0.2, bonus_distance=0.0, span=0.0, one_price_share=0.3), "bonus_issue"),
        ({"span": 0.0}, "unadjusted_split"),  # no limit is as far
        ({"move": -0.80}, "currency_jump"),  # the bar itself moved on by more than twice log(1.03) + 0.02
        (fallen(1.22, distance=0.2, bonus_distance=0.017), "unexplained_step"),
        (fallen(1.25, distance=0.2, bonus_distance=0.0), "bonus_issue"),
        (fallen(1.25, distance=0.2, bonus_distance=0.0, usual_range=0.06), "bonus_issue"),
        (fallen(1.25, distance=0.2, bonus_distance=0.0, usual_range=0.06, usual_gap=0.02), None),
        (fallen(1.25, distance=0.2, bonus_distance=0.0) | BUSY, "unexplained_step"),
        (fallen(1.8, distance=0.1, bonus_distance=0.0), "unadjusted_split"),
        (fallen(1.8, distance=0.1, bonus_distance=0.0) | BUSY, "unexplained_step"),
        (fallen(1.5) | BUSY, "unexplained_step"),
        ({"later_volume_ratio": float("nan"), "later_turnover_ratio": float("nan"), "span": 0.15}, None),
    ],
)
def test_one_measured_row_and_what_changes_its_kind(changed, expected):
    assert kind_measured(**changed) == expected


def test_a_split_of_three_to_one_or_more_may_come_with_livelier_trading():
    wide = {"later_volume_ratio": 3.9, "later_turnover_ratio": 3.9, "span": 0.3}
    assert kind_measured(**fallen(3), **wide) == "unadjusted_split"
    assert kind_measured(**wide) is None
