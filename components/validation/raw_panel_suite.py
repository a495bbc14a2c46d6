"""The suite of a raw panel, and of the schema of any table.

The row checks only prepare columns for it: a flag for each reason (its sum must be 0) and `quarantined`.
"""

from collections.abc import Sequence

import polars as pl

from components.contracts import Table
from components.validation.config import Settings
from components.validation.expect import Expect, no_flag
from components.validation.findings import NUMBERS, PRICES
from components.validation.rules import RULES


def schema_expectations(table: Table, found: Sequence[str]) -> list[Expect]:
    """Every column of the contract is there and has its type.

    Judged on `schema_frame`, whose cells are type names.
    """
    optional = {name: dtype for name, dtype in table.optional.items() if name in found}
    rules = []
    for name, dtype in {**table.columns, **optional}.items():
        rules.append(_column_exists(name, table))
        if name in found:
            rules.append(_column_type(name, str(dtype)))
    return rules


def _column_exists(name: str, table: Table) -> Expect:
    needed = ", ".join(table.columns)
    return Expect(
        "column_exists",
        "ExpectColumnToExist",
        {"column": name},
        name,
        True,
        f"a {table.name} table has the column {name}",
        f"add the column, or map it in market.columns; needed are {needed}",
    )


def _column_type(name: str, dtype: str) -> Expect:
    return Expect(
        "column_type",
        "ExpectColumnValuesToBeInSet",
        {"column": name, "value_set": [dtype]},
        name,
        True,
        f"{name} has the type {dtype}",
        f"cast {name} to {dtype} before handing the table over",
    )


def schema_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """One row that holds the name of each column's type, plus the number of rows."""
    return pl.DataFrame(
        {name: [str(dtype)] for name, dtype in frame.schema.items()} | {"number_of_rows": [len(frame)]}
    )


def rows_expectation(table: Table) -> Expect:
    """The table is not empty; judged on `schema_frame` too."""
    return Expect(
        "not_empty",
        "ExpectColumnValuesToBeBetween",
        {"column": "number_of_rows", "min_value": 1},
        "(all)",
        True,
        f"a {table.name} table has at least one row",
        "check that the source gave data for the chosen symbols and dates",
    )


def raw_panel_expectations(settings: Settings, absent: Sequence[str] = ()) -> list[Expect]:
    """What a raw panel must satisfy; judged on its columns, a flag column for each reason, and `quarantined`,
    of all rows but placeholders.

    For a column that the panel does not have (`absent`), one line says that its checks are left out.
    """
    share = settings.max_quarantine_share
    there = [name for name in NUMBERS if name not in absent]
    one_period = Expect(
        "one_period",
        "ExpectColumnUniqueValueCountToBeBetween",
        {"column": "period", "min_value": 1, "max_value": 1},
        "period",
        True,
        "all bars have one period",
        "give each period a run of its own",
    )
    return [
        one_period,
        *(_mostly_there(name, share) for name in ("timestamp", "symbol", *there)),
        *(_positive(name, share) for name in PRICES if name in there),
        *(_not_there(name) for name in absent),
        *([] if "high" in absent or "low" in absent else [_high_over_low(share)]),
        *_quarantine_limits(share),
        *([COMPLETE] if settings.strict else []),
        *(
            no_flag(rule.reason, rule.reason, False, rule.says, rule.remedy)
            for rule in RULES
            if rule.severity != "placeholder"
        ),
    ]


COMPLETE = Expect(
    "complete",
    "ExpectColumnSumToBeBetween",
    {"column": "missing_bars", "min_value": 0, "max_value": 0},
    "timestamp",
    True,
    "every symbol has every bar (validation.strict)",
    "fetch the missing bars, or set validation.strict: false",
)


def _mostly_there(name: str, share: float) -> Expect:
    return Expect(
        "mostly_there",
        "ExpectColumnValuesToNotBeNull",
        {"column": name, "mostly": 1 - share},
        name,
        True,
        f"at most {share:.0%} of {name} is null or NaN",
        f"look at the column {name} of the source and at market.columns;"
        " validation.max_quarantine_share sets the limit",
        "not_finite" if name in NUMBERS else "missing_key",
    )


def _positive(name: str, share: float) -> Expect:
    return Expect(
        "positive",
        "ExpectColumnValuesToBeBetween",
        {"column": name, "min_value": 0, "strict_min": True, "mostly": 1 - share},
        name,
        True,
        f"at most {share:.0%} of {name} is zero or negative",
        f"look at the column {name} of the source; validation.max_quarantine_share sets the limit",
        "not_positive",
    )


def _not_there(name: str) -> Expect:
    return Expect(
        "not_there",
        "ExpectColumnValuesToBeNull",
        {"column": name},
        name,
        False,
        f"the source has no {name}: every check of it is left out",
        f"nothing, unless the source has it under another name: market.columns.{name}",
    )


def _high_over_low(share: float) -> Expect:
    pair = {"column_A": "high", "column_B": "low", "or_equal": True}
    return Expect(
        "high_over_low",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {**pair, "mostly": 1 - share, "ignore_row_if": "either_value_is_missing"},
        "high",
        True,
        f"at most {share:.0%} of the bars have a high below their low",
        "columns may be swapped: look at market.columns",
        "ohlc_order",
    )


def _quarantine_limits(share: float) -> list[Expect]:
    little = Expect(
        "little_quarantine",
        "ExpectColumnMeanToBeBetween",
        {"column": "quarantined", "min_value": 0, "max_value": share},
        "(all)",
        True,
        f"at most {share:.0%} of the rows are in quarantine",
        "mend the source by the reasons below, or raise validation.max_quarantine_share if you accept the"
        " loss",
        "quarantined",
    )
    something_left = Expect(
        "something_left",
        "ExpectColumnMinToBeBetween",
        {"column": "quarantined", "min_value": 0, "max_value": 0},
        "(all)",
        True,
        "at least one row is left after quarantine",
        "mend the source by the reasons below",
        "quarantined",
    )
    return [little, something_left]
