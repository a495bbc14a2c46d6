"""Judging a table as a whole: row checks, then the suite; what comes out is the clean panel, the quarantine
and health.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import PANEL, RAW_PANEL, AlphaloopError, Table
from components.validation.config import Settings
from components.validation.examine import Examination, examine
from components.validation.expect import Outcome
from components.validation.findings import PRICES, without
from components.validation.health import Health, commonest, described, health, panel_health
from components.validation.judge import Judgement, judge
from components.validation.quarantine import QUARANTINE, clean_panel, quarantined_rows
from components.validation.raw_panel_suite import (
    raw_panel_expectations,
    rows_expectation,
    schema_expectations,
    schema_frame,
)
from components.validation.rules import PLACEHOLDERS, RULES
from components.validation.table_suites import (
    KIND_TABLES,
    Kind,
    column_statistics,
    statistics_expectations,
    table_expectations,
    table_flags,
)


@dataclass(frozen=True)
class Validation:
    """What validation found in a raw panel.

    `panel` follows the contract PANEL, `quarantine` the table QUARANTINE; both are empty where the schema is
    wrong. `judgements` are what Great Expectations said. `failures` are the critical ones; the run must not
    go on unless it is empty.
    """

    panel: pl.DataFrame
    quarantine: pl.DataFrame
    health: Health
    judgements: tuple[Judgement, ...]
    failures: tuple[Outcome, ...]


@dataclass(frozen=True)
class Checked:
    """What validation found in a table of another kind:

    `health`, `judgements` and `failures` as in `Validation`.
    """

    kind: str
    health: Health
    judgements: tuple[Judgement, ...]
    failures: tuple[Outcome, ...]


def validate_panel(raw: pl.DataFrame, settings: Settings) -> Validation:
    """Judge a raw panel (columns of RAW_PANEL in any order of rows) and part it into clean rows and
    quarantine.

    Faults of the data never raise here: `failures` holds the critical ones, and `publish` raises after
    everything is on disk.
    """
    schema = _judge_schema("raw_panel", RAW_PANEL, raw)
    if failures := _critical(schema):
        empty = pl.DataFrame(schema=dict(PANEL.columns))
        quarantine = pl.DataFrame(schema=dict(QUARANTINE.columns))
        said = health([schema], [described(outcome, raw, None) for outcome in failures])
        return Validation(empty, quarantine, said, (schema,), failures)
    found = examine(raw, settings)
    judged = _without_placeholders(raw, found)
    flags = _flags(judged, found, settings)
    rows = judge("raw_panel", flags, raw_panel_expectations(settings, found.absent))
    failures = _critical(rows)
    panel, quarantine = clean_panel(found.clean), quarantined_rows(raw, found)
    told = [described(outcome, judged, flags) for outcome in failures]
    for failure in told:
        if failure["check"] == "little_quarantine":
            failure["found"] += f" ({commonest(found)})"
    said = health([schema, rows], told) | panel_health(raw, panel, quarantine, found)
    return Validation(panel, quarantine, said, (schema, rows), failures)


def check(kind: Kind, frame: pl.DataFrame, settings: Settings) -> Checked:
    """Judge a panel, factors, labels or predictions table by its suite; a raw panel by `validate_panel`."""
    if kind == "raw_panel":
        whole = validate_panel(frame, settings)
        return Checked(kind, whole.health, whole.judgements, whole.failures)
    if kind not in KIND_TABLES:
        raise AlphaloopError(
            f"There is no suite for a table of kind {kind!r}. Known kinds: {', '.join(KIND_TABLES)}."
        )
    table = KIND_TABLES[kind]
    judgements, flags = [_judge_schema(kind, table, frame)], None
    if not _critical(judgements[0]):
        flags = table_flags(kind, frame)
        judgements.append(judge(kind, flags, table_expectations(kind)))
        if wide := _wide_columns(table, frame):
            statistics = column_statistics(frame, wide)
            judgements.append(judge(f"{kind}_columns", statistics, statistics_expectations(settings)))
    failures = tuple(outcome for judgement in judgements for outcome in _critical(judgement))
    said = health(judgements, [described(outcome, frame, flags) for outcome in failures])
    return Checked(kind, said, tuple(judgements), failures)


def _judge_schema(kind: str, table: Table, frame: pl.DataFrame) -> Judgement:
    expectations = [rows_expectation(table), *schema_expectations(table, frame.columns)]
    return judge(f"{kind}_schema", schema_frame(frame), expectations)


def _critical(judgement: Judgement) -> tuple[Outcome, ...]:
    return tuple(outcome for outcome in judgement.outcomes if outcome.critical and not outcome.passed)


def _wide_columns(table: Table, frame: pl.DataFrame) -> Sequence[str]:
    """The numbers that a table with columns of its own choice has beside those of its contract."""
    if table.extra is None:
        return []
    return [name for name, dtype in frame.schema.items() if name not in table.columns and dtype.is_float()]


def _without_placeholders(raw: pl.DataFrame, found: Examination) -> pl.DataFrame:
    """The rows that a check can fail on, with their position `row` in the raw panel."""
    placeholders = found.findings.filter(pl.col("reason").is_in(PLACEHOLDERS))
    return without(raw.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row")), placeholders)


def _flags(judged: pl.DataFrame, found: Examination, settings: Settings) -> pl.DataFrame:
    """The columns that the suite judges: those of the raw panel, one flag a reason, and `quarantined`.

    A volume that says nothing is not judged as missing: its symbol counts as one without volume.
    """
    rows = int(judged["row"].max() or 0) + 1
    flagged = {rule.reason: np.zeros(rows, dtype=np.int8) for rule in RULES}
    known = found.findings.filter(pl.col("row") < rows)
    for (reason,), part in known.partition_by("reason", as_dict=True, include_key=False).items():
        flagged[reason][part["row"].to_numpy()] = 1
    flagged["quarantined"] = np.ones(rows, dtype=np.int8)
    flagged["quarantined"][found.clean["row"].to_numpy()] = 0
    place = judged["row"].to_numpy()
    silent = pl.col("symbol").is_in(pl.Series(found.silent, dtype=pl.String).implode())
    numbers = [
        *(pl.col(name).fill_nan(None) for name in PRICES),
        pl.when(~silent.fill_null(False)).then("volume").otherwise(1.0).fill_nan(None).alias("volume"),
    ]
    frame = judged.select("timestamp", "symbol", "period", *numbers).with_columns(
        pl.Series(name, values[place]) for name, values in flagged.items()
    )
    if not settings.strict:
        return frame
    missing = found.gaps.select("symbol", pl.col("after").alias("timestamp"), "missing_bars")
    frame = frame.join(missing, on=["timestamp", "symbol"], how="left", maintain_order="left")
    return frame.with_columns(pl.col("missing_bars").fill_null(0))
