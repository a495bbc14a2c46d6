"""Health: what validation found in a table, as JSON holds it and the run folder keeps it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypedDict

import polars as pl

from components.contracts.documents.health import (
    Expectations,
    Failure,
    FellOut,
    Missing,
    PanelHealth,
    Reason,
    RefusedPanel,
    Row,
)
from components.validation.examine import Examination
from components.validation.expect import Outcome
from components.validation.findings import NUMBERS
from components.validation.judge import Judgement
from components.validation.rules import NOTICES, PLACEHOLDERS, RULE_BY_REASON

MANY = 20
EXAMPLES = 3
FAILURE_ROWS = 5


class Health(TypedDict, total=False):
    """What validation found. From `rows_in` on only a raw panel whose schema is right has the keys.

    `rows_without_trade`: rows that are bars without a trade, kept out of the panel, and no faults;
    `hindsight_quarantined`: rows in quarantine for what only later bars told; `coverage`: the worst symbols;
    `steps`: each change of level with its symbol, date, reason and ratio (new over old).
    """

    format: int
    verdict: str
    failures: list[Failure]
    expectations: Expectations
    rows_in: int
    rows_out: int
    rows_quarantined: int
    rows_without_trade: int
    hindsight_quarantined: int
    absent_columns: list[str]
    symbols_in: int
    symbols_out: int
    bars: int
    first: str | None
    last: str | None
    period: str | None
    reasons: list[Reason]
    gaps: Missing
    outages: Missing
    coverage: list[Row]
    fell_out: FellOut
    frozen_symbols: list[str]
    steps: list[Row]


def health(judgements: Sequence[Judgement], failures: list[Failure]) -> Health:
    """Verdict and expectations of any table."""
    outcomes = [outcome for judgement in judgements for outcome in judgement.outcomes]
    passed = sum(outcome.passed for outcome in outcomes)
    return {
        "format": 1,
        "verdict": "failed" if failures else "passed",
        "failures": failures,
        "expectations": {
            "passed": passed,
            "failed": len(outcomes) - passed,
            "results": [asdict(outcome) for outcome in outcomes],
        },
    }


def panel_health(
    raw: pl.DataFrame, panel: pl.DataFrame, quarantine: pl.DataFrame, found: Examination
) -> Health:
    """What happened to a raw panel: what came in and out, why, and what is missing."""
    lost_dates = raw["timestamp"].drop_nulls().unique().sort().to_frame()
    lost_dates = lost_dates.join(panel, on="timestamp", how="anti")["timestamp"]
    lost_symbols = set(raw["symbol"].drop_nulls().unique()) - set(panel["symbol"].unique())
    missing_in_source = int(found.source_gaps["missing_bars"].sum())
    return {
        "rows_in": len(raw),
        "rows_out": len(panel),
        "rows_quarantined": len(quarantine),
        "rows_without_trade": found.findings.filter(pl.col("reason").is_in(PLACEHOLDERS))["row"].n_unique(),
        "hindsight_quarantined": int((quarantine["detected_at"] > quarantine["timestamp"]).sum()),
        "absent_columns": list(found.absent),
        "symbols_in": raw["symbol"].n_unique(),
        "symbols_out": panel["symbol"].n_unique(),
        "bars": panel["timestamp"].n_unique(),
        "first": _plain(panel["timestamp"].min()),
        "last": _plain(panel["timestamp"].max()),
        "period": raw["period"].drop_nulls().first(),
        "reasons": _reasons(raw, found),
        "gaps": _longest(found.gaps) | {"missing_in_source": missing_in_source},
        "outages": _longest(found.outages),
        "coverage": _records(found.coverage.filter(pl.col("coverage") < 1).head(MANY)),
        "fell_out": {"symbols": sorted(lost_symbols), "dates": [_plain(moment) for moment in lost_dates]},
        "frozen_symbols": list(found.frozen_symbols),
        "steps": _steps(raw, found),
    }


def document(found: Health) -> PanelHealth | RefusedPanel:
    """The same as the document that other stages read."""
    kind = PanelHealth if "rows_in" in found else RefusedPanel
    return kind.model_validate_json(json.dumps(found, allow_nan=False))


def described(outcome: Outcome, frame: pl.DataFrame, flags: pl.DataFrame | None) -> Failure:
    """A critical failure with what was found and the first rows that show it, with the values they have in
    the table; `row` is the position in `frame` where it has no such column.
    """
    faulty = _faulty_rows(outcome, frame, flags)
    shown = frame if "row" in frame.columns else frame.with_row_index("row")
    rows = shown.filter(faulty) if faulty is not None else shown.clear()
    wanted = dict.fromkeys(("row", "symbol", "timestamp", outcome.column, *NUMBERS))
    columns = [name for name in wanted if name in shown.columns]
    found = f"{len(rows):,} of {len(frame):,} rows" if faulty is not None else _found_text(outcome, frame)
    return {
        "check": outcome.check,
        "column": outcome.column,
        "says": outcome.says,
        "found": found,
        "count": len(rows) if faulty is not None else outcome.faulty,
        "remedy": outcome.remedy,
        "rows": _records(rows.select(columns).head(FAILURE_ROWS)),
    }


def commonest(found: Examination) -> str:
    """The reasons that set most rows aside, with their numbers."""
    counted = (
        found.findings.filter(~pl.col("reason").is_in([*NOTICES, *PLACEHOLDERS]))
        .group_by("reason")
        .len()
        .sort("len", "reason", descending=[True, False])
    )
    return ", ".join(f"{reason} {count:,}" for reason, count in counted.head(EXAMPLES).rows())


def _reasons(raw: pl.DataFrame, found: Examination) -> list[Reason]:
    if found.findings.is_empty():
        return []
    row = pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
    numbered = raw.select(row, "symbol", "timestamp", *NUMBERS)
    rows = found.findings.join(numbered, on="row").sort("row")
    hindsight = (pl.col("detected_at") > pl.col("timestamp")).fill_null(False)
    counts = rows.group_by("reason").agg(
        pl.len().alias("rows"),
        pl.col("symbol").n_unique().alias("symbols"),
        hindsight.sum().alias("hindsight_rows"),
    )
    entries = []
    for entry in counts.sort("rows", "reason", descending=[True, False]).iter_rows(named=True):
        rule = RULE_BY_REASON[entry["reason"]]
        of_reason = rows.filter(pl.col("reason") == rule.reason)
        examples = of_reason.group_by("symbol", maintain_order=True).head(1).head(EXAMPLES)
        entries.append(
            {
                **entry,
                "severity": rule.severity,
                "known": rule.known,
                "says": rule.says,
                "remedy": rule.remedy,
                "examples": _records(examples.select("row", "symbol", "timestamp", "detected_at", *NUMBERS)),
            }
        )
    return entries


def _steps(raw: pl.DataFrame, found: Examination) -> list[Row]:
    """Where a level of prices or volume changes, oldest first."""
    named = raw.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), "symbol", "timestamp")
    steps = found.steps.join(named, on="row").sort("timestamp", "symbol")
    return _records(steps.select("symbol", "timestamp", "reason", "ratio"))


def _faulty_rows(outcome: Outcome, frame: pl.DataFrame, flags: pl.DataFrame | None) -> pl.Series | None:
    if flags is None:
        return None
    if outcome.check in ("mostly_there", "positive"):
        value = pl.col(outcome.column)
        faulty = value.is_null() if outcome.check == "mostly_there" else value <= 0
        return flags.select(faulty.fill_null(False)).to_series()
    if outcome.flag in flags.columns:
        return flags[outcome.flag] == 1
    return None


def _found_text(outcome: Outcome, frame: pl.DataFrame) -> str:
    if outcome.check == "column_exists":
        return f"only {', '.join(frame.columns)}"
    if outcome.check == "not_empty":
        return "no rows"
    return outcome.observed or f"{outcome.faulty} failing"


def _longest(table: pl.DataFrame) -> Missing:
    return {
        "count": len(table),
        "missing_bars": int(table["missing_bars"].sum()),
        "longest": _records(table.head(MANY)),
    }


def _records(frame: pl.DataFrame) -> list[Row]:
    return [{name: _plain(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: moments as ISO text, NaN and infinities as text."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
