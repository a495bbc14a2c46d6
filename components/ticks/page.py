"""The page of a validation of ticks: verdict, symbol-sessions, what went to quarantine and why, what is told,
the clock, and every expectation as Great Expectations judged it.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from components.contracts.documents.tick_quality import DayQuality, Expectation, Finding, TickQuality
from components.page import Picture, figure, number, write_page
from components.ticks.rules import RULES

CLOCK_AXES = {"xaxis": {"title": "seconds since the start"}, "yaxis": {"title": "ms from its mean"}}
DAY_HEADER = (
    "symbol",
    "session",
    "from (UTC)",
    "to (UTC)",
    "messages",
    "rows in",
    "rows out",
    "in quarantine",
    "crossed states",
    "longest silence",
)
CLOCK_HEADER = (
    "symbol",
    "session",
    "messages with both stamps",
    "offset at start, ms",
    "offset at end, ms",
    "drift, ms a minute",
    "delay p50, ms",
    "p95",
    "p99",
    "largest",
)
FINDING_HEADER = ("symbol", "session", "count", "amount")


def write_quality_page(path: str | os.PathLike, quality: TickQuality) -> None:
    """Write the page of a validation, atomically."""
    failures = [one for one in quality.expectations if one.critical and not one.passed]
    sections = [("days", "sessions"), ("quarantine", "quarantine"), ("told", "told"), ("clock", "clock")]
    write_page(
        path,
        "ticks/page.html",
        title="Validation of ticks",
        sections=[*sections, ("expectations", "expectations")],
        failed=quality.verdict == "failed",
        tiles=_tiles(quality),
        failures=[_failure(one) for one in failures],
        day_header=DAY_HEADER,
        days=[_day(day) for day in quality.days],
        finding_header=FINDING_HEADER,
        quarantine=_findings(quality.days, "quarantine"),
        told=_findings(quality.days, "told"),
        clock_header=CLOCK_HEADER,
        clock=[_clock(day) for day in quality.days],
        floor=number(quality.floor_ms, 3),
        course=_course(quality.days),
        expectations=[_expectation(one) for one in quality.expectations],
    )


def _tiles(quality: TickQuality) -> list[tuple[str, str]]:
    days = quality.days
    rows, aside = sum(day.rows_in for day in days), sum(day.rows_quarantined for day in days)
    states, bad = sum(day.states for day in days), sum(day.crossed_states for day in days)
    met = sum(one.passed for one in quality.expectations)
    return [
        (f"{len({day.symbol for day in days})}", "symbols"),
        (f"{len(days)}", "symbol-sessions"),
        (f"{rows:,}", "rows in"),
        (f"{aside:,} ({aside / rows:.2%})", "in quarantine"),
        (f"{bad:,} of {states:,}", "states were crossed"),
        (f"{met} of {len(quality.expectations)}", "expectations met"),
    ]


def _failure(failed: Expectation) -> dict[str, str]:
    return {
        "check": failed.check,
        "column": failed.column,
        "says": failed.says,
        "found": f"{failed.observed} ({', '.join(failed.days)})",
        "remedy": failed.remedy,
    }


def _moment(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%S}"


def _day(day: DayQuality) -> list[str]:
    return [
        day.symbol,
        day.session,
        _moment(day.first_ts),
        _moment(day.last_ts),
        f"{day.messages:,}",
        f"{day.rows_in:,}",
        f"{day.rows_out:,}",
        f"{day.rows_quarantined:,} ({day.rows_quarantined / day.rows_in:.2%})",
        f"{day.crossed_states:,} of {day.states:,}",
        f"{number(day.longest_silence_ms, 0)} ms",
    ]


def _clock(day: DayQuality) -> list[str]:
    clock = day.clock
    if not clock.known:
        return [day.symbol, day.session, "one clock only", *["–"] * 7]
    figures = (
        clock.offset_first_ms,
        clock.offset_last_ms,
        clock.drift_ms_a_minute,
        clock.delay_p50_ms,
        clock.delay_p95_ms,
        clock.delay_p99_ms,
        clock.delay_max_ms,
    )
    return [day.symbol, day.session, f"{clock.stamped_messages:,}", *(number(value) for value in figures)]


def _findings(days: Sequence[DayQuality], severity: str) -> list[dict[str, Any]]:
    """What was found of one severity, each reason with the symbol-sessions that have it."""
    entries = []
    for rule in RULES:
        having = [(day, one) for day in days for one in day.findings if one.reason == rule.reason]
        if having and rule.severity == severity:
            rows = [[day.symbol, day.session, f"{one.count:,}", f"{one.amount:,}"] for day, one in having]
            entries.append({**asdict(rule), "rows": rows, "examples": _examples(having[0][1])})
    return entries


def _examples(finding: Finding) -> tuple[list[str], list[list[str]]]:
    names = list(finding.examples[0]) if finding.examples else []
    return names, [[str(row[name]) for name in names] for row in finding.examples]


def _course(days: Sequence[DayQuality]) -> Picture | None:
    """How the offset moved over each session; None where no source has two clocks."""
    lines = []
    for day in days:
        if day.clock.known:
            seconds, offsets = zip(*day.clock.course, strict=True)
            mean = sum(offsets) / len(offsets)
            shown = [offset - mean for offset in offsets]
            name = f"{day.symbol} {day.session} (mean {number(mean)} ms)"
            lines.append({"type": "scatter", "mode": "lines", "x": seconds, "y": shown, "name": name})
    if not lines:
        return None
    note = "What the collector's clock is ahead of the exchange's, as it was known at each moment."
    return Picture("Offset of the clock", figure(lines, CLOCK_AXES), note, tall=True, wide=True)


def _expectation(one: Expectation) -> dict[str, str]:
    mark, kind = (
        ("✓", "good") if one.passed else (("critical", "bad") if one.critical else ("warning", "warn"))
    )
    days = ", ".join(one.days[:3]) + (f" and {len(one.days) - 3} more" if len(one.days) > 3 else "")
    return {
        "mark": mark,
        "kind": kind,
        "check": one.check,
        "says": one.says,
        "observed": one.observed,
        "days": days,
    }
