"""One expectation, how it came out, and the two kinds that most suites are made of."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expect:
    """One expectation: the class of great_expectations and its arguments, how grave a failure is, and what to
    do then.

    `column` is the column of the judged table that the reader should look at; `flag` names the column that
    marks faulty rows.
    """

    check: str
    expectation: str
    arguments: dict[str, Any]
    column: str
    critical: bool
    says: str
    remedy: str
    flag: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How an expectation came out.

    `observed` is what Great Expectations measured, `faulty` how many rows or values failed.
    """

    check: str
    expectation: str
    column: str
    critical: bool
    passed: bool
    observed: str
    faulty: int | None
    says: str
    remedy: str
    flag: str | None = None


def no_flag(flag: str, column: str, critical: bool, says: str, remedy: str) -> Expect:
    """No row carries the flag: the sum of its column is 0."""
    none = {"column": flag, "min_value": 0, "max_value": 0}
    sum_is_zero = "ExpectColumnSumToBeBetween"
    return Expect(f"no_{flag}", sum_is_zero, none, column, critical, says, remedy, flag)


def within(check: str, column: str, critical: bool, says: str, remedy: str, **limits: Any) -> Expect:
    """All values of the column, or `mostly` of them, lie in `limits` (of ExpectColumnValuesToBeBetween)."""
    arguments = {"column": column, **limits}
    return Expect(check, "ExpectColumnValuesToBeBetween", arguments, column, critical, says, remedy)
