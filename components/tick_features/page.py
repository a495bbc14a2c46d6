"""The leak audit of tick features as a page: the verdict, what leaked, where was looked."""

import os

from components.contracts.documents.leak_audit import LeakAudit
from components.page import figure, number, write_page
from components.tick_features.audit import CHECKS


def write_audit_page(path: str | os.PathLike, found: LeakAudit) -> None:
    """Write the page, which needs nothing from the network."""
    checked = found.checked
    failed = len({leak.factor for leak in found.leaks})
    write_page(
        path,
        "tick_features/page.html",
        title="Leak audit of tick features",
        sections=_sections(found),
        passed=found.passed,
        failed=failed,
        tiles=[
            (f"{failed} / {checked.factors:,}", "columns with leaks"),
            (number(checked.factor_values_compared, 0), "values compared"),
            (number(len(checked.cuts), 0), "cuts"),
            (number(checked.builds, 0), "builds"),
            (number(checked.panel_rows, 0), "ticks gone through"),
        ],
        leaks=[
            [
                leak.factor,
                leak.check,
                leak.timestamp or "",
                leak.symbol or "",
                leak.cut or "",
                number(leak.bars_ahead, 0),
                "" if leak.size is None else f"{leak.size:.3g}",
                number(leak.appeared_or_vanished, 0),
                number(leak.rows, 0),
            ]
            for leak in found.leaks
        ],
        checks=[[check, number(count, 0), CHECKS[check]] for check, count in checked.checks.items()],
        cuts=_cuts(found) if checked.cuts else None,
        notes=_notes(found),
    )


def _sections(found: LeakAudit) -> list[tuple[str, str]]:
    parts = [(found.leaks, "leaks", "Leaks"), (True, "checked", "What was checked")]
    return [(name, title) for there, name, title in parts if there]


def _notes(found: LeakAudit) -> list[str]:
    empty = found.checked.factors_without_values
    unseen = [f"Columns without a single value, so nothing could be compared: {', '.join(empty)}"]
    return [*found.checked.notes, *(unseen if empty else [])]


def _cuts(found: LeakAudit) -> dict:
    """When ticks were cut, and how many samples stood before it."""
    marks = {
        "x": [cut.timestamp for cut in found.checked.cuts],
        "y": [cut.rows for cut in found.checked.cuts],
        "mode": "markers",
        "marker": {"size": 8},
    }
    return figure([marks], {"yaxis": {"title": "samples", "rangemode": "tozero"}, "showlegend": False})
