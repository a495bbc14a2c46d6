"""Data health: how many rows and symbols, what was quarantined, what the leak audit compared."""

from dataclasses import dataclass

import polars as pl

from components.page import Picture
from components.report.picture import line, lying_bars, picture, thinned
from components.report.result import RunResult


@dataclass(frozen=True)
class DataSection:
    """`quarantined` is None where no row was."""

    intro: str
    breadth: Picture
    quarantined: Picture | None


def data_section(run: RunResult) -> DataSection:
    """What the data stage, validation and the leak audit found."""
    daily = thinned(run.panel.group_by("timestamp").agg(pl.len().alias("symbols")).sort("timestamp"))
    curve = line(daily, "symbols", "symbols", fill="tozeroy")
    breadth = picture("Symbols with a bar", [curve], {"yaxis": {"rangemode": "tozero"}})
    intro = f"{_facts(run)} {_leaks(run)} Every check is in the Data Docs beside this report."
    return DataSection(intro, breadth, _quarantined(run.quarantine))


def _facts(run: RunResult) -> str:
    first, last = run.panel["timestamp"].min(), run.panel["timestamp"].max()
    hindsight = run.health.hindsight_quarantined
    return (
        f"{len(run.panel):,} rows of {run.panel['symbol'].n_unique():,} symbols, {first:%Y-%m-%d} to"
        f" {last:%Y-%m-%d}; {len(run.quarantine):,} rows quarantined, {hindsight:,} of them by what later"
        " bars showed."
    )


def _leaks(run: RunResult) -> str:
    checked = run.audit.checked
    return (
        f"Leak audit: {len(run.audit.leaks)} leaks in {checked.factors} factor columns and the"
        f" labels, {checked.factor_values_compared:,} values compared at"
        f" {len(checked.cuts)} cuts."
    )


def _quarantined(rows: pl.DataFrame) -> Picture | None:
    if "reason" not in rows.columns or rows.is_empty():
        return None
    reasons = rows.group_by("reason").len().sort("len")
    bars = lying_bars(reasons["reason"].to_list(), reasons["len"].to_list())
    return picture("Quarantined rows by reason", [bars], {"xaxis": {"title": "rows"}})
