"""What validation found, as plain text on one screen: each reason with what it means and what to do."""

import textwrap

from components.contracts.documents.health import Row
from components.validation.health import Failure, Health, Reason
from components.validation.words import sentence, span

WIDTH = 110
# Reasons beyond so many, counted from the one with most rows, are told without what they mean: one screen.
TOLD_IN_FULL = 6
# Failures of a run that stopped beyond so many are named only.
FAILURES_TOLD = 4
# Changes of level beyond so many are counted only.
SHOWN_STEPS = 10


def terminal_table(health: Health) -> str:
    """Verdict, rows, critical failures, reasons, gaps and outages."""
    counted = health["expectations"]
    lines = [
        f"verdict: {health['verdict']}   {span(health)}",
        *_rows(health),
        *(line for failure in health["failures"] for line in failure_lines(failure)),
        *_reasons(health.get("reasons", [])),
        *_steps(health.get("steps", [])),
        *_missing(health),
        f"expectations: {counted['passed']} passed, {counted['failed']} failed",
    ]
    return "\n".join(lines)


def stop_lines(health: Health) -> list[str]:
    """Why a run stops: the failures with what to do, and the reasons for which most rows were set aside."""
    failures = health["failures"]
    lines = [line for failure in failures[:FAILURES_TOLD] for line in failure_lines(failure, rows=1)]
    if more := failures[FAILURES_TOLD:]:
        checks = ", ".join(f"{failure['check']} ({failure['column']})" for failure in more)
        lines.append(f"{len(more)} more critical {'checks' if len(more) > 1 else 'check'} failed: {checks}.")
    grave = [entry for entry in health.get("reasons", []) if entry["severity"] == "quarantine"]
    return [*lines, *_reasons(grave)]


def failure_lines(failure: Failure, rows: int = 0) -> list[str]:
    """A critical failure, the first `rows` that show it, and what to do."""
    told = f"CRITICAL {failure['check']} ({failure['column']}): {failure['says']}; found {failure['found']}."
    shown = [f"    row: {one_line(row)}" for row in failure["rows"][:rows]]
    return [told, *shown, *_wrapped(f"-> {sentence(failure['remedy'])}")]


def one_line(row: dict[str, object]) -> str:
    """A row's values with their names."""
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in row.items()
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rows(health: Health) -> list[str]:
    lines = []
    if "rows_in" in health:
        idle = health["rows_without_trade"]
        untraded = f", {idle:,} bars without a trade" if idle else ""
        lines.append(
            f"rows: {health['rows_in']:,} in, {health['rows_out']:,} out, {health['rows_quarantined']:,} in"
            f" quarantine{untraded}; symbols: {health['symbols_in']} in, {health['symbols_out']} out"
        )
    if health.get("absent_columns"):
        lines.append(f"not in the source, and not checked: {', '.join(health['absent_columns'])}")
    return lines


def _reasons(reasons: list[Reason]) -> list[str]:
    """A line of figures for each reason, and what it means and what to do; the most frequent first."""
    if not reasons:
        return []
    lines = ["", f"{'reason':<22}{'rows':>10}{'hindsight':>11}{'symbols':>9}  first"]
    for place, entry in enumerate(reasons):
        kind = "" if entry["severity"] == "quarantine" else f"  ({entry['severity']})"
        lines.append(
            f"{entry['reason']:<22}{entry['rows']:>10,}{entry['hindsight_rows']:>11,}{entry['symbols']:>9} "
            f" {_first(entry)}{kind}"
        )
        meaning = f"{sentence(entry['says'])} " if place < TOLD_IN_FULL else ""
        lines += _wrapped(f"{meaning}-> {sentence(entry['remedy'])}")
    return [*lines, ""]


def _steps(steps: list[Row]) -> list[str]:
    """Each change of level in a line, the first `SHOWN_STEPS` of them."""
    if not steps:
        return []
    rest = len(steps) - SHOWN_STEPS
    return [
        f"{'change of level':<22}{'ratio':>12}  symbol and bar",
        *(
            f"{step['reason']:<22}{step['ratio']:>12.4g}  {step['symbol']} {step['timestamp']}"
            for step in steps[:SHOWN_STEPS]
        ),
        *([f"and {rest} more"] if rest > 0 else []),
        "",
    ]


def _missing(health: Health) -> list[str]:
    lines, gaps, outages = [], health.get("gaps"), health.get("outages")
    if gaps and gaps["count"]:
        longest = gaps["longest"][0]
        lines.append(
            f"gaps: {gaps['count']:,} ({gaps['missing_bars']:,} bars, {gaps['missing_in_source']:,} of them"
            f" missing in the source), longest {longest['symbol']} {longest['missing_bars']} bars"
        )
    if outages and outages["count"]:
        lines.append(f"outages: {outages['count']:,} ({outages['missing_bars']:,} bars that no symbol has)")
    return lines


def _first(entry: Reason) -> str:
    example = entry["examples"][0] if entry["examples"] else {}
    return f"{example.get('symbol')} {example.get('timestamp')}"
