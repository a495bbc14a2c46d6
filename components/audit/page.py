"""The audit as one self-contained HTML page: the verdict, the leaks, warm-ups, the timing placebo, what was
looked at, and what no audit can see.
"""

from collections.abc import Sequence

from components.audit.result import ADVICE, AuditResult, Leak
from components.page import card, escape, number, page, plot, section, table, tile

SHOWN_CUTS, SHOWN_WARM_UPS, SHOWN_LINES = 40, 40, 12
CUT_KINDS = {
    "sampled": "drawn",
    "guided": "where a factor resembles the next return",
    "scan": "added while the time lasted",
    "suspected": "suspected by a staggered future",
    "late": "bars known late",
}
UNSEEN = (
    (
        "A function that reads the future from elsewhere than the panel it is given (a file, a database, a"
        " value kept from an earlier call): only the timing placebo can show it, where it is strong."
    ),
    (
        "A column of the panel that itself holds the future and is no return of the close, unless it is"
        " declared as a label."
    ),
    "A leak in rows that lie at no cut: one symbol on one date, in a panel too large for a cut at every bar.",
    (
        "A leak smaller than a ten-billionth of the value, or smaller than the noise of a column that is not"
        " reproducible."
    ),
    (
        "Choices that a person made after seeing the whole history: which factors to write, which windows,"
        " which symbols to collect."
    ),
)


def page_html(result: AuditResult, title: str = "Leak audit") -> str:
    """The page as text; needs nothing from the network, reads well on light and dark screens."""
    checked = result.checked
    sections = [("leaks", "Leaks", _leaks(result))] if result.leaks else []
    sections += [("unstable", "Not reproducible", _unstable(result))] if result.unstable else []
    sections += [("placebo", "Timing placebo", _placebo(result))] if result.placebo else []
    sections += [("warm-up", "Warm-up", _warm_up(result.warm_up))] if result.warm_up else []
    sections.append(("checked", "What was checked", _checked(result)))
    unseen = "".join(f"<li>{escape(text)}</li>" for text in UNSEEN)
    sections.append(
        (
            "unseen",
            "What can't be seen",
            section(
                "unseen",
                "What can't be seen",
                "An audit that finds nothing is no proof. It can't see:",
                card(f"<ul>{unseen}</ul>"),
            ),
        )
    )
    failed = len({leak.factor for leak in result.leaks})
    badge = (
        '<span class="badge good">no leak found</span>'
        if result.passed
        else f'<span class="badge bad">{failed} {"column" if failed == 1 else "columns"} failed</span>'
    )
    tiles = [
        tile(f"{failed} / {checked.get('factors', 0):,}", "factor columns with leaks"),
        tile(_count(checked.get("factor_values_compared")), "factor values compared"),
        tile(_count(len(checked.get("cuts", []))), "cuts"),
        tile(_count(checked.get("builds")), "builds"),
    ]
    if checked.get("label_rows_compared"):
        tiles.append(tile(_count(checked["label_rows_compared"]), "label rows compared"))
    said = (
        "Nothing at or before a cut moved when what came after it was changed or taken away."
        if result.passed
        else "What is named below used what was not known yet."
    )
    head = (
        f'<h1>{escape(title)}{badge}</h1><p class="soft">{said}</p><div class="tiles">{"".join(tiles)}</div>'
    )
    return page(title, head, sections, style="li{margin:.3rem 0} td.text{white-space:normal}")


def _leaks(result: AuditResult) -> str:
    by_factor: dict[str, list[Leak]] = {}
    for leak in result.leaks:
        by_factor.setdefault(leak.factor, []).append(leak)
    header = (
        "column",
        "found by",
        "first row",
        "symbol",
        "bars ahead",
        "largest change",
        "x usual size",
        "came or went",
        "rows",
    )
    checks = dict.fromkeys(leak.check for leak in result.leaks)
    advice = "".join(
        f"<p><b>{escape(check)}</b>: {escape(ADVICE[check])}.</p>" for check in checks if check in ADVICE
    )
    rows = [_row(leaks) for leaks in by_factor.values()]
    return section(
        "leaks",
        "Leaks",
        "Each row is a column; the numbers are those of the first check that found it.",
        card(table(header, rows, text=(1, 2, 3))),
        card(advice, title="What to do"),
    )


def _row(leaks: Sequence[Leak]) -> list[str]:
    """One column's leaks in one row: the numbers of the first, the names of all checks and what they add."""
    leak = leaks[0]
    found_by = ", ".join(dict.fromkeys(one.check for one in leaks))
    details = ". ".join(dict.fromkeys(one.detail for one in leaks if one.detail))
    return [
        escape(leak.factor),
        escape(f"{found_by}. {details}." if details else found_by),
        (
            f"{leak.timestamp:%Y-%m-%d %H:%M}".replace(" ", "&nbsp;").replace("-", "&#8209;")
            if leak.timestamp
            else ""
        ),
        escape(leak.symbol if leak.symbol is not None else ""),
        "" if leak.bars_ahead is None else f"{leak.bars_ahead:,} or more",
        _short(leak.absolute),
        _short(leak.relative),
        f"{leak.appeared_or_vanished:,}" if leak.appeared_or_vanished else "",
        f"{leak.rows:,}",
    ]


