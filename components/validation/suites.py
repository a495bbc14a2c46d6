"""The Great Expectations suites, one for each kind of table, and how a suite judges a table.

Great Expectations decides; the vectorised row checks only prepare columns for it: a flag for each reason (its
sum must be 0) and, for wide tables, one row of statistics for each column. Every expectation is critical (the
run stops) or a warning (the rows are quarantined, or the finding is only reported).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import polars as pl

from components.contracts import FACTORS, LABELS, PANEL, PREDICTIONS, RAW_PANEL, AlphaloopError, Table
from components.validation.checks import PRICES, RULES
from components.validation.config import Settings

Kind = Literal["raw_panel", "panel", "factors", "labels", "predictions"]
KIND_TABLES: dict[str, Table] = {
    "raw_panel": RAW_PANEL,
    "panel": PANEL,
    "factors": FACTORS,
    "labels": LABELS,
    "predictions": PREDICTIONS,
}
NUMBERS = (*PRICES, "volume")


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


@dataclass(frozen=True)
class Judgement:
    """The outcomes of one suite and its Data Docs page (HTML as Great Expectations renders it)."""

    suite: str
    outcomes: tuple[Outcome, ...]
    page: str


def judge(suite: str, frame: pl.DataFrame, expectations: Sequence[Expect]) -> Judgement:
    """Let Great Expectations judge `frame`; text columns are handed over as categories, which spares memory
    and time.
    """
    gx, expectation_classes, renderer, view = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    _no_progress_bars(context)
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    pandas = frame.with_columns(pl.col(texts).cast(pl.Categorical)).to_pandas()
    definition = (
        context.data_sources.add_pandas(suite)
        .add_dataframe_asset(suite)
        .add_batch_definition_whole_dataframe(suite)
    )
    built = gx.ExpectationSuite(name=suite)
    for place, expect in enumerate(expectations):
        built.add_expectation(
            getattr(expectation_classes, expect.expectation)(
                **expect.arguments,
                severity="critical" if expect.critical else "warning",
                notes=expect.says,
                description=f"{expect.check}: {expect.says}",
                meta={"place": place, "check": expect.check, "remedy": expect.remedy},
            )
        )
    validation = gx.ValidationDefinition(name=suite, data=definition, suite=context.suites.add(built))
    context.validation_definitions.add(validation)
    result = validation.run(batch_parameters={"dataframe": pandas}, result_format="SUMMARY")
    _plain_numbers(result)
    by_place = {entry.expectation_config.meta["place"]: entry for entry in result.results}
    outcomes = tuple(_outcome(expect, by_place[place]) for place, expect in enumerate(expectations))
    return Judgement(suite, outcomes, view.render(renderer.render(result)))


def schema_expectations(table: Table, found: Sequence[str]) -> list[Expect]:
    """Every column of the contract is there and has its type.

    Judged on `schema_frame`, whose cells are type names.
    """
    needed = ", ".join(table.columns)
    rules = []
    for name, dtype in {
        **table.columns,
        **{key: value for key, value in table.optional.items() if key in found},
    }.items():
        rules.append(
            Expect(
                "column_exists",
                "ExpectColumnToExist",
                {"column": name},
                name,
                True,
                f"a {table.name} table has the column {name}",
                f"add the column, or map it in market.columns; needed are {needed}",
            )
        )
        if name in found:
            rules.append(
                Expect(
                    "column_type",
                    "ExpectColumnValuesToBeInSet",
                    {"column": name, "value_set": [str(dtype)]},
                    name,
                    True,
                    f"{name} has the type {dtype}",
                    f"cast {name} to {dtype} before handing the table over",
                )
            )
    return rules


def schema_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """One row that holds the name of each column's type, plus the number of rows."""
    return pl.DataFrame(
        {name: [str(dtype)] for name, dtype in frame.schema.items()} | {"number_of_rows": [len(frame)]}
    )


