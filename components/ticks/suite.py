"""How Great Expectations judges the symbol-sessions: a row each, with counts and shares of what was found."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from components.contracts.documents.tick_quality import DayQuality, Expectation
from components.contracts.errors import AlphaloopError
from components.ticks.config import Checks
from components.ticks.rules import BY_REASON, QUARANTINED


@dataclass(frozen=True)
class Expected:
    """Values of `column` lie in `limits` in every symbol-session; `critical`: else the run stops."""

    check: str
    column: str
    limits: tuple[float | None, float | None]
    critical: bool
    says: str
    remedy: str


def expected(checks: Checks) -> list[Expected]:
    """What is expected of every symbol-session."""
    critical = [
        Expected(
            "enough_rows",
            "rows_out",
            (1, None),
            True,
            "rows are left after quarantine",
            "Look at the reasons for which rows were set aside, and at the source's export.",
        ),
        Expected(
            "few_in_quarantine",
            "quarantine_share",
            (0, checks.max_quarantine_share),
            True,
            f"at most {checks.max_quarantine_share:.2%} of the rows are in quarantine",
            "Look at the commonest reason; raise ticks.checks.max_quarantine_share only if it is known.",
        ),
        Expected(
            "few_crossed",
            "crossed_share",
            (0, checks.max_crossed_share),
            True,
            f"at most {checks.max_crossed_share:.2%} of the states of touch and book are crossed",
            "The book was put together wrongly: check by which key levels belong to their messages, and the"
            " update chain.",
        ),
        Expected(
            "offset_in_bounds",
            "offset_ms",
            (0, checks.max_offset_ms),
            True,
            f"the collector's clock is off by at most {checks.max_offset_ms:g} ms",
            "Check unit and zone of both times, or raise ticks.checks.max_offset_ms.",
        ),
    ]
    none = (
        Expected(f"no_{reason}", reason, (0, 0), False, f"no row with {rule.says}", rule.remedy)
        for reason, rule in ((reason, BY_REASON[reason]) for reason in QUARANTINED)
    )
    return [*critical, *none]


def judge(days: Sequence[DayQuality], checks: Checks) -> list[Expectation]:
    """Let Great Expectations judge the symbol-sessions."""
    table, asked = day_table(days), expected(checks)
    results = _results(table, asked)
    return [_outcome(one, result, table) for one, result in zip(asked, results, strict=True)]


def day_table(days: Sequence[DayQuality]) -> pl.DataFrame:
    """A row for each symbol-session."""
    return pl.DataFrame([_row(day) for day in days])


def _row(day: DayQuality) -> dict[str, Any]:
    counts = {finding.reason: finding.count for finding in day.findings}
    offset = max(abs(day.clock.offset_first_ms), abs(day.clock.offset_last_ms))
    return {
        "day": f"{day.symbol} {day.session}",
        "rows_out": day.rows_out,
        "quarantine_share": day.rows_quarantined / day.rows_in,
        "crossed_share": day.crossed_states / day.states if day.states else 0.0,
        "offset_ms": offset,
        **{reason: counts.get(reason, 0) for reason in QUARANTINED},
    }


def _results(table: pl.DataFrame, asked: Sequence[Expected]) -> list[Any]:
    gx = _great_expectations()
    context = gx.get_context(mode="ephemeral")
    _no_progress_bars(context)
    asset = context.data_sources.add_pandas("ticks").add_dataframe_asset("ticks")
    suite = gx.ExpectationSuite(name="ticks")
    for place, one in enumerate(asked):
        suite.add_expectation(
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=one.column,
                min_value=one.limits[0],
                max_value=one.limits[1],
                severity="critical" if one.critical else "warning",
                notes=one.says,
                meta={"place": place},
            )
        )
    definition = gx.ValidationDefinition(
        name="ticks",
        data=asset.add_batch_definition_whole_dataframe("ticks"),
        suite=context.suites.add(suite),
    )
    context.validation_definitions.add(definition)
    pandas = table.to_pandas()
    found = definition.run(batch_parameters={"dataframe": pandas}, result_format="COMPLETE")
    by_place = {entry.expectation_config.meta["place"]: entry for entry in found.results}
    return [by_place[place] for place in range(len(asked))]


def _outcome(asked: Expected, entry: Any, table: pl.DataFrame) -> Expectation:
    result = entry.result
    if "unexpected_count" not in result:
        raise AlphaloopError(
            f"Great Expectations could not judge {asked.check}: {entry.exception_info}. Report this."
        )
    least, most = (f"{value:.6g}" for value in (table[asked.column].min(), table[asked.column].max()))
    return Expectation(
        check=asked.check,
        column=asked.column,
        critical=asked.critical,
        passed=bool(entry.success),
        says=asked.says,
        remedy=asked.remedy,
        observed=least if least == most else f"{least} to {most}",
        days=[table["day"][place] for place in result.get("unexpected_index_list") or []],
    )


@cache
def _great_expectations() -> Any:
    """The library, imported late because that takes seconds, with its telemetry off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def _no_progress_bars(context: Any) -> None:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)
