"""The fusion report as one self-contained page: what covers how much, how old values are, and what is wrong
in each slow table.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.page import figure, number, write_page

LOW = 0.7
VALUE_FAULTS = ("missing", "out_of_range", "conflicting", "unit_jumps", "frozen")
COUNTS = (
    "duplicates",
    "contradicted",
    "republications",
    "amendments",
    "older_observations",
    "no_values",
    "gaps",
)
COVERAGE_COLUMNS = (
    "column",
    "table",
    "coverage",
    "first bar",
    "last bar",
    "median age, days",
    "oldest",
    "symbols without",
    "symbols below",
    "dates below",
)
TIME_COLUMNS = (
    "table",
    "columns",
    "rows",
    "first",
    "last",
    "known after: least",
    "median",
    "99 of 100",
    "most",
)
FAULT_COLUMNS = (
    "table",
    "column",
    "missing",
    "out of range",
    "contradicted",
    "jumps of unit",
    "frozen",
    "jumps (before, at, after)",
    "longest run",
)
TICKER_COLUMNS = (
    "table",
    "symbols",
    "not in the panel",
    "of the panel, not in the table",
    "several companies by identity",
    "by company column",
    "bars concerned",
    "rows before the first bar",
    "long pauses",
    "treated as",
)
SECTIONS = (
    ("coverage", "coverage"),
    ("times", "times"),
    ("faults", "faults"),
    ("tickers", "tickers and symbols"),
    ("config", "config"),
)

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Text of a cell; `kind` is `day` (no line ends in it), `low` (stands out) or `code`."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Listing:
    """A table; the columns numbered in `text` are left-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    text: Sequence[int]


def write_fusion_page(path: str | os.PathLike, report: Report) -> None:
    """Write the page atomically."""
    write_page(path, "fusion/page.html", **page_values(report))


def page_values(report: Report) -> dict[str, Any]:
    """What the template shows, in words and figures."""
    panel = report["panel"]
    return {
        "title": "Fusion of slow tables",
        "sections": SECTIONS,
        "panel": f"{panel['rows']:,} bars of {panel['symbols']:,} symbols,"
        f" {panel['first'][:10]} to {panel['last'][:10]}",
        "tiles": _tiles(report),
        "min_coverage": f"{report['config']['min_coverage']:.0%}",
        "by_year": _by_year(report["coverage"]),
        "coverage": _coverage(report["coverage"]),
        "times": _times(report),
        "repeats": _repeats(report),
        "refused": _refused(report),
        "values_title": _values_title(report),
        "values": _values(report),
        "tickers": _tickers(report),
        "files": _files(report),
        "config": json.dumps(report["config"], indent=1),
    }


def _tiles(report: Report) -> list[tuple[str, str]]:
    checks, coverage = report["checks"], report["coverage"]
    least = report["config"]["min_coverage"]
    refused = sum(entry["rows"] for slow in report["tables"] for entry in slow["refused"])
    return [
        (f"{len(coverage)}", f"slow columns of {len(report['tables'])} tables"),
        (
            f"{sum(entry['coverage'] >= least for entry in coverage)}",
            f"cover {least:.0%} of the panel or more",
        ),
        (
            f"{checks['values_compared']:,}",
            f"values of {checks['rows_verified']:,} rows joined again one by one, all equal",
        ),
        (
            _duration(checks["smallest_margin_s"]),
            "smallest distance from a row's becoming known to the bar that used it",
        ),
        (f"{refused:,}", "rows refused"),
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.0f} d"


def _by_year(coverage: Sequence[Report]) -> dict[str, Any]:
    """Share of rows with a value, by column and year."""
    years = sorted({year for entry in coverage for year in entry["by_year"]})
    heat = {
        "type": "heatmap",
        "x": years,
        "y": [entry["column"] for entry in coverage][::-1],
        "z": [[entry["by_year"].get(year) for year in years] for entry in coverage[::-1]],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(36,86,201,0.05)"], [1, "rgba(36,86,201,0.85)"]],
        "colorbar": {"tickformat": ".0%"},
    }
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"tickmode": "linear", "dtick": 1},
        "margin": {"l": 190, "r": 12, "t": 8, "b": 40},
    }
    return figure([heat], layout)


def _coverage(coverage: Sequence[Report]) -> Listing:
    rows = [
        [
            entry["column"],
            entry["table"],
            Cell(number(entry["coverage"], 1, percent=True), "" if entry["coverage"] >= LOW else "low"),
            _day(entry["first"]),
            _day(entry["last"]),
            number(entry["age_days"]["median"], 1) if entry["age_days"] else "–",
            number(entry["age_days"]["most"], 1) if entry["age_days"] else "–",
            f"{len(entry['symbols_without']):,}",
            f"{len(entry['symbols_below']):,}",
            Cell(f"{entry['dates_below']:,} of {entry['dates']:,}", "day"),
        ]
        for entry in coverage
    ]
    return _listing(COVERAGE_COLUMNS, rows, (0, 1, 3, 4))