def rows_expectation(table: Table) -> Expect:
    """The table is not empty."""
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
    """What a raw panel must satisfy; judged on its columns, a flag column for each reason, and `quarantined`.

    For a column that the panel does not have (`absent`), one line says that its checks are left out.
    """
    share = settings.max_quarantine_share
    there = [name for name in NUMBERS if name not in absent]
    rules = [
        Expect(
            "one_period",
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "period", "min_value": 1, "max_value": 1},
            "period",
            True,
            "all bars have one period",
            "give each period a run of its own",
        ),
        *(
            Expect(
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
            for name in ("timestamp", "symbol", *there)
        ),
        *(
            Expect(
                "positive",
                "ExpectColumnValuesToBeBetween",
                {"column": name, "min_value": 0, "strict_min": True, "mostly": 1 - share},
                name,
                True,
                f"at most {share:.0%} of {name} is zero or negative",
                f"look at the column {name} of the source; validation.max_quarantine_share sets the limit",
                "not_positive",
            )
            for name in PRICES
            if name in there
        ),
        *(
            Expect(
                "not_there",
                "ExpectColumnValuesToBeNull",
                {"column": name},
                name,
                False,
                f"the source has no {name}: every check of it is left out",
                f"nothing, unless the source has it under another name: market.columns.{name}",
            )
            for name in absent
        ),
        Expect(
            "high_over_low",
            "ExpectColumnPairValuesAToBeGreaterThanB",
            {
                "column_A": "high",
                "column_B": "low",
                "or_equal": True,
                "mostly": 1 - share,
                "ignore_row_if": "either_value_is_missing",
            },
            "high",
            True,
            f"at most {share:.0%} of the bars have a high below their low",
            "columns may be swapped: look at market.columns",
            "ohlc_order",
        ),
        Expect(
            "little_quarantine",
            "ExpectColumnMeanToBeBetween",
            {"column": "quarantined", "min_value": 0, "max_value": share},
            "(all)",
            True,
            f"at most {share:.0%} of the rows are in quarantine",
            "mend the source by the reasons below, or raise validation.max_quarantine_share if you accept the"
            " loss",
            "quarantined",
        ),
        Expect(
            "something_left",
            "ExpectColumnMinToBeBetween",
            {"column": "quarantined", "min_value": 0, "max_value": 0},
            "(all)",
            True,
            "at least one row is left after quarantine",
            "mend the source by the reasons below",
            "quarantined",
        ),
    ]
    if "high" in absent or "low" in absent:
        rules = [rule for rule in rules if rule.check != "high_over_low"]
    if settings.strict:
        rules.append(
            Expect(
                "complete",
                "ExpectColumnSumToBeBetween",
                {"column": "missing_bars", "min_value": 0, "max_value": 0},
                "timestamp",
                True,
                "every symbol has every bar (validation.strict)",
                "fetch the missing bars, or set validation.strict: false",
            )
        )
    rules += [
        Expect(
            f"no_{rule.reason}",
            "ExpectColumnSumToBeBetween",
            {"column": rule.reason, "min_value": 0, "max_value": 0},
            rule.reason,
            False,
            rule.says,
            rule.remedy,
            rule.reason,
        )
        for rule in RULES
    ]
    return rules


def table_expectations(kind: Kind, settings: Settings) -> list[Expect]:
    """What a table other than the raw panel must satisfy; judged on the flag columns of `table_flags`."""
    known = {rule.flag: rule for rule in _FLAG_RULES}
    return [known[name] for name in _FLAGS_OF_KIND[kind]]


