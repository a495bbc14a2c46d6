"""The audit as one self-contained HTML page: the verdict, the leaks, and what was looked at."""

from html import escape

from components.audit.result import ADVICE, AuditResult, Leak

STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#667085;--line:#d9dee8;--paper:#fff;--good:#1a7f4b;--bad:#b42318;--bar:#3867d6}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#98a2b3;--line:#313a4a;--paper:#12161f;--good:#4ac585;--bad:#ff7a6e;--bar:#7aa2ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1180px;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}p{margin:.3rem 0;color:var(--soft)}
.verdict{font-size:1.15rem;font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}td.wide{white-space:normal;min-width:12rem}
th{color:var(--soft);font-weight:500;white-space:normal}td.number{text-align:right;font-variant-numeric:tabular-nums}
.figures{display:flex;flex-wrap:wrap;gap:1.6rem;margin:1rem 0}.figures b{display:block;font-size:1.3rem}.figures span{color:var(--soft);font-size:.85rem}
svg{width:100%;height:46px}
"""


def page_html(result: AuditResult) -> str:
    """The page as text; needs nothing from the network, reads well on light and dark screens."""
    checked = result.checked
    verdict = (
        '<p class="verdict good">No leak found.</p>'
        if result.passed
        else f'<p class="verdict bad">{len({leak.factor for leak in result.leaks})} columns failed. The run was stopped.</p>'
    )
    figures = "".join(
        f"<div><b>{value}</b><span>{escape(name)}</span></div>"
        for name, value in (
            ("factor columns", _count(checked.get("factors"))),
            ("factor values compared", _count(checked.get("factor_values_compared"))),
            ("label rows compared", _count(checked.get("label_rows_compared"))),
            ("cuts", _count(len(checked.get("cuts", [])))),
        )
    )
    notes = [*checked.get("notes", [])]
    unseen = checked.get("factors_without_values", [])
    if unseen:
        notes.append(f"Columns without a single value, so nothing could be compared: {', '.join(unseen)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Leak audit</title><style>{STYLE}</style></head><body><h1>Leak audit</h1>{verdict}"
        f'<div class="figures">{figures}</div>{_leaks(result)}{_cuts(checked.get("cuts", []))}'
        + (f"<h2>Notes</h2>{''.join(f'<p>{escape(note)}</p>' for note in notes)}" if notes else "")
        + "<h2>How it was checked</h2><p>Factors and labels were rebuilt on panels whose bars after a cut had been changed, or cut off; "
        "what stands at or before the cut must stay as it was. A leak of one single symbol and date that lies at no cut can be missed.</p></body></html>\n"
    )


def _leaks(result: AuditResult) -> str:
    if result.passed:
        return ""
    by_factor: dict[str, list[Leak]] = {}
    for leak in result.leaks:
        by_factor.setdefault(leak.factor, []).append(leak)
    head = "".join(f"<th>{name}</th>" for name in ("column", "found by", "first row", "symbol", "bars ahead", "largest change", "x usual size", "appeared or vanished", "rows"))
    rows = "".join(_row(leaks) for leaks in by_factor.values())
    checks = dict.fromkeys(leak.check for leak in result.leaks)
    advice = "".join(f"<p><b>{escape(check)}</b>: {escape(ADVICE[check])}.</p>" for check in checks if check in ADVICE)
    return f'<h2>Leaks</h2><div class="scroll"><table><tr>{head}</tr>{rows}</table></div><h2>What to do</h2>{advice}'


def _row(leaks: list[Leak]) -> str:
    """One column's leaks in one row: the numbers of the first, the names of all checks and what they add."""
    leak = leaks[0]
    found_by = ", ".join(dict.fromkeys(one.check for one in leaks))
    details = ". ".join(dict.fromkeys(one.detail for one in leaks if one.detail))
    cells = (
        ("", leak.factor),
        ("wide", f"{found_by}. {details}." if details else found_by),
        ("", f"{leak.timestamp:%Y-%m-%d %H:%M}" if leak.timestamp else ""),
        ("", leak.symbol or ""),
        ("number", "" if leak.bars_ahead is None else f"{leak.bars_ahead:,} or more"),
        ("number", "" if leak.absolute is None else f"{leak.absolute:.3g}"),
        ("number", "" if leak.relative is None else f"{leak.relative:.3g}"),
        ("number", f"{leak.appeared_or_vanished:,}" if leak.appeared_or_vanished else ""),
        ("number", f"{leak.rows:,}"),
    )
    return "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in cells) + "</tr>"


def _cuts(cuts: list[dict]) -> str:
    if not cuts:
        return ""
    first, last = (pick(cut["timestamp"] for cut in cuts) for pick in (min, max))
    span = (last - first).total_seconds() or 1.0
    marks = "".join(
        f'<rect x="{18 + 960 * (cut["timestamp"] - first).total_seconds() / span:.0f}" y="6" width="4" height="28" rx="2" fill="var(--bar)" '
        f'fill-opacity="{1 if cut["kind"] == "sampled" else 0.5}"><title>{cut["timestamp"]:%Y-%m-%d %H:%M}, {cut["kind"]}</title></rect>'
        for cut in cuts
    )
    line = (
        f'<svg viewBox="0 0 1000 40" preserveAspectRatio="none" role="img" aria-label="cuts over time"><line x1="20" x2="980" y1="20" y2="20" stroke="var(--line)"/>{marks}</svg>'
    )
    rows = "".join(
        f'<tr><td>{cut["timestamp"]:%Y-%m-%d %H:%M}</td><td>{cut["kind"]}</td><td class="number">{cut["symbols"]:,}</td><td class="number">{cut["rows"]:,}</td>'
        f'<td class="number">{cut["bars_after"]:,}</td></tr>'
        for cut in cuts[:40]
    )
    more = f"<p>and {len(cuts) - 40:,} more</p>" if len(cuts) > 40 else ""
    head = "<tr><th>cut</th><th>chosen</th><th>symbols</th><th>rows before it</th><th>bars after it in the panel</th></tr>"
    return f'<h2>Cuts</h2>{line}<div class="scroll"><table>{head}{rows}</table></div>{more}'


def _count(value: int | None) -> str:
    return "0" if value is None else f"{value:,}"
