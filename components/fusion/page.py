"""The fusion report as one self-contained page: what covers how much, how old values are, and what is wrong
in each slow table.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.page import card, escape, number, page, plot, section, table, tile

LOW = 0.7
VALUE_FAULTS = ("missing", "out_of_range", "conflicting", "unit_jumps", "frozen")
STYLE = ".day{white-space:nowrap}"
COUNTS = (
    "duplicates",
    "contradicted",
    "republications",
    "amendments",
    "older_observations",
    "no_values",
    "gaps",
)


def fusion_page(report: Mapping[str, Any]) -> str:
    """The page of the report of `fuse_panel`."""
    sections = [
        ("coverage", "coverage", _coverage(report)),
        ("times", "times", _times(report)),
        ("faults", "faults", _faults(report)),
        ("tickers", "tickers and symbols", _tickers(report)),
        ("config", "config", _config(report)),
    ]
    return page("Fusion of slow tables", _head(report), sections, style=STYLE)


def _head(report: Mapping[str, Any]) -> str:
    checks, panel, coverage = report["checks"], report["panel"], report["coverage"]
    margin = checks["smallest_margin_s"]
    refused = sum(entry["rows"] for slow in report["tables"] for entry in slow["refused"])
    tiles = [
        tile(f"{len(coverage)}", f"slow columns of {len(report['tables'])} tables"),
        tile(
            f"{sum(entry['coverage'] >= report['config']['min_coverage'] for entry in coverage)}",
            f"cover {report['config']['min_coverage']:.0%} of the panel or more",
        ),
        tile(
            f"{checks['values_compared']:,}",
            f"values of {checks['rows_verified']:,} rows joined again one by one, all equal",
        ),
        tile(_duration(margin), "smallest distance from a row's becoming known to the bar that used it"),
        tile(f"{refused:,}", "rows refused"),
    ]
    return (
        f'<h1>Fusion of slow tables</h1><p class="soft">{panel["rows"]:,} bars of {panel["symbols"]:,}'
        f" symbols, {escape(panel['first'][:10])} to {escape(panel['last'][:10])}. A bar sees what was known"
        f' by its known_time; nothing later can change it.</p><div class="tiles">{"".join(tiles)}</div>'
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return (
        f"{seconds:,.0f} s"
        if seconds < 600
        else f"{seconds / 3600:,.1f} h"
        if seconds < 172_800
        else f"{seconds / 86_400:,.0f} d"
    )


def _coverage(report: Mapping[str, Any]) -> str:
    entries = report["coverage"]
    years = sorted({year for entry in entries for year in entry["by_year"]})
    names = [entry["column"] for entry in entries]
    heat = {
        "type": "heatmap",
        "x": years,
        "y": names[::-1],
        "z": [[entry["by_year"].get(year) for year in years] for entry in entries[::-1]],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(36,86,201,0.05)"], [1, "rgba(36,86,201,0.85)"]],
        "colorbar": {"tickformat": ".0%"},
    }
    rows = [
        [
            escape(entry["column"]),
            escape(entry["table"]),
            _share(entry["coverage"]),
            _day(entry["first"]),
            _day(entry["last"]),
            number(entry["age_days"]["median"], 1) if entry["age_days"] else "–",
            number(entry["age_days"]["most"], 1) if entry["age_days"] else "–",
            f"{len(entry['symbols_without']):,}",
            f"{len(entry['symbols_below']):,}",
            f'<span class="day">{entry["dates_below"]:,} of {entry["dates"]:,}</span>',
        ]
        for entry in entries
    ]
    header = [
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
    ]
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"tickmode": "linear", "dtick": 1},
        "margin": {"l": 190, "r": 12, "t": 8, "b": 40},
    }
    return section(
        "coverage",
        "What is covered",
        "Share of the panel's rows that hold a value. Below: less than"
        f" {report['config']['min_coverage']:.0%}. Ages count from the end of the observation to the bar.",
        plot("Coverage by year", [heat], layout, tall=True, wide=True),
        card(table(header, rows, text=[0, 1, 3, 4])),
    )


def _day(moment: str | None) -> str:
    return f'<span class="day">{escape((moment or "–")[:10])}</span>'


def _share(value: float) -> str:
    text = number(value, 1, percent=True)
    return text if value >= LOW else f'<b class="bad">{text}</b>'


def _times(report: Mapping[str, Any]) -> str:
    feeds = [
        (escape(slow["name"]), escape(_named(feed["columns"])), feed)
        for slow in report["tables"]
        for feed in slow["feeds"]
    ]
    times = [
        [
            name,
            columns,
            f"{feed['rows']:,}",
            _day(feed["first"]),
            _day(feed["last"]),
            *(number(feed["lag_days"].get(share), 1) for share in ("least", "median", "p99", "most")),
        ]
        for name, columns, feed in feeds
    ]
    repeats = [
        [name, columns, *(f"{feed[kind]:,}" for kind in COUNTS)]
        for name, columns, feed in feeds
        if any(feed[kind] for kind in COUNTS)
    ]
    header = [
        "table",
        "columns",
        "rows",
        "first",
        "last",
        "known after: least",
        "median",
        "99 of 100",
        "most",
    ]
    none = card(
        "<p>Every observation became known once, in order, without gaps.</p>", title="Repeats and gaps"
    )
    return section(
        "times",
        "When things happened, and when they became known",
        "Known after: days from the end of an observation. Republications repeat the values later; amendments"
        " change them and count from their own known time on; an older observation that becomes known after a"
        " newer one displaces nothing.",
        card(table(header, times, text=[0, 1, 3, 4])),
        (
            card(
                table(
                    ["table", "columns", *(kind.replace("_", " ") for kind in COUNTS)], repeats, text=[0, 1]
                ),
                title="Repeats and gaps",
            )
            if repeats
            else none
        ),
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _faults(report: Mapping[str, Any]) -> str:
    refused = [
        [
            escape(slow["name"]),
            escape(entry["says"]),
            f"{entry['rows']:,}",
            escape(
                "; ".join(
                    f"row {row['row']:,} {row['symbol'] or ''} known {row['known']}"
                    for row in entry["examples"][:3]
                )
            ),
        ]
        for slow in report["tables"]
        for entry in slow["refused"]
    ]
    found = [
        (slow["name"], name, entry)
        for slow in report["tables"]
        for feed in slow["feeds"]
        for name, entry in feed["by_column"].items()
    ]
    faulty = [
        (table_name, name, entry)
        for table_name, name, entry in found
        if any(entry[kind] for kind in VALUE_FAULTS)
    ]
    values = [
        [
            escape(table_name),
            escape(name),
            *(f"{entry[kind]:,}" for kind in VALUE_FAULTS),
            escape("; ".join(entry["unit_jump_examples"][:2])),
            f'<span class="day">{entry["longest_run"]:,}, {escape(entry["longest_run_at"])}</span>',
        ]
        for table_name, name, entry in faulty
    ]
    header = [
        "table",
        "column",
        "missing",
        "out of range",
        "contradicted",
        "jumps of unit",
        "frozen",
        "jumps (before, at, after)",
        "longest run",
    ]
    none = "<p>No row was refused.</p>"
    return section(
        "faults",
        "What is wrong in the files",
        "Refused rows are never joined. Contradicted: rows of the same symbol, observation and known time"
        " hold different values. Jumps of unit are by about a thousand, a million or a billion and come back;"
        " they are seen with hindsight, so they are told and not mended. Frozen: observations in runs of 20"
        " or more equal values.",
        card(
            (
                table(["table", "refused because", "rows", "such as"], refused, text=[0, 1, 3])
                if refused
                else none
            ),
            title="Refused rows",
        ),
        card(
            table(header, values, text=[0, 1, 7, 8]),
            title=f"Values: {len(found) - len(faulty)} of {len(found)} columns without a fault",
        ),
    )


def _tickers(report: Mapping[str, Any]) -> str:
    rows, settings = [], {table["name"]: table for table in report["config"]["tables"]}
    for slow in report["tables"]:
        companies, feeds = slow["companies_by_ticker"], slow["feeds"]
        if slow["symbols"] is None:
            continue
        entries = [entry for entry in report["coverage"] if entry["table"] == slow["name"]]
        early = sorted({symbol for entry in entries for symbol in entry["early_symbols"]})
        reached = [entry["other_company"] for entry in entries if entry["other_company"] is not None]
        paused = max(feed["symbols_with_long_pause"] for feed in feeds)
        rows.append(
            [
                escape(slow["name"]),
                f"{slow['symbols']:,}",
                f"{slow['symbols_without_panel']:,}",
                (
                    f"{len(slow['panel_symbols_without_table']):,}"
                    f" {escape(', '.join(slow['panel_symbols_without_table'][:6]))}"
                ),
                f"{len(companies['by_identity']):,} {escape(', '.join(companies['by_identity'][:10]))}",
                (
                    f"{len(companies['by_company_column']):,}"
                    f" {escape(', '.join(companies['by_company_column'][:6]))}"
                ),
                f"{max(reached):,}" if reached else "–",
                f"{max(entry['early_rows'] for entry in entries):,} {escape(', '.join(early[:10]))}",
                f"{paused:,}",
                escape(_treatment(settings[slow["name"]], companies["told_apart"])),
            ]
        )
    header = [
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
    ]
    body = (
        card(table(header, rows, text=[0, 3, 4, 5, 7, 9]))
        if rows
        else card("<p>All tables are for the market as a whole.</p>")
    )
    return section(
        "tickers",
        "Whose values they are",
        "Values of one company must not reach the bars of another under the same ticker; the last column says"
        " what is done about it.",
        body,
    )


def _treatment(table: Mapping[str, Any], told_apart: bool) -> str:
    apart = told_apart and (table["identity"] is None or table["identity"]["apply"])
    early = "; rows before the first bar refused" if table["before_first_bar"] == "refuse" else ""
    return ("companies told apart" if apart else "one company a ticker") + early


def _config(report: Mapping[str, Any]) -> str:
    files = [
        [
            escape(slow["name"]),
            escape(slow["path"]),
            f"<code>{escape(slow['sha256'][:16])}</code>",
            f"{slow['rows_in_file']:,}",
            f"{slow['rows_after_where']:,}",
        ]
        for slow in report["tables"]
    ]
    text = escape(json.dumps(report["config"], indent=1))
    return section(
        "config",
        "On which files, with which settings",
        "Enough to join them again.",
        card(table(["table", "file", "SHA-256", "rows", "used"], files, text=[0, 1, 2])),
        card(f"<details><summary>settings</summary><pre>{text}</pre></details>"),
    )
