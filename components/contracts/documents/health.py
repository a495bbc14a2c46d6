"""What validation found in the raw panel, as the run folder keeps it."""

from typing import Any, Literal

# Python's own TypedDict can't be checked by pydantic before 3.12.
from typing_extensions import TypedDict

from components.contracts.documents import Document

__all__ = ["Expectations", "Failure", "FellOut", "Missing", "PanelHealth", "Reason", "RefusedPanel", "Row"]

Row = dict[str, Any]


class Failure(TypedDict):
    """A critical expectation that was not met: what was found, and the first `rows` that show it."""

    check: str
    column: str
    says: str
    found: str
    count: int | None
    remedy: str
    rows: list[Row]


class Reason(TypedDict):
    """A reason for which rows were found.

    `known` says when the finding can be made, `hindsight_rows` counts the rows for which that was after their
    own timestamp.
    """

    reason: str
    rows: int
    symbols: int
    hindsight_rows: int
    severity: str
    known: str
    says: str
    remedy: str
    examples: list[Row]


class Missing(TypedDict, total=False):
    """Bars that are not there: gaps of symbols, or outages of all; `missing_in_source` only of gaps: the bars
    that no quarantine took.
    """

    count: int
    missing_bars: int
    longest: list[Row]
    missing_in_source: int


class FellOut(TypedDict):
    """Symbols and dates of which no row is left."""

    symbols: list[str]
    dates: list[str]


class Expectations(TypedDict):
    """How many expectations were met, and each as the fields of an `Outcome`."""

    passed: int
    failed: int
    results: list[dict[str, Any]]


class RefusedPanel(Document):
    """A panel whose schema is wrong: only its failures are known."""

    format: Literal[1] = 1
    verdict: str
    failures: list[Failure]
    expectations: Expectations


class PanelHealth(Document):
    """A panel whose schema is right: what came in and out, why, and what is missing.

    `rows_without_trade`: rows that are bars without a trade, kept out of the panel, and no faults;
    `hindsight_quarantined`: rows in quarantine for what only later bars told; `coverage`: the worst symbols;
    `steps`: each change of level with its symbol, date, reason and ratio (new over old).
    """

    format: Literal[1] = 1
    verdict: str
    failures: list[Failure]
    expectations: Expectations
    rows_in: int
    rows_out: int
    rows_quarantined: int
    rows_without_trade: int = 0
    hindsight_quarantined: int
    absent_columns: list[str]
    symbols_in: int
    symbols_out: int
    bars: int
    first: str | None
    last: str | None
    period: str | None
    reasons: list[Reason]
    gaps: Missing
    outages: Missing
    coverage: list[Row]
    fell_out: FellOut
    frozen_symbols: list[str]
    steps: list[Row]
