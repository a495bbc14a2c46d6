"""How a suite judges a table: Great Expectations decides.

Every expectation is critical (the run stops) or a warning (the rows are quarantined, or the finding is only
reported).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import polars as pl

from components.contracts import AlphaloopError
from components.contracts.documents import Document
from components.validation.expect import Expect, Outcome


@dataclass(frozen=True)
class Measured:
    """What Great Expectations measured beside the outcome: the percentage of `unexpected` values (None where
    it judges a whole column by one number) and some of them.
    """

    unexpected: float | None
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """The outcomes of one suite with what was measured for each, the `version` of Great Expectations, and
    when it judged, in UTC.
    """

    suite: str
    outcomes: tuple[Outcome, ...]
    measured: tuple[Measured, ...]
    version: str
    judged_at: datetime


class Judgements(Document):
    """What every suite said of a table, as the page shows it."""

    format: Literal[1] = 1
    suites: tuple[Judgement, ...]


def judge(suite: str, frame: pl.DataFrame, expectations: Sequence[Expect]) -> Judgement:
    """Let Great Expectations judge `frame`; text columns are handed over as categories, which spares memory
    and time.
    """
    gx = _great_expectations()
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
        built.add_expectation(_expectation(gx, place, expect))
    validation = gx.ValidationDefinition(name=suite, data=definition, suite=context.suites.add(built))
    context.validation_definitions.add(validation)
    result = validation.run(batch_parameters={"dataframe": pandas}, result_format="SUMMARY")
    by_place = {entry.expectation_config.meta["place"]: entry for entry in result.results}
    entries = [by_place[place] for place in range(len(expectations))]
    return Judgement(
        suite=suite,
        outcomes=tuple(map(_outcome, expectations, entries)),
        measured=tuple(map(_measured, entries)),
        version=gx.__version__,
        judged_at=datetime.now(UTC),
    )


def _expectation(gx: Any, place: int, expect: Expect) -> Any:
    """The expectation as Great Expectations wants it; `place` finds its result again."""
    return getattr(gx.expectations, expect.expectation)(
        **expect.arguments,
        severity="critical" if expect.critical else "warning",
        notes=expect.says,
        description=f"{expect.check}: {expect.says}",
        meta={"place": place, "check": expect.check, "remedy": expect.remedy},
    )


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
    text = "" if observed is None else _text(observed)
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


def _measured(entry: Any) -> Measured:
    values = entry.result.get("partial_unexpected_list") or []
    distinct = dict.fromkeys(_text(value) for value in values)
    unexpected = entry.result.get("unexpected_percent")
    return Measured(None if unexpected is None else float(unexpected), tuple(distinct))


def _text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _exceptions(info: dict[str, Any]) -> list[dict[str, Any]]:
    return (
        [info]
        if "raised_exception" in info
        else [value for value in info.values() if isinstance(value, dict)]
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