def _unstable(result: AuditResult) -> str:
    rows = [
        [escape(entry["factor"]), _short(entry["size"]), f"{entry['rows']:,}"] for entry in result.unstable
    ]
    intro = (
        "Two builds of the same panel differ. That is no leak, but a leak smaller than the difference can't"
        " be told from it: fix the seed and audit again."
    )
    return section(
        "unstable", "Not reproducible", intro, card(table(("column", "largest difference", "rows"), rows))
    )


def _placebo(result: AuditResult) -> str:
    """Rank IC by delay: the leaking factors, then those that lose most by one bar of delay."""
    leaking = {leak.factor for leak in result.leaks}
    ordered = sorted(result.placebo, key=lambda entry: (entry["factor"] not in leaking, -entry["loss"]))[
        :SHOWN_LINES
    ]
    lines = [
        {
            "x": entry["lags"],
            "y": entry["ic"],
            "name": entry["factor"],
            "mode": "lines+markers",
            "line": {"width": 3 if entry["factor"] in leaking else 1.5},
        }
        for entry in ordered
    ]
    layout = {
        "xaxis": {"title": "bars of delay", "type": "linear"},
        "yaxis": {"title": "rank IC with the next return"},
    }
    rows = [
        [
            escape(e["factor"]),
            number(e["ic"][0], 3),
            number(e["ic"][1], 3),
            number(e["loss"], 3),
            number(e["t"], 1),
        ]
        for e in ordered
    ]
    intro = (
        "A factor that knows the next return ranks like it, and stops when it is delayed by a bar. Honest"
        " factors lose little at once."
    )
    shown = f"{len(ordered)} of {len(result.placebo)} factors: those with leaks, then those that lose most"
    header = ("factor", "IC", "IC, one bar later", "loss", "t of the loss")
    return section(
        "placebo",
        "Timing placebo",
        intro,
        plot("Rank IC by delay", lines, layout, note=shown),
        card(table(header, rows), title="Loss by one bar of delay", wide=False),
    )


def _warm_up(entries: Sequence[dict]) -> str:
    """Bars until a factor no longer depends on where history begins, the longest first."""
    never = sum(entry["bars"] is None for entry in entries)
    ordered = sorted(entries, key=lambda entry: -(entry["bars"] if entry["bars"] is not None else 10**9))
    rows = [
        [
            escape(entry["factor"]),
            f"more than {entry['looked_at_bars']:,}" if entry["bars"] is None else f"{entry['bars']:,}",
            "" if entry["declared"] is None else f"{entry['declared']:,}",
        ]
        for entry in ordered[:SHOWN_WARM_UPS]
    ]
    more = (
        f'<p class="soft">and {len(ordered) - SHOWN_WARM_UPS:,} with shorter ones</p>'
        if len(ordered) > SHOWN_WARM_UPS
        else ""
    )
    stable = [entry["bars"] for entry in entries if entry["bars"] is not None]
    picture = plot(
        "Bars until stable",
        [{"type": "histogram", "x": stable, "nbinsx": 40}],
        {"xaxis": {"title": "bars"}, "yaxis": {"title": "factors"}, "showlegend": False},
    )
    intro = (
        f"Factors were built again from later starts. {never:,} of {len(entries):,} did not come to rest in"
        " the bars looked at: they depend on all their history."
    )
    return section(
        "warm-up",
        "Warm-up",
        intro,
        picture,
        card(table(("factor", "bars until stable", "declared"), rows) + more, wide=False),
    )


def _checked(result: AuditResult) -> str:
    checked = result.checked
    cuts = checked.get("cuts", [])
    made = [
        [
            escape(check),
            f"{count:,}",
            escape(
                ADVICE.get(
                    check, "each symbol gets another future after a moment of its own; suspicions go to a cut"
                )
            ),
        ]
        for check, count in checked.get("checks", {}).items()
    ]
    cards = [card(table(("check", "times made", "what a finding means"), made, text=(2,)))] if made else []
    if cuts:
        kinds = dict.fromkeys(cut["kind"] for cut in cuts)
        marks = [
            {
                "x": [f"{cut['timestamp']}" for cut in cuts if cut["kind"] == kind],
                "y": [cut["symbols"] for cut in cuts if cut["kind"] == kind],
                "mode": "markers",
                "name": CUT_KINDS.get(kind, kind),
                "marker": {"size": 8},
            }
            for kind in kinds
        ]
        cards.append(plot("Cuts", marks, {"yaxis": {"title": "symbols", "rangemode": "tozero"}}, wide=True))
    notes = [*checked.get("notes", [])]
    unseen = checked.get("factors_without_values", [])
    if unseen:
        notes.append(f"Columns without a single value, so nothing could be compared: {', '.join(unseen)}")
    if notes:
        cards.append(card("".join(f"<p>{escape(note)}</p>" for note in notes), title="Notes"))
    intro = (
        "Factors and labels were rebuilt on panels whose bars after a cut had been changed, dealt out anew or"
        " taken away; what stands at or before the cut must stay as it was."
    )
    return section("checked", "What was checked", intro, *cards)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "0" if value is None else f"{value:,}"
