"""Judging a table as a whole: row checks, then the suite; what comes out is the clean panel, the quarantine,
health and pages.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import (
    PANEL,
    RAW_PANEL,
    TIME,
    AlphaloopError,
    Table,
    atomic_path,
    atomic_write_text,
    read_stamp,
    write_table,
)
from components.settings import config_hash
from components.validation.checks import NOTICES, RULE_BY_REASON, RULES, Examination, examine
from components.validation.config import Settings
from components.validation.docs import MANY, offline, summary_page, terminal_table
from components.validation.suites import (
    KIND_TABLES,
    NUMBERS,
    Judgement,
    Kind,
    Outcome,
    column_statistics,
    judge,
    raw_panel_expectations,
    rows_expectation,
    schema_expectations,
    schema_frame,
    statistics_expectations,
    table_expectations,
    table_flags,
)

# A raw panel's rows that were set aside. `row` is the position in the raw table, from 0; `reason` the first
# of `all_reasons` in the order of checks.RULES; `detected_at` the timestamp at which the fault could first
# have been known.
QUARANTINE = Table(
    name="quarantine",
    version=1,
    columns={
        **RAW_PANEL.columns,
        "row": pl.Int64(),
        "reason": pl.String(),
        "all_reasons": pl.String(),
        "severity": pl.String(),
        "detected_at": TIME,
    },
    key=(),
    optional=RAW_PANEL.optional,
)
EXAMPLES = 3
FAILURE_ROWS = 5
PAGE = "index.html"


class ValidationFailed(AlphaloopError):
    """A critical expectation was not met; the message says which, where and what to do, and names
    the page.
    """


@dataclass(frozen=True)
class Validation:
    """What validation found in a raw panel.

    `panel` follows the contract PANEL, `quarantine` the table QUARANTINE; both are empty where the schema is
    wrong. `health` is JSON-able (see `panel_health`); `docs` maps file names to HTML, `index.html` first.
    `failures` are the critical ones; the run must not go on unless it is empty.
    """

    panel: pl.DataFrame
    quarantine: pl.DataFrame
    health: dict[str, Any]
    docs: dict[str, str]
    failures: tuple[Outcome, ...]


@dataclass(frozen=True)
class Checked:
    """What validation found in a table of another kind:

    `health`, `docs` and `failures` as in `Validation`.
    """

    kind: str
    health: dict[str, Any]
    docs: dict[str, str]
    failures: tuple[Outcome, ...]


@dataclass(frozen=True)
class FileCheck:
    """What `alphaloop data check` shows:

    `health`, the `text` for the terminal, whether a critical check `failed`, and the pages.
    """

    health: dict[str, Any]
    text: str
    failed: bool
    docs: dict[str, str]


def validate_panel(raw: pl.DataFrame, settings: Settings) -> Validation:
    """Judge a raw panel (columns of RAW_PANEL in any order of rows) and part it into clean rows and
    quarantine.

    Faults of the data never raise here: `failures` holds the critical ones, and `publish` raises after
    everything is on disk.
    """
    schema = judge(
        "raw_panel_schema",
        schema_frame(raw),
        [rows_expectation(RAW_PANEL), *schema_expectations(RAW_PANEL, raw.columns)],
    )
    if failures := _critical(schema):
        empty = pl.DataFrame(schema=dict(PANEL.columns))
        quarantine = pl.DataFrame(schema=dict(QUARANTINE.columns))
        health = _health([schema], [_described(outcome, raw, None) for outcome in failures])
        return Validation(
            empty, quarantine, health, _docs("Validation of the raw panel", health, [schema]), failures
        )
    found = examine(raw, settings)
    flags = _flags(raw, found, settings)
    rows = judge("raw_panel", flags, raw_panel_expectations(settings, found.absent))
    failures = _critical(rows)
    panel = _clean_panel(found.clean)
    quarantine = _quarantine(raw, found)
    described = [_described(outcome, raw, flags) for outcome in failures]
    for entry in described:
        if entry["check"] == "little_quarantine":
            entry["found"] += f" ({', '.join(f'{reason} {count:,}' for reason, count in _commonest(found))})"
    health = _health([schema, rows], described) | panel_health(raw, panel, quarantine, found)
    return Validation(
        panel, quarantine, health, _docs("Validation of the raw panel", health, [schema, rows]), failures
    )


def check(kind: Kind, frame: pl.DataFrame, settings: Settings) -> Checked:
    """Judge a panel, factors, labels or predictions table by its suite; a raw panel by `validate_panel`."""
    if kind == "raw_panel":
        whole = validate_panel(frame, settings)
        return Checked(kind, whole.health, whole.docs, whole.failures)
    if kind not in KIND_TABLES:
        raise AlphaloopError(
            f"There is no suite for a table of kind {kind!r}. Known kinds: {', '.join(KIND_TABLES)}."
        )
    table = KIND_TABLES[kind]
    judgements = [
        judge(
            f"{kind}_schema",
            schema_frame(frame),
            [rows_expectation(table), *schema_expectations(table, frame.columns)],
        )
    ]
    flags = None
    if not _critical(judgements[0]):
        flags = table_flags(kind, frame, settings)
        judgements.append(judge(kind, flags, table_expectations(kind, settings)))
        wide = [
            name
            for name, dtype in frame.schema.items()
            if table.extra is not None and name not in table.columns and dtype.is_float()
        ]
        if wide:
            judgements.append(
                judge(f"{kind}_columns", column_statistics(frame, wide), statistics_expectations(settings))
            )
    failures = tuple(outcome for judgement in judgements for outcome in _critical(judgement))
    health = _health(judgements, [_described(outcome, frame, flags) for outcome in failures])
    return Checked(kind, health, _docs(f"Validation of the {kind} table", health, judgements), failures)


def check_file(path: str | os.PathLike, settings: Settings) -> FileCheck:
    """Judge a raw panel in a Parquet file, stamped or not, without writing anything.

    Raises
    ------
    ContractError
        If the file is missing, empty, cut off or not Parquet.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        read_stamp(path)
        raise
    found = validate_panel(frame, settings)
    return FileCheck(found.health, terminal_table(found.health), bool(found.failures), found.docs)