def _feeds(report: Report) -> Iterator[tuple[str, str, Report]]:
    """Table, columns and counts of each feed."""
    for slow in report["tables"]:
        for feed in slow["feeds"]:
            names = feed["columns"]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield slow["name"], ", ".join(names[:3]) + more, feed


def _times(report: Report) -> Listing:
    rows = [
        [
            name,
            columns,
            f"{feed['rows']:,}",
            _day(feed["first"]),
            _day(feed["last"]),
            *(number(feed["lag_days"].get(share), 1) for share in ("least", "median", "p99", "most")),
        ]
        for name, columns, feed in _feeds(report)
    ]
    return _listing(TIME_COLUMNS, rows, (0, 1, 3, 4))


def _repeats(report: Report) -> Listing:
    rows = [
        [name, columns, *(f"{feed[kind]:,}" for kind in COUNTS)]
        for name, columns, feed in _feeds(report)
        if any(feed[kind] for kind in COUNTS)
    ]
    return _listing(["table", "columns", *(kind.replace("_", " ") for kind in COUNTS)], rows, (0, 1))


def _refused(report: Report) -> Listing:
    rows = [
        [slow["name"], entry["says"], f"{entry['rows']:,}", "; ".join(map(_example, entry["examples"][:3]))]
        for slow in report["tables"]
        for entry in slow["refused"]
    ]
    return _listing(("table", "refused because", "rows", "such as"), rows, (0, 1, 3))


def _example(row: Report) -> str:
    return f"row {row['row']:,} {row['symbol'] or ''} known {row['known']}"


def _columns(report: Report) -> list[tuple[str, str, Report]]:
    """Table, name and counts of each column of a file."""
    return [
        (slow["name"], name, entry)
        for slow in report["tables"]
        for feed in slow["feeds"]
        for name, entry in feed["by_column"].items()
    ]


def _is_faulty(entry: Report) -> bool:
    return any(entry[kind] for kind in VALUE_FAULTS)


def _values_title(report: Report) -> str:
    entries = [entry for _, _, entry in _columns(report)]
    sound = sum(not _is_faulty(entry) for entry in entries)
    return f"Values: {sound} of {len(entries)} columns without a fault"


def _values(report: Report) -> Listing:
    rows = [
        [
            table,
            name,
            *(f"{entry[kind]:,}" for kind in VALUE_FAULTS),
            "; ".join(entry["unit_jump_examples"][:2]),
            Cell(f"{entry['longest_run']:,}, {entry['longest_run_at']}", "day"),
        ]
        for table, name, entry in _columns(report)
        if _is_faulty(entry)
    ]
    return _listing(FAULT_COLUMNS, rows, (0, 1, 7, 8))


def _tickers(report: Report) -> Listing:
    settings = {table["name"]: table for table in report["config"]["tables"]}
    rows = [
        _ticker_row(slow, settings[slow["name"]], report["coverage"])
        for slow in report["tables"]
        if slow["symbols"] is not None
    ]
    return _listing(TICKER_COLUMNS, rows, (0, 3, 4, 5, 7, 9))


def _ticker_row(slow: Report, settings: Report, coverage: Sequence[Report]) -> list[str]:
    companies, absent = slow["companies_by_ticker"], slow["panel_symbols_without_table"]
    entries = [entry for entry in coverage if entry["table"] == slow["name"]]
    early = sorted({symbol for entry in entries for symbol in entry["early_symbols"]})
    reached = [entry["other_company"] for entry in entries if entry["other_company"] is not None]
    return [
        slow["name"],
        f"{slow['symbols']:,}",
        f"{slow['symbols_without_panel']:,}",
        _some(len(absent), absent, 6),
        _some(len(companies["by_identity"]), companies["by_identity"], 10),
        _some(len(companies["by_company_column"]), companies["by_company_column"], 6),
        f"{max(reached):,}" if reached else "–",
        _some(max(entry["early_rows"] for entry in entries), early, 10),
        f"{max(feed['symbols_with_long_pause'] for feed in slow['feeds']):,}",
        _treatment(settings, companies["told_apart"]),
    ]


def _some(count: int, names: Sequence[str], shown: int) -> str:
    return f"{count:,} {', '.join(names[:shown])}"


def _treatment(table: Report, told_apart: bool) -> str:
    apart = told_apart and (table["identity"] is None or table["identity"]["apply"])
    early = "; rows before the first bar refused" if table["before_first_bar"] == "refuse" else ""
    return ("companies told apart" if apart else "one company a ticker") + early


def _files(report: Report) -> Listing:
    rows = [
        [
            slow["name"],
            slow["path"],
            Cell(slow["sha256"][:16], "code"),
            f"{slow['rows_in_file']:,}",
            f"{slow['rows_after_where']:,}",
        ]
        for slow in report["tables"]
    ]
    return _listing(("table", "file", "SHA-256", "rows", "used"), rows, (0, 1, 2))


def _day(moment: str | None) -> Cell:
    return Cell((moment or "–")[:10], "day")


def _listing(columns: Sequence[str], rows: Sequence[Sequence[str | Cell]], text: Sequence[int]) -> Listing:
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    return Listing(columns, cells, text)
