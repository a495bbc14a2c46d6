"""Pages of validation: our summary, and Great Expectations' Data Docs made readable without a network."""

import html
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

MANY = 20
_LOADED = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<iframe\b.*?</iframe>",
    re.DOTALL | re.IGNORECASE,
)
_NAVIGATION = re.compile(r"<nav class=\"navbar.*?</nav>\s*</div>\s*</nav>", re.DOTALL)
_SIDEBAR = re.compile(r"<div class=\"col-lg-2 col-md-2.*?(?=<div class=\"col-md-10 )", re.DOTALL)
_FOOTER_ADDRESS = re.compile(r"<(a|div|p)\b[^>]*\bhref=\"https?://[^\"]*\"[^>]*>(.*?)</\1>", re.DOTALL)


def offline(page: str, title: str) -> str:
    """A Data Docs page without anything that a browser would load: scripts, images and styles go, ours comes
    in.
    """
    page = _LOADED.sub("", page)
    page = _NAVIGATION.sub("", page)
    page = _SIDEBAR.sub("", page)
    page = re.sub(r"<a href=\"[^\"#]*expectations/[^\"]*\"\s*>(.*?)</a>", r"\1", page, flags=re.DOTALL)
    page = _FOOTER_ADDRESS.sub(r"\2", page)
    page = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    page = re.sub(r"\n\s*\n+", "\n", page)
    head = f"<title>{html.escape(title)}</title><style>{_style()}</style>"
    page = page.replace("</head>", f"{head}</head>", 1)
    return page.replace(
        "<body>", '<body><main style="padding-bottom:0"><a href="index.html">Summary</a></main>', 1
    )