def publish(
    validation: Validation,
    *,
    quarantine: str | os.PathLike,
    health: str | os.PathLike,
    data_docs: str | os.PathLike,
    code_version: str,
    settings: Settings,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write quarantine table, health (JSON) and pages (folder), each atomically; then raise if a critical
    check failed.

    Raises
    ------
    ValidationFailed
        After everything is on disk; the message names the first failure and the page.
    """
    write_table(
        validation.quarantine,
        quarantine,
        QUARANTINE,
        code_version=code_version,
        config_hash=config_hash(settings),
        inputs=inputs,
    )
    atomic_write_text(health, json.dumps(validation.health, indent=1, allow_nan=False))
    write_docs(validation.docs, data_docs)
    require(validation, Path(data_docs) / PAGE)


def write_docs(docs: Mapping[str, str], folder: str | os.PathLike) -> None:
    """Write the pages into `folder`, which replaces an older one as a whole."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, page in docs.items():
            (temporary / name).write_text(page, encoding="utf-8")


def require(found: Validation | Checked, page: str | os.PathLike) -> None:
    """Raise ValidationFailed where a critical expectation was not met; `page` is named as the place to read
    more.
    """
    if not found.failures:
        return
    first, *others = found.health["failures"]
    more = (
        f" {len(others)} more critical {'check' if len(others) == 1 else 'checks'} failed." if others else ""
    )
    row = f" First row: {_one_line(first['rows'][0])}." if first["rows"] else ""
    remedy = first["remedy"]
    raise ValidationFailed(
        f"Validation stopped the run: {first['check']} on {first['column']}: expected that {first['says']},"
        f" found {first['found']}.{row} {remedy[:1].upper()}{remedy[1:]}.{more}\nRead {page}"
    )


def panel_health(
    raw: pl.DataFrame, panel: pl.DataFrame, quarantine: pl.DataFrame, found: Examination
) -> dict[str, Any]:
    """What happened to a raw panel, JSON-able.

    `rows_in`, `rows_out`, `rows_quarantined`, `symbols_in`, `symbols_out`, `bars`, `first`, `last`, `period`;
    `reasons`, a list of `reason`, `severity`, `known` (when the finding can be made), `rows`, `symbols`,
    `hindsight_rows`, `says`, `remedy`, `examples`; `hindsight_quarantined`, the rows in quarantine for what
    only later bars told; `absent_columns`; `gaps` and `outages` with `count`, `missing_bars`, `longest` (and
    `missing_in_source`, the bars that no quarantine took); `coverage`, the worst symbols; `fell_out` with
    `symbols` and `dates`; `frozen_symbols`.
    """
    return {
        "rows_in": len(raw),
        "rows_out": len(panel),
        "rows_quarantined": len(quarantine),
        "hindsight_quarantined": int((quarantine["detected_at"] > quarantine["timestamp"]).sum()),
        "absent_columns": list(found.absent),
        "symbols_in": raw["symbol"].n_unique(),
        "symbols_out": panel["symbol"].n_unique(),
        "bars": panel["timestamp"].n_unique(),
        "first": _plain(panel["timestamp"].min()),
        "last": _plain(panel["timestamp"].max()),
        "period": raw["period"].drop_nulls().first(),
        "reasons": _reasons(raw, found),
        "gaps": _longest(found.gaps) | {"missing_in_source": int(found.source_gaps["missing_bars"].sum())},
        "outages": _longest(found.outages),
        "coverage": _records(found.coverage.filter(pl.col("coverage") < 1).head(MANY)),
        "fell_out": {
            "symbols": sorted(set(raw["symbol"].drop_nulls().unique()) - set(panel["symbol"].unique())),
            "dates": [
                _plain(moment)
                for moment in (
                    raw["timestamp"]
                    .drop_nulls()
                    .unique()
                    .sort()
                    .to_frame()
                    .join(panel, on="timestamp", how="anti")["timestamp"]
                )
            ],
        },
        "frozen_symbols": list(found.frozen_symbols),
    }


def _critical(judgement: Judgement) -> tuple[Outcome, ...]:
    return tuple(outcome for outcome in judgement.outcomes if outcome.critical and not outcome.passed)


def _health(judgements: Sequence[Judgement], failures: list[dict[str, Any]]) -> dict[str, Any]:
    outcomes = [outcome for judgement in judgements for outcome in judgement.outcomes]
    passed = sum(outcome.passed for outcome in outcomes)
    return {
        "verdict": "failed" if failures else "passed",
        "failures": failures,
        "expectations": {
            "passed": passed,
            "failed": len(outcomes) - passed,
            "results": [asdict(outcome) for outcome in outcomes],
        },
    }


def _docs(title: str, health: dict[str, Any], judgements: Sequence[Judgement]) -> dict[str, str]:
    names = {
        f"{judgement.suite}.html": f"{judgement.suite}: {len(judgement.outcomes)} expectations"
        for judgement in judgements
    }
    pages = {f"{judgement.suite}.html": offline(judgement.page, judgement.suite) for judgement in judgements}
    return {PAGE: summary_page(title, health, names), **pages}


def _flags(raw: pl.DataFrame, found: Examination, settings: Settings) -> pl.DataFrame:
    """The columns that the suite judges: those of the raw panel, one flag a reason, and `quarantined`."""
    flagged = {rule.reason: np.zeros(len(raw), dtype=np.int8) for rule in RULES}
    for (reason,), part in found.findings.partition_by("reason", as_dict=True, include_key=False).items():
        flagged[reason][part["row"].to_numpy()] = 1
    quarantined = np.ones(len(raw), dtype=np.int8)
    quarantined[found.clean["row"].to_numpy()] = 0
    frame = raw.select(
        "timestamp", "symbol", "period", *(pl.col(name).fill_nan(None) for name in NUMBERS)
    ).with_columns(
        *(pl.Series(reason, values) for reason, values in flagged.items()),
        pl.Series("quarantined", quarantined),
    )
    if settings.strict:
        missing = found.gaps.select("symbol", pl.col("after").alias("timestamp"), "missing_bars")
        frame = frame.join(
            missing, on=["timestamp", "symbol"], how="left", maintain_order="left"
        ).with_columns(pl.col("missing_bars").fill_null(0))
    return frame


def _clean_panel(clean: pl.DataFrame) -> pl.DataFrame:
    """Contract columns in order, NaN in optional columns as null."""
    optional = [name for name in PANEL.optional if name in clean.columns]
    numbers = [name for name in optional if clean.schema[name].is_float()]
    return clean.select(*PANEL.columns, *optional).with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers
    )


