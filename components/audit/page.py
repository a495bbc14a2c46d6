"""The audit as one self-contained page: the verdict, the leaks, warm-ups, the timing placebo, what was looked
at, and what no audit can see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.audit.result import ADVICE, AuditResult, Leak
from components.page import figure, number, render

SHOWN_WARM_UPS, SHOWN_LINES = 40, 12
CUT_KINDS = {
    "sampled": "drawn",
    "guided": "where a factor resembles the next return",
    "scan": "added where a leak of rare rows would show",
    "suspected": "suspected by a staggered future",
    "late": "bars known late",
}
OF_NO_ADVICE = "each symbol gets another future after a moment of its own; suspicions go to a cut"


@dataclass(frozen=True)
class Part:
    """Rows of a table, with the sentence or the figure that stands beside them."""

    rows: Sequence[Sequence[str]]
    said: str = ""
    figure: Mapping[str, Any] | None = None


def page_html(result: AuditResult, title: str = "Leak audit") -> str:
    """The page as text; needs nothing from the network, reads well on light and dark screens."""
    checked = result.checked
    unseen = checked.get("factors_without_values", [])
    notes = [*checked.get("notes", [])]
    if unseen:
        notes.append(f"Columns without a single value, so nothing could be compared: {', '.join(unseen)}")
    return render(
        "audit/page.html",
        title=title,
        sections=_sections(result),
        passed=result.passed,
        failed=len({leak.factor for leak in result.leaks}),
        tiles=_tiles(result),
        leaks=_leaks(result),
        advice=_advice(result),
        unstable=_unstable(result),
        placebo=_placebo(result) if result.placebo else None,
        warm_up=_warm_up(result.warm_up) if result.warm_up else None,
        checks=_checks(checked.get("checks", {})),
        cuts=_cuts(checked.get("cuts", [])),
        notes=notes,
    )


def _sections(result: AuditResult) -> list[tuple[str, str]]:
    """Id and name of each part that there is."""
    parts = [
        (result.leaks, "leaks", "Leaks"),
        (result.unstable, "unstable", "Not reproducible"),
        (result.placebo, "placebo", "Timing placebo"),
        (result.warm_up, "warm-up", "Warm-up"),
        (True, "checked", "What was checked"),
        (True, "unseen", "What can't be seen"),
    ]
    return [(name, title) for there, name, title in parts if there]


def _tiles(result: AuditResult) -> list[tuple[str, str]]:
    checked = result.checked
    failed = len({leak.factor for leak in result.leaks})
    tiles = [
        (f"{failed} / {checked.get('factors', 0):,}", "factor columns with leaks"),
        (_count(checked.get("factor_values_compared")), "factor values compared"),
        (_count(len(checked.get("cuts", []))), _cuts_made(checked)),
        (_count(checked.get("builds")), "builds"),
    ]
    if checked.get("label_rows_compared"):
        tiles.append((_count(checked["label_rows_compared"]), "label rows compared"))
    return tiles


def _cuts_made(checked: Mapping[str, Any]) -> str:
    left_out = checked.get("scan_cuts_left_out")
    return f"cuts; {left_out:,} more not made" if left_out else "cuts"


def _leaks(result: AuditResult) -> list[list[str]]:
    by_factor: dict[str, list[Leak]] = {}
    for leak in result.leaks:
        by_factor.setdefault(leak.factor, []).append(leak)
    return [_row(leaks) for leaks in by_factor.values()]


def _row(leaks: Sequence[Leak]) -> list[str]:
    """One column's leaks in one row: the numbers of the first, the names of all checks and what they add."""
    leak = leaks[0]
    found_by = ", ".join(dict.fromkeys(one.check for one in leaks))
    details = ". ".join(dict.fromkeys(one.detail for one in leaks if one.detail))
    return [
        leak.factor,
        f"{found_by}. {details}." if details else found_by,
        _unbroken(f"{leak.timestamp:%Y-%m-%d %H:%M}") if leak.timestamp else "",
        leak.symbol if leak.symbol is not None else "",
        "" if leak.bars_ahead is None else f"{leak.bars_ahead:,} or more",
        _short(leak.absolute),
        _short(leak.relative),
        f"{leak.appeared_or_vanished:,}" if leak.appeared_or_vanished else "",
        f"{leak.rows:,}",
    ]


def _unbroken(text: str) -> str:
    """The same with a space and a hyphen at which no line ends."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "\N{NON-BREAKING HYPHEN}")


def _advice(result: AuditResult) -> list[tuple[str, str]]:
    checks = dict.fromkeys(leak.check for leak in result.leaks)
    return [(check, ADVICE[check]) for check in checks if check in ADVICE]


def _unstable(result: AuditResult) -> list[list[str]]:
    return [[entry["factor"], _short(entry["size"]), f"{entry['rows']:,}"] for entry in result.unstable]


def _placebo(result: AuditResult) -> Part:
    """Rank IC by delay: the leaking factors, then those that lose most by one bar of delay."""
    leaking = {leak.factor for leak in result.leaks}
    ordered = sorted(result.placebo, key=lambda entry: (entry["factor"] not in leaking, -entry["loss"]))
    shown = ordered[:SHOWN_LINES]
    lines = [
        {
            "x": entry["lags"],
            "y": entry["ic"],
            "name": entry["factor"],
            "mode": "lines+markers",
            "line": {"width": 3 if entry["factor"] in leaking else 1.5},
        }
        for entry in shown
    ]
    layout = {
        "xaxis": {"title": "bars of delay", "type": "linear"},
        "yaxis": {"title": "rank IC"},
    }
    rows = [
        [
            entry["factor"],
            number(entry["ic"][0], 3),
            number(entry["ic"][1], 3),
            number(entry["loss"], 3),
            number(entry["t"], 1),
        ]
        for entry in shown
    ]
    said = f"{len(shown)} of {len(result.placebo)} factors: those with leaks, then those that lose most"
    return Part(rows, said, figure(lines, layout))


def _warm_up(entries: Sequence[dict]) -> Part:
    """Bars until a factor no longer depends on where history begins, the longest first."""
    ordered = sorted(entries, key=lambda entry: -(entry["bars"] if entry["bars"] is not None else 10**9))
    rows = [
        [
            entry["factor"],
            f"more than {entry['looked_at_bars']:,}" if entry["bars"] is None else f"{entry['bars']:,}",
            "" if entry["declared"] is None else f"{entry['declared']:,}",
        ]
        for entry in ordered[:SHOWN_WARM_UPS]
    ]
    stable = [entry["bars"] for entry in entries if entry["bars"] is not None]
    layout = {"xaxis": {"title": "bars"}, "yaxis": {"title": "factors"}, "showlegend": False}
    never = sum(entry["bars"] is None for entry in entries)
    said = (
        f"Factors were built again from later starts. {never:,} of {len(entries):,} did not come to rest in"
        " the bars looked at: they depend on all their history."
    )
    if len(ordered) > SHOWN_WARM_UPS:
        rows.append([f"and {len(ordered) - SHOWN_WARM_UPS:,} with shorter ones", "", ""])
    return Part(rows, said, figure([{"type": "histogram", "x": stable, "nbinsx": 40}], layout))


def _checks(made: Mapping[str, int]) -> list[list[str]]:
    return [[check, f"{count:,}", ADVICE.get(check, OF_NO_ADVICE)] for check, count in made.items()]


def _cuts(cuts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """When history was cut, and how many symbols stood there."""
    if not cuts:
        return None
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
    return figure(marks, {"yaxis": {"title": "symbols", "rangemode": "tozero"}})


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "0" if value is None else f"{value:,}"
