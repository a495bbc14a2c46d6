"""The page of validation: the verdict, critical failures with rows, what went to quarantine and why, what is
missing, and every expectation as Great Expectations judged it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from components.page import write_page
from components.validation.expect import Outcome
from components.validation.health import MANY, Failure, Health, Missing, Reason, Row
from components.validation.judge import Judgement, Measured
from components.validation.words import cell, sentence, span

TITLE = "Validation of the raw panel"
# Sections of a table that has fewer rows stand open.
FEW = 3
GAP_COLUMNS = ("symbol", "before", "after", "missing_bars")
OUTAGE_COLUMNS = ("before", "after", "missing_bars")
COVERAGE_COLUMNS = ("symbol", "bars", "expected_bars", "coverage", "first", "last")


@dataclass(frozen=True)
class Listing:
    """Rows of a table as text, and whether they stand open; without rows it is left out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    open: bool = False


def write_data_docs(path: str | os.PathLike, health: Health, judgements: Sequence[Judgement]) -> None:
    """Write the page of a raw panel atomically."""
    write_page(path, "validation/page.html", **page_values(TITLE, health, judgements))


def page_values(title: str, health: Health, judgements: Sequence[Judgement]) -> dict[str, object]:
    """What the template shows, in words and figures."""
    gaps, outages = health.get("gaps"), health.get("outages")
    something_missing = any(health.get(key) for key in ("fell_out", "gaps", "outages", "coverage"))
    missing = [("missing", "what is missing")] if something_missing else []
    return {
        "title": title,
        "sections": [("quarantine", "quarantine"), *missing, ("expectations", "expectations")],
        "something_missing": something_missing,
        "failed": health["verdict"] == "failed",
        "span": span(health),
        "tiles": _tiles(health),
        "absent": ", ".join(health.get("absent_columns", [])),
        "failures": [_failure(failure) for failure in health["failures"]],
        "reasons": _reasons(health.get("reasons", [])),
        "fell_out": [_fell_out(name, values) for name, values in health.get("fell_out", {}).items()],
        "gaps_title": _gaps_title(gaps),
        "gaps": _listing(gaps["longest"] if gaps else [], GAP_COLUMNS),
        "outages_title": f"Bars that no symbol has: {outages['missing_bars']:,}" if outages else "",
        "outages": _listing(outages["longest"] if outages else [], OUTAGE_COLUMNS),
        "coverage": _listing(health.get("coverage", []), COVERAGE_COLUMNS),
        "suites": [_suite(judgement) for judgement in judgements],
    }


def _tiles(health: Health) -> list[tuple[str, str]]:
    if "rows_in" not in health:
        return []
    idle = health["rows_without_trade"]
    judged = health["rows_in"] - idle
    share = health["rows_quarantined"] / judged if judged else 0.0
    counted = health["expectations"]
    untraded = [(f"{idle:,} ({idle / health['rows_in']:.2%})", "bars without a trade")] if idle else []
    return [
        (f"{health['rows_in']:,}", "rows in"),
        (f"{health['rows_out']:,}", "rows out"),
        (f"{health['rows_quarantined']:,} ({share:.2%})", "in quarantine"),
        *untraded,
        (f"{health['hindsight_quarantined']:,}", "of them with hindsight"),
        (f"{health['symbols_out']} of {health['symbols_in']}", "symbols"),
        (f"{counted['passed']} of {counted['passed'] + counted['failed']}", "expectations met"),
    ]


def _failure(failure: Failure) -> dict[str, object]:
    return {**failure, "remedy": sentence(failure["remedy"]), "rows": _listing(failure["rows"])}


def _reasons(reasons: Sequence[Reason]) -> list[dict[str, object]]:
    """The reasons with the share of the commonest one's rows that each has, in percent, for its bar."""
    most = max((entry["rows"] for entry in reasons), default=1)
    return [
        {
            **entry,
            "width": f"{max(100 * entry['rows'] / most, 1):.1f}%",
            "at_the_bar": entry["rows"] - entry["hindsight_rows"],
            "remedy": sentence(entry["remedy"]),
            "examples": _listing(entry["examples"]),
        }
        for entry in reasons
    ]


def _fell_out(name: str, values: Sequence[str]) -> str:
    return f"{name}: {len(values)}" + (f" ({', '.join(map(str, values[:MANY]))})" if values else "")


def _gaps_title(gaps: Missing | None) -> str:
    if not gaps:
        return ""
    return (
        f"Gaps: {gaps['count']:,}, {gaps['missing_bars']:,} bars"
        f" ({gaps['missing_in_source']:,} missing in the source, the others set aside or without a trade)"
    )


def _listing(rows: Sequence[Row], columns: Sequence[str] | None = None) -> Listing:
    names = list(columns or (rows[0] if rows else []))
    return Listing(names, [[cell(row[name]) for name in names] for row in rows], open=len(rows) <= FEW)


def _suite(judgement: Judgement) -> dict[str, object]:
    met = sum(outcome.passed for outcome in judgement.outcomes)
    pairs = zip(judgement.outcomes, judgement.measured, strict=True)
    return {
        "name": judgement.suite,
        "met": f"{met} of {len(judgement.outcomes)} expectations met",
        "judged": f"Great Expectations {judgement.version}, {judgement.judged_at:%Y-%m-%d %H:%M} UTC",
        "expectations": [_expectation(outcome, measured) for outcome, measured in pairs],
    }


def _expectation(outcome: Outcome, measured: Measured) -> dict[str, object]:
    mark, kind = ("✓", "good") if outcome.passed else ("critical", "bad")
    if not outcome.passed and not outcome.critical:
        mark, kind = "warning", "warn"
    share = "" if measured.unexpected is None else f"{measured.unexpected:.4g}%"
    return {
        "mark": mark,
        "kind": kind,
        "check": outcome.check,
        "column": outcome.column,
        "says": outcome.says,
        "observed": outcome.observed,
        "unexpected": share,
        "samples": ", ".join(measured.samples),
    }