def summary_page(title: str, health: Mapping[str, Any], pages: Mapping[str, str]) -> str:
    """The page that a person opens first: verdict, critical failures with rows, what went to quarantine and
    why, coverage.

    `health` is what `components.validation.validate` returns; `pages` maps the file name of each Data Docs
    page to its title.
    """
    failed = health["verdict"] == "failed"
    parts = [
        (
            f"<h1>{_text(title)}: <span"
            f" class='{'bad' if failed else 'good'}'>{'stopped' if failed else 'passed'}</span></h1>"
        ),
        f"<p class='soft'>{_text(_span(health))}</p>",
        _tiles(health),
        _absent(health.get("absent_columns", [])),
        _failures(health["failures"]),
        _reasons(health.get("reasons", [])),
        _fell_out(health.get("fell_out", {})),
        _gaps(health.get("gaps"), health.get("outages")),
        _table(
            "Coverage, worst first",
            health.get("coverage", []),
            ("symbol", "bars", "expected_bars", "coverage", "first", "last"),
        ),
        _expectations(health["expectations"]["results"]),
        "<h2>Data Docs</h2><ul>"
        + "".join(f"<li><a href='{_text(name)}'>{_text(label)}</a></li>" for name, label in pages.items())
        + "</ul>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><title>{_text(title)}</title><style>{_style()}</style>'
    )
    return (
        "<!DOCTYPE html>\n<html"
        f" lang='en'><head>{head}</head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def terminal_table(health: Mapping[str, Any]) -> str:
    """The same findings as plain text, one screen."""
    lines = [f"verdict: {health['verdict']}   {_span(health)}"]
    if "rows_in" in health:
        lines.append(
            f"rows: {health['rows_in']:,} in, {health['rows_out']:,} out, {health['rows_quarantined']:,} in"
            f" quarantine; symbols: {health['symbols_in']} in, {health['symbols_out']} out"
        )
    if health.get("absent_columns"):
        lines.append(f"not in the source, and not checked: {', '.join(health['absent_columns'])}")
    lines += [
        f"CRITICAL {failure['check']} ({failure['column']}): {failure['says']}; found {failure['found']}."
        f" {_sentence(failure['remedy'])}"
        for failure in health["failures"]
    ]
    reasons = health.get("reasons", [])
    if reasons:
        lines += ["", f"{'reason':<22}{'rows':>10}{'hindsight':>11}{'symbols':>9}  first"]
        lines += [
            f"{entry['reason']:<22}{entry['rows']:>10,}{entry['hindsight_rows']:>11,}{entry['symbols']:>9} "
            f" {_first(entry)}"
            for entry in reasons
        ]
    gaps = health.get("gaps")
    if gaps and gaps["count"]:
        lines.append(
            f"gaps: {gaps['count']:,} ({gaps['missing_bars']:,} bars, {gaps['missing_in_source']:,} of them"
            f" missing in the source), longest {gaps['longest'][0]['symbol']}"
            f" {gaps['longest'][0]['missing_bars']} bars"
        )
    outages = health.get("outages")
    if outages and outages["count"]:
        lines.append(f"outages: {outages['count']:,} ({outages['missing_bars']:,} bars that no symbol has)")
    counted = health["expectations"]
    lines.append(f"expectations: {counted['passed']} passed, {counted['failed']} failed")
    return "\n".join(lines)


def _tiles(health: Mapping[str, Any]) -> str:
    if "rows_in" not in health:
        return ""
    share = health["rows_quarantined"] / health["rows_in"] if health["rows_in"] else 0.0
    counted = health["expectations"]
    tiles = {
        "rows in": f"{health['rows_in']:,}",
        "rows out": f"{health['rows_out']:,}",
        "in quarantine": f"{health['rows_quarantined']:,} ({share:.2%})",
        "of them with hindsight": f"{health['hindsight_quarantined']:,}",
        "symbols": f"{health['symbols_out']} of {health['symbols_in']}",
        "expectations met": f"{counted['passed']} of {counted['passed'] + counted['failed']}",
    }
    return (
        "<div class='tiles'>"
        + "".join(
            f"<div class='tile'><b>{_text(value)}</b><span class='soft'>{_text(name)}</span></div>"
            for name, value in tiles.items()
        )
        + "</div>"
    )


def _absent(columns: Sequence[str]) -> str:
    return (
        f"<p><b>Not in the source:</b> {_text(', '.join(columns))}. No check of these columns was made.</p>"
        if columns
        else ""
    )


def _failures(failures: Sequence[Mapping[str, Any]]) -> str:
    if not failures:
        return ""
    blocks = [
        f"<div class='failure'><h3 class='bad'>{_text(failure['check'])}:"
        f" <code>{_text(failure['column'])}</code></h3><p>Expected: {_text(failure['says'])}.<br>Found:"
        f" {_text(failure['found'])}.</p><p><b>What to do:</b>"
        f" {_text(_sentence(failure['remedy']))}</p>{_rows(failure['rows'])}</div>"
        for failure in failures
    ]
    return (
        f"<h2>{len(failures)} critical"
        f" {'failure' if len(failures) == 1 else 'failures'}</h2>{''.join(blocks)}"
    )


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> str:
    if not reasons:
        return "<h2>Quarantine</h2><p>No row was found faulty.</p>"
    most = max(entry["rows"] for entry in reasons)
    rows = [
        f"<tr><td><code>{_text(entry['reason'])}</code><br><span"
        f" class='soft'>{_text(entry['says'])}</span></td><td class='number'>{entry['rows']:,}</td><td><span"
        f" class='meter' style='width:{max(entry['rows'] / most * 8, 0.1):.2f}rem'></span></td><td"
        f" class='number'>{entry['symbols']:,}</td><td>{_text(entry['known'])}</td><td"
        f" class='number'>{entry['rows'] - entry['hindsight_rows']:,}</td><td"
        f" class='number'>{entry['hindsight_rows']:,}</td><td><details><summary>rows</summary>{_rows(entry['examples'])}<p"
        f" class='soft'>{_text(_sentence(entry['remedy']))}</p></details></td></tr>"
        for entry in reasons
    ]
    note = (
        "<p class='soft'>Known at the bar: rows whose fault shows in themselves and what came before them."
        " With hindsight: rows whose fault could only be known after their own timestamp; a live run would"
        " have used them first. A row may have several reasons. Notices are told, not quarantined.</p>"
    )
    head = (
        "<tr><th>reason</th><th class='number'>rows</th><th></th><th class='number'>symbols</th><th>can be"
        " known</th><th class='number'>known at the bar</th><th class='number'>with"
        " hindsight</th><th>examples</th></tr>"
    )
    return f"<h2>Quarantine</h2>{note}<div class='wide'><table>{head}{''.join(rows)}</table></div>"


def _fell_out(fell_out: Mapping[str, Any]) -> str:
    if not fell_out:
        return ""
    lines = [
        f"<p>{_text(name)}:"
        f" {len(values)}{' (' + _text(', '.join(map(str, values[:MANY]))) + ')' if values else ''}</p>"
        for name, values in fell_out.items()
    ]
    return f"<h2>What fell out as a whole</h2>{''.join(lines)}"


def _gaps(gaps: Mapping[str, Any] | None, outages: Mapping[str, Any] | None) -> str:
    parts = []
    if gaps:
        parts.append(
            _table(
                f"Gaps: {gaps['count']:,}, {gaps['missing_bars']:,} bars ({gaps['missing_in_source']:,}"
                " missing in the source, the others set aside)",
                gaps["longest"],
                ("symbol", "before", "after", "missing_bars"),
            )
        )
    if outages and outages["count"]:
        parts.append(
            _table(
                f"Bars that no symbol has: {outages['missing_bars']:,}",
                outages["longest"],
                ("before", "after", "missing_bars"),
            )
        )
    return "".join(parts)


def _expectations(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "<tr><td"
        f" class='{_mark(result)[1]}'>{_mark(result)[0]}</td><td><code>{_text(result['check'])}</code></td><td><code>{_text(result['column'])}</code></td><td>{_text(result['says'])}</td><td"
        f" class='number'>{_text(result['observed'])}</td></tr>"
        for result in results
    ]
    head = "<tr><th></th><th>check</th><th>column</th><th>expected</th><th class='number'>observed</th></tr>"
    return (
        f"<h2>Expectations</h2><details><summary>all {len(results)}</summary><div"
        f" class='wide'><table>{head}{''.join(rows)}</table></div></details>"
    )


def _mark(result: Mapping[str, Any]) -> tuple[str, str]:
    if result["passed"]:
        return "✓", "good"
    return ("critical", "bad") if result["critical"] else ("warning", "warn")


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    if not rows:
        return ""
    return (
        f"<h2>{_text(title)}</h2><details{' open' if len(rows) <= 3 else ''}><summary>{len(rows)}"
        f" shown</summary>{_rows([{name: row[name] for name in columns} for row in rows])}</details>"
    )


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(_cell(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def _span(health: Mapping[str, Any]) -> str:
    return (
        f"{health.get('first')} to {health.get('last')}, period {health.get('period')}"
        if health.get("first")
        else ""
    )


def _first(entry: Mapping[str, Any]) -> str:
    example = entry["examples"][0] if entry["examples"] else {}
    return f"{example.get('symbol')} {example.get('timestamp')}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _cell(value: Any) -> str:
    return "null" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


@cache
def _style() -> str:
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")