def table_flags(kind: Kind, frame: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One Int8 column for each check of `kind`, 1 where a row fails it."""
    conditions = _conditions(kind, frame, settings)
    return frame.select(
        **{name: conditions[name].fill_null(False).cast(pl.Int8) for name in _FLAGS_OF_KIND[kind]}
    )


def column_statistics(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """One row a column:

    `column`, `null_share`, `infinite`, `not_a_number`, `deviation`; computed in one pass.
    """
    parts = {
        "null_share": [pl.col(name).is_null().mean().alias(name) for name in columns],
        "infinite": [pl.col(name).is_infinite().sum().cast(pl.Float64).alias(name) for name in columns],
        "not_a_number": [pl.col(name).is_nan().sum().cast(pl.Float64).alias(name) for name in columns],
        "deviation": [pl.col(name).cast(pl.Float64).std().alias(name) for name in columns],
    }
    return pl.DataFrame({"column": list(columns)}, schema={"column": pl.String}).with_columns(
        *(
            pl.Series(name, frame.select(expressions).row(0) if columns else [], dtype=pl.Float64)
            for name, expressions in parts.items()
        )
    )


def statistics_expectations(settings: Settings) -> list[Expect]:
    """What the columns of a wide table must satisfy, judged on `column_statistics`."""
    return [
        _column_rule(
            "finite",
            "infinite",
            {"min_value": 0, "max_value": 0},
            True,
            "no value is infinite",
            "look at divisions in the column's expression",
        ),
        _column_rule(
            "no_nan",
            "not_a_number",
            {"min_value": 0, "max_value": 0},
            True,
            "missing values are null, not NaN",
            "end the column's expression with fill_nan(None)",
        ),
        _column_rule(
            "enough_values",
            "null_share",
            {"min_value": 0, "max_value": settings.max_null_share},
            False,
            f"at most {settings.max_null_share:.0%} of a column is null",
            "shorten its warm-up, or leave the column out",
        ),
        _column_rule(
            "varies",
            "deviation",
            {"min_value": 0, "strict_min": True},
            False,
            "no column is constant",
            "leave the column out",
        ),
    ]


def _column_rule(
    check: str, column: str, limits: dict[str, Any], critical: bool, says: str, remedy: str
) -> Expect:
    return Expect(
        check, "ExpectColumnValuesToBeBetween", {"column": column, **limits}, column, critical, says, remedy
    )


def _flag_rule(flag: str, column: str, critical: bool, says: str, remedy: str) -> Expect:
    return Expect(
        f"no_{flag}",
        "ExpectColumnSumToBeBetween",
        {"column": flag, "min_value": 0, "max_value": 0},
        column,
        critical,
        says,
        remedy,
        flag,
    )


_AGAIN = "run the stage that writes this table again"
_FLAG_RULES = (
    _flag_rule("null_key", "timestamp", True, "no part of the key is null", _AGAIN),
    _flag_rule("repeated_key", "timestamp", True, "each key occurs once", _AGAIN),
    _flag_rule(
        "unsorted", "timestamp", True, "rows are sorted by the key; time does not run backwards", _AGAIN
    ),
    _flag_rule(
        "known_before_end",
        "known_time",
        True,
        "nothing was known before its bar ended",
        "look at market.delay and the time zone of the source",
    ),
    _flag_rule("ohlc", "high", True, "low <= open, close <= high", "run validation on the raw panel"),
    _flag_rule(
        "label_end_not_after",
        "label_end",
        True,
        "a label became known after its row",
        "look at labels.entry and the horizons",
    ),
    _flag_rule("horizon_not_positive", "horizon", True, "horizons are positive", "look at labels.horizons"),
    _flag_rule("direction_unknown", "direction", True, "direction is -1, 0 or 1", _AGAIN),
    _flag_rule("label_without_end", "label_end", True, "a label that has a value has an end", _AGAIN),
    _flag_rule(
        "label_not_finite", "log_return", True, "labels are finite", "look for prices of zero in the panel"
    ),
    _flag_rule(
        "label_too_large",
        "log_return",
        False,
        "log returns are believable (validation.max_abs_log_return)",
        "look at the panel's prices there: a bad print or a split may have been missed",
    ),
    _flag_rule(
        "score_not_finite", "score", True, "scores are finite", "train the expert again; look at its inputs"
    ),
    _flag_rule("band_crossed", "p50", True, "p10 <= p50 <= p90", "let the expert sort its quantiles"),
    _flag_rule(
        "uncertainty_negative",
        "uncertainty",
        True,
        "uncertainty is finite and not negative",
        "let the expert clip its uncertainty",
    ),
    _flag_rule(
        "mixed_target", "target", True, "one target and one period in a table", "write a table for each"
    ),
)
_FLAGS_OF_KIND: dict[str, tuple[str, ...]] = {
    "panel": ("null_key", "repeated_key", "unsorted", "known_before_end", "ohlc"),
    "factors": ("null_key", "repeated_key", "unsorted", "known_before_end"),
    "labels": (
        "null_key",
        "repeated_key",
        "unsorted",
        "label_end_not_after",
        "horizon_not_positive",
        "direction_unknown",
        "label_without_end",
        "label_not_finite",
        "label_too_large",
    ),
    "predictions": (
        "null_key",
        "repeated_key",
        "unsorted",
        "horizon_not_positive",
        "score_not_finite",
        "band_crossed",
        "uncertainty_negative",
        "mixed_target",
    ),
}


def _conditions(kind: Kind, frame: pl.DataFrame, settings: Settings) -> dict[str, pl.Expr]:
    key = KIND_TABLES[kind].key
    ties, back = pl.lit(True), pl.lit(False)
    for name in key:
        back = back | (ties & (pl.col(name) < pl.col(name).shift(1)))
        ties = ties & (pl.col(name) == pl.col(name).shift(1))
    slack = 1 + settings.price_tolerance
    labels = pl.any_horizontal(
        *(pl.col(name).is_not_null() for name in ("log_return", "direction", "sector_neutral_return"))
    )
    odd = pl.any_horizontal(
        *(~pl.col(name).is_finite().fill_null(True) for name in ("log_return", "sector_neutral_return"))
    )
    return {
        "null_key": pl.any_horizontal(*(pl.col(name).is_null() for name in key)),
        "repeated_key": pl.struct(key).is_duplicated(),
        "unsorted": back,
        "known_before_end": pl.col("known_time") < pl.col("timestamp"),
        "ohlc": (
            (pl.max_horizontal("open", "close") > pl.col("high") * slack)
            | (pl.min_horizontal("open", "close") * slack < pl.col("low"))
        ),
        "label_end_not_after": pl.col("label_end") <= pl.col("timestamp"),
        "horizon_not_positive": pl.col("horizon") <= 0,
        "direction_unknown": ~pl.col("direction").is_in([-1, 0, 1]),
        "label_without_end": labels & pl.col("label_end").is_null(),
        "label_not_finite": odd,
        "label_too_large": pl.col("log_return").abs() > settings.max_abs_log_return,
        "score_not_finite": ~pl.col("score").is_finite().fill_null(False),
        "band_crossed": (pl.col("p10") > pl.col("p50")) | (pl.col("p50") > pl.col("p90")),
        "uncertainty_negative": (
            ~(pl.col("uncertainty").is_finite() & (pl.col("uncertainty") >= 0)).fill_null(False)
        ),
        "mixed_target": (
            (pl.col("target") != pl.col("target").first()) | (pl.col("period") != pl.col("period").first())
        ),
    }


def _outcome(expect: Expect, entry: Any) -> Outcome:
    raised = [
        str(info.get("exception_message"))
        for info in _exceptions(entry.exception_info)
        if info.get("raised_exception")
    ]
    if raised:
        raise AlphaloopError(
            f"validation could not evaluate {expect.check} on {expect.column}: {raised[0]}. Report this"
            " together with the table's columns and types."
        )
    result = entry.result
    observed = result.get("observed_value", result.get("unexpected_count"))
    faulty = result.get("unexpected_count")
    if faulty is None and expect.expectation == "ExpectColumnSumToBeBetween":
        faulty = observed
    values = result.get("partial_unexpected_list") or []
    text = "" if observed is None else f"{observed:.6g}" if isinstance(observed, float) else f"{observed}"
    if values and expect.check == "column_type":
        text = str(values[0])
    return Outcome(
        check=expect.check,
        expectation=entry.expectation_config.type,
        column=expect.column,
        critical=expect.critical,
        passed=bool(entry.success),
        observed=text,
        faulty=None if faulty is None else int(faulty),
        says=expect.says,
        remedy=expect.remedy,
        flag=expect.flag,
    )


def _plain_numbers(result: Any) -> None:
    """NumPy's numbers as Python's: the renderer of Great Expectations 1.24 fails on NumPy 2's."""
    for entry in result.results:
        observed = entry.result.get("observed_value")
        if hasattr(observed, "item"):
            entry.result["observed_value"] = observed.item()


def _exceptions(info: dict[str, Any]) -> list[dict[str, Any]]:
    return (
        [info]
        if "raised_exception" in info
        else [value for value in info.values() if isinstance(value, dict)]
    )


@cache
def _great_expectations() -> tuple[Any, Any, Any, Any]:
    """The library, imported late because that takes seconds, with its telemetry off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import great_expectations.expectations as expectation_classes
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    return (
        gx,
        expectation_classes,
        ValidationResultsPageRenderer(run_info_at_end=True),
        DefaultJinjaPageView(),
    )


def _no_progress_bars(context: Any) -> None:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)
