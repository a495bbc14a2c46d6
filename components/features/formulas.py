"""Formula factors: a small language over columns, read without `eval` and turned into one Polars expression.

    add(momentum_20_rank, mul(-0.5, max(reversal_5_rank, 0)))

Names are columns; the functions are those of `FUNCTIONS`, as gplearn prints them. A value is null where a
column that the formula reads is null, NaN or infinite, where a division has no answer, or where the result is
not finite.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import polars as pl

from components.features.errors import FeatureError

# Below this a denominator or the argument of a logarithm counts as zero: the result is null. Far below the
# range of a bar of the cheapest coin, and above the rounding of values near 1.
SMALLEST = 1e-14
LONGEST_TEXT, LARGEST_LENGTH, LARGEST_DEPTH = 4_000, 200, 20
NAME = r"[A-Za-z_][A-Za-z0-9_.]*"
TOKEN = re.compile(
    rf"\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>{NAME})|(?P<sign>[(),])|(?P<end>$))"
)


class FormulaError(FeatureError):
    """A formula can't be read; the message shows it, with the place and what was expected there."""


@dataclass(frozen=True)
class Formula:
    """`text` as given, its Polars `expression` (Float64), the `columns` it reads in order of appearance, its
    `length` (functions, columns and numbers) and `depth`.
    """

    text: str
    expression: pl.Expr
    columns: tuple[str, ...]
    length: int
    depth: int


def parse_formula(text: str, known: Collection[str] | None = None) -> Formula:
    """Read a formula.

    Parameters
    ----------
    known : columns that there are; others are refused, with close names. None: every name passes.

    Raises
    ------
    FormulaError
        For an unknown function or column, a wrong number of arguments, a misplaced sign, a formula that reads
        no column, or one that is longer or deeper than LONGEST_TEXT, LARGEST_LENGTH and LARGEST_DEPTH allow.
    """
    if len(text) > LONGEST_TEXT:
        raise FormulaError(
            f"A formula of {len(text):,} characters is longer than {LONGEST_TEXT:,}. Shorten it; it begins"
            f" with {text[:60]!r}."
        )
    reader = _Reader(text, known)
    expression = reader.term(1)
    if reader.kind != "end":
        reader.fail(
            "the formula should end here",
            f"Remove {reader.value!r} and what follows, or put it inside a function",
        )
    if not reader.columns:
        reader.fail(
            "the formula reads no column, so it is the same number everywhere",
            "Name at least one column",
            at=0,
        )
    result = pl.when(expression.is_finite()).then(expression)
    return Formula(text, result, tuple(reader.columns), reader.length, reader.depth)


class _Reader:
    """Recursive descent over the tokens; holds the token that comes next as `kind` and `value`."""

    def __init__(self, text: str, known: Collection[str] | None):
        self.text, self.known = text, known
        self.columns: dict[str, None] = {}
        self.length = self.depth = 0
        self.tokens = self._scan()
        self._next()

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        position = 0
        while True:
            found = TOKEN.match(self.text, position)
            if not found:
                position = re.compile(r"\s*").match(self.text, position).end()
                self.fail(
                    f"{self.text[position]!r} is not part of the language",
                    f"Write functions as in add(a, b); there are {', '.join(FUNCTIONS)}",
                    at=position,
                )
            kind = found.lastgroup
            yield kind, found[kind], found.start(kind)
            position = found.end()

    def _next(self) -> None:
        self.kind, self.value, self.position = next(self.tokens)

    def fail(self, problem: str, advice: str, at: int | None = None) -> None:
        at = self.position if at is None else at
        start = max(at - 40, 0)
        excerpt = "".join(sign if sign.isprintable() else " " for sign in self.text[start : at + 40])
        raise FormulaError(
            f"Formula, position {at + 1}: {problem}.\n  {excerpt}\n  {' ' * (at - start)}^\n{advice}."
        )

    def term(self, depth: int) -> pl.Expr:
        kind, value, position = self.kind, self.value, self.position
        self.length, self.depth = self.length + 1, max(self.depth, depth)
        if depth > LARGEST_DEPTH or self.length > LARGEST_LENGTH:
            limit = (
                f"deeper than {LARGEST_DEPTH} functions"
                if depth > LARGEST_DEPTH
                else f"longer than {LARGEST_LENGTH} functions, columns and numbers"
            )
            self.fail(f"the formula is {limit}", "Split it into several factors")
        if kind == "number":
            self._next()
            if not math.isfinite(float(value)):
                self.fail(f"{value} is too large a number", "Write one below 1e308", at=position)
            return pl.lit(float(value))
        if kind != "name":
            self.fail(
                (
                    f"a column, a number or a function should stand here, found {value!r}"
                    if value
                    else "the formula ends too early"
                ),
                "Complete it",
            )
        self._next()
        return self._call(value, position, depth) if self.value == "(" else self._column(value, position)

    def _call(self, name: str, position: int, depth: int) -> pl.Expr:
        if name not in FUNCTIONS:
            self.fail(f"no function is called {name!r}", _close(name, FUNCTIONS, "Functions"), at=position)
        arity, function = FUNCTIONS[name]
        arguments = []
        while self.value in ("(", ","):
            self._next()
            arguments.append(self.term(depth + 1))
        if self.value != ")":
            self.fail(
                (
                    f"',' or ')' should stand here, found {self.value!r}"
                    if self.value
                    else "the formula ends too early"
                ),
                f"Close {name}(",
            )
        if len(arguments) != arity:
            self.fail(
                f"{name} takes {arity} argument{'s' if arity > 1 else ''}, found {len(arguments)}",
                "Add or remove arguments",
                at=position,
            )
        self._next()
        return function(*arguments)

    def _column(self, name: str, position: int) -> pl.Expr:
        if self.known is not None and name not in self.known:
            self.fail(f"no column is called {name!r}", _close(name, self.known, "Columns"), at=position)
        self.columns[name] = None
        values = pl.col(name).cast(pl.Float64)
        return pl.when(values.is_finite()).then(values)


def _close(name: str, known: Collection[str], what: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    more = ", ..." if len(known) > 12 else ""
    return f"Close names: {', '.join(near)}" if near else f"{what}: {', '.join(sorted(known)[:12])}{more}"


def _divide(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return left / pl.when(right.abs() >= SMALLEST).then(right)


def _larger(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_nan() & right.is_not_nan()).then(pl.max_horizontal(left, right))


def _smaller(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_nan() & right.is_not_nan()).then(pl.min_horizontal(left, right))


# Arity and meaning. `sqrt` and `log` take the size of their argument, as gplearn's do. A null argument gives
# null.
FUNCTIONS: dict[str, tuple[int, Callable[..., pl.Expr]]] = {
    "add": (2, lambda left, right: left + right),
    "sub": (2, lambda left, right: left - right),
    "mul": (2, lambda left, right: left * right),
    "div": (2, _divide),
    "max": (2, _larger),
    "min": (2, _smaller),
    "neg": (1, lambda value: -value),
    "abs": (1, lambda value: value.abs()),
    "sqrt": (1, lambda value: value.abs().sqrt()),
    "log": (1, lambda value: pl.when(value.abs() >= SMALLEST).then(value.abs()).log()),
    "inv": (1, lambda value: 1.0 / pl.when(value.abs() >= SMALLEST).then(value)),
}
