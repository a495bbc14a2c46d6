"""What validation found, as plain text on one screen."""

from components.validation.health import Health, Reason
from components.validation.words import sentence, span


def terminal_table(health: Health) -> str:
    """Verdict, rows, critical failures, reasons, gaps and outages."""
    counted = health["expectations"]
    lines = [
        f"verdict: {health['verdict']}   {span(health)}",
        *_rows(health),
        *(
            f"CRITICAL {failure['check']} ({failure['column']}): {failure['says']}; found"
            f" {failure['found']}. {sentence(failure['remedy'])}"
            for failure in health["failures"]
        ),
        *_reasons(health.get("reasons", [])),
        *_missing(health),
        f"expectations: {counted['passed']} passed, {counted['failed']} failed",
    ]
    return "\n".join(lines)


def _rows(health: Health) -> list[str]:
    lines = []
    if "rows_in" in health:
        lines.append(
            f"rows: {health['rows_in']:,} in, {health['rows_out']:,} out, {health['rows_quarantined']:,} in"
            f" quarantine; symbols: {health['symbols_in']} in, {health['symbols_out']} out"
        )
    if health.get("absent_columns"):
        lines.append(f"not in the source, and not checked: {', '.join(health['absent_columns'])}")
    return lines


def _reasons(reasons: list[Reason]) -> list[str]:
    if not reasons:
        return []
    head = ["", f"{'reason':<22}{'rows':>10}{'hindsight':>11}{'symbols':>9}  first"]
    return head + [
        f"{entry['reason']:<22}{entry['rows']:>10,}{entry['hindsight_rows']:>11,}{entry['symbols']:>9} "
        f" {_first(entry)}"
        for entry in reasons
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