def _quarantine(raw: pl.DataFrame, found: Examination) -> pl.DataFrame:
    order = pl.DataFrame(
        {
            "reason": [rule.reason for rule in RULES],
            "rank": range(len(RULES)),
            "severity": [rule.severity for rule in RULES],
        }
    )
    kept = (
        found.findings.join(order, on="reason").filter(pl.col("severity") == "quarantine").sort("row", "rank")
    )
    reasons = kept.group_by("row", maintain_order=True).agg(
        pl.col("reason").first(),
        pl.col("reason").str.join(", ").alias("all_reasons"),
        pl.col("severity").first(),
        pl.col("detected_at").first(),
    )
    numbered = raw.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    known = [name for name in (*RAW_PANEL.columns, *RAW_PANEL.optional) if name in raw.columns]
    return numbered.join(reasons, on="row", maintain_order="left").select(
        *known[: len(RAW_PANEL.columns)],
        "row",
        "reason",
        "all_reasons",
        "severity",
        "detected_at",
        *known[len(RAW_PANEL.columns) :],
    )


def _reasons(raw: pl.DataFrame, found: Examination) -> list[dict[str, Any]]:
    if found.findings.is_empty():
        return []
    numbered = raw.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), "symbol", "timestamp", *NUMBERS
    )
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
        examples = (
            rows.filter(pl.col("reason") == rule.reason)
            .group_by("symbol", maintain_order=True)
            .head(1)
            .head(EXAMPLES)
        )
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


