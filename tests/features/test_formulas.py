"""Formula factors: what they compute, where they are null, and what their reader refuses."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.features.config import Settings
from components.features.formulas import (
    FUNCTIONS,
    LARGEST_DEPTH,
    LARGEST_LENGTH,
    LONGEST_TEXT,
    FormulaError,
    parse_formula,
)

TABLE = pl.DataFrame(
    {
        "a": [1.0, -4.0, 0.0, None, float("nan"), 2.0],
        "b": [2.0, 0.5, 0.0, 1.0, 1.0, float("inf")],
        "x.y": [1, 2, 3, 4, 5, 6],
    },
    strict=False,
)


def values(text: str, table: pl.DataFrame = TABLE) -> list:
    return table.select(parse_formula(text).expression.alias("value"))["value"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("add(a, b)", [3, -3.5, 0, None, None, None]),
        ("sub(a, b)", [-1, -4.5, 0, None, None, None]),
        ("mul(a, -2.5e-1)", [-0.25, 1, 0, None, None, -0.5]),
        ("div(a, b)", [0.5, -8, None, None, None, None]),
        ("neg(a)", [-1, 4, 0, None, None, -2]),
        ("abs(a)", [1, 4, 0, None, None, 2]),
        ("sqrt(a)", [1, 2, 0, None, None, math.sqrt(2)]),
        ("log(a)", [0, math.log(4), None, None, None, math.log(2)]),
        ("inv(a)", [1, -0.25, None, None, None, 0.5]),
        ("max(a, b)", [2, 0.5, 0, None, None, None]),
        ("min( a ,b )", [1, -4, 0, None, None, None]),
        ("a", [1, -4, 0, None, None, 2]),
        (" sub ( max(a,.5), x.y ) ", [0, -1.5, -2.5, None, None, -4]),
    ],
)
def test_values_worked_out_by_hand(text, expected):
    found = values(text)
    assert [value is None for value in found] == [value is None for value in expected]
    np.testing.assert_allclose(
        [v for v in found if v is not None], [v for v in expected if v is not None], rtol=1e-15
    )


def test_every_function_gives_null_for_null():
    table = pl.DataFrame({"a": [None, 1.0], "b": [1.0, None]}, schema={"a": pl.Float64, "b": pl.Float64})
    for name, (arity, _) in FUNCTIONS.items():
        assert values(f"{name}(a)" if arity == 1 else f"{name}(a, b)", table)[0] is None
        assert arity == 1 or values(f"{name}(a, b)", table)[1] is None


def test_overflow_is_null_not_infinity():
    assert values("mul(a, 1e300)", pl.DataFrame({"a": [1e300, 1.0]})) == [None, 1e300]
    assert values("max(sub(mul(a, 1e300), mul(a, 1e300)), a)", pl.DataFrame({"a": [1e300]})) == [None]


def test_what_is_known_about_a_formula():
    formula = parse_formula("add(b, mul(a, b))")
    assert (formula.columns, formula.length, formula.depth) == (("b", "a"), 5, 3)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("ad(a, b)", 1, "Close names: add"),
        ("add(a, moment_20)", 8, "Close names: momentum_20"),
        ("add(a)", 1, "takes 2 arguments, found 1"),
        ("neg(a, b)", 1, "takes 1 argument, found 2"),
        ("add(a, b", 9, "ends too early"),
        ("add(a b)", 7, "should stand here, found 'b'"),
        ("add(, b)", 5, "should stand here, found ','"),
        ("", 1, "ends too early"),
        ("a b", 3, "should end here"),
        ("a)", 2, "should end here"),
        ("a + b", 3, "'+' is not part of the language"),
        ("__import__('os')", 1, "no function is called"),
        ("a.__class__.__mro__[1]", 20, "'[' is not part"),
        ("add(a, 1e999)", 8, "too large"),
        ("add(1, 2)", 1, "reads no column"),
        ("add(a,, b)", 7, "should stand here"),
        ("add()", 5, "should stand here"),
    ],
)
def test_what_can_not_be_read_says_where_and_what_to_do(text, position, problem):
    with pytest.raises(FormulaError) as refused:
        parse_formula(text, ["a", "b", "momentum_20"])
    message = str(refused.value)
    assert f"position {position}:" in message
    assert problem in message
    shown, mark = message.splitlines()[1:3]
    assert mark.index("^") - 2 == position - 1
    assert text in shown


def test_bounds_on_length_and_depth():
    deep = "neg(" * (LARGEST_DEPTH - 1) + "a" + ")" * (LARGEST_DEPTH - 1)
    assert parse_formula(deep).depth == LARGEST_DEPTH
    with pytest.raises(FormulaError, match="deeper than"):
        parse_formula(f"neg({deep})")
    with pytest.raises(FormulaError, match=f"longer than {LARGEST_LENGTH} "):
        parse_formula(_balanced(8))
    with pytest.raises(FormulaError, match=f"longer than {LONGEST_TEXT:,}"):
        parse_formula("neg(" * LONGEST_TEXT)


def _balanced(depth: int) -> str:
    return "a" if depth == 1 else f"add({_balanced(depth - 1)}, {_balanced(depth - 1)})"


@given(st.text(alphabet="ab(),.-+ 1e_9nulmaxdiv\n\x00é", max_size=60))
def test_any_text_is_read_or_refused_in_kind(text):
    try:
        formula = parse_formula(text)
    except FormulaError:
        return
    pl.DataFrame({name: [1.0] for name in formula.columns}).select(formula.expression)


@pytest.mark.parametrize(
    ("formulas", "words"),
    [
        ({"one": "ad(momentum_20_rank, 1)"}, "Close names: add"),
        ({"one": "add(sector, 1)"}, "'sector' holds no number"),
        ({"one": "add(known_time, momentum_20)"}, "'known_time' holds no number"),
        (
            {"one": "neg(close)", "two": "neg(one)"},
            "formula 'two' reads 'one', which is made by the formula 'one'",
        ),
        (
            {"one": "neg(two_rank)", "two": "neg(close)"},
            "formula 'one' reads 'two_rank', which is made by the formula 'two'",
        ),
    ],
)
def test_formulas_that_could_only_be_empty_are_refused_in_the_config(formulas, words):
    declared = [{"name": name, "formula": text} for name, text in formulas.items()]
    with pytest.raises(ValueError, match=words):
        Settings(formulas=declared)
    assert len(
        Settings(
            formulas=[{"name": name, "formula": "sub(close, momentum_20_rank)"} for name in formulas]
        ).formulas
    ) == len(formulas)