def _commonest(found: Examination) -> list[tuple[str, int]]:
    counted = (
        found.findings.filter(~pl.col("reason").is_in(NOTICES))
        .group_by("reason")
        .len()
        .sort("len", "reason", descending=[True, False])
    )
    return counted.head(EXAMPLES).rows()


def _described(outcome: Outcome, frame: pl.DataFrame, flags: pl.DataFrame | None) -> dict[str, Any]:
    """A critical failure with what was found and the first rows that show it, with the values they have in
    the table.
    """
    faulty = _faulty_rows(outcome, frame, flags)
    shown = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
    rows = shown.filter(faulty) if faulty is not None else shown.clear()
    columns = [
        name
        for name in dict.fromkeys(("row", "symbol", "timestamp", outcome.column, *NUMBERS))
        if name in shown.columns
    ]
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


def _faulty_rows(outcome: Outcome, frame: pl.DataFrame, flags: pl.DataFrame | None) -> pl.Series | None:
    if flags is None:
        return None
    if outcome.check in ("mostly_there", "positive"):
        missing = outcome.check == "mostly_there"
        return flags.select(
            (pl.col(outcome.column).is_null() if missing else pl.col(outcome.column) <= 0).fill_null(False)
        ).to_series()
    if outcome.flag in flags.columns:
        return flags[outcome.flag] == 1
    return None


def _found_text(outcome: Outcome, frame: pl.DataFrame) -> str:
    if outcome.check == "column_exists":
        return f"only {', '.join(frame.columns)}"
    if outcome.check == "not_empty":
        return "no rows"
    return outcome.observed or f"{outcome.faulty} failing"


def _longest(table: pl.DataFrame) -> dict[str, Any]:
    return {
        "count": len(table),
        "missing_bars": int(table["missing_bars"].sum()),
        "longest": _records(table.head(MANY)),
    }


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: moments as ISO text, NaN and infinities as text."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _one_line(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in row.items()
    )


__all__ = [
    "QUARANTINE",
    "Checked",
    "FileCheck",
    "Validation",
    "ValidationFailed",
    "check",
    "check_file",
    "publish",
    "require",
    "validate_panel",
    "write_docs",
]
