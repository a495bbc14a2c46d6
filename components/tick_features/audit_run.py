"""What the door of the audit of tick features calls: audit some sessions, write what was found, stop where
there is a leak.
"""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import FACTORS, read_stamp
from components.contracts.documents.leak_audit import LeakAudit
from components.contracts.parts import scan_table
from components.contracts.tick_days import TickDay, days_sha256, tick_days
from components.contracts.tick_schemas import TICKS
from components.progress import report, stage, track
from components.tick_features.audit import CHECKS, Tally, audit_day, verdict
from components.tick_features.config import Settings
from components.tick_features.day import Span, features_of_parts
from components.tick_features.errors import TickFeatureError, TickLeakFound
from components.tick_features.page import write_audit_page
from components.tick_features.run import session_spans
from components.tick_features.state import MICROSECOND_NS

SHOWN = 8


@dataclass(frozen=True)
class AuditInputs:
    """`ticks`: the folder that the `features`, a FACTORS table, were made of."""

    ticks: str | os.PathLike
    features: str | os.PathLike


@dataclass(frozen=True)
class AuditOutputs:
    """Where the LeakAudit document and its page go."""

    document: str | os.PathLike
    page: str | os.PathLike


def run_audit(inputs: AuditInputs, outputs: AuditOutputs, *, settings: str) -> LeakAudit:
    """Make features again from ticks that were changed or cut off.

    Raises
    ------
    TickLeakFound
        If one knew the future; document and page are written by then.
    TickFeatureError
        If the features were made of other ticks.
    """
    with stage("tick features audit"):
        parsed = Settings.model_validate_json(settings)
        days = tick_days(inputs.ticks)
        if read_stamp(inputs.features).inputs.get("ticks") != days_sha256(days):
            raise TickFeatureError(
                f"{inputs.features} was not made of the ticks in {inputs.ticks}: their hashes differ. Make"
                " the features again."
            )
        spans, table = session_spans(days), scan_table(inputs.features, FACTORS)
        chosen = _chosen(days, parsed.audit.days)
        tallies = [
            _audit(day, spans[day.session], table, parsed)
            for day in track("tick features audit", chosen, what="sessions")
        ]
        found = verdict(tallies, _notes(days, chosen, tallies, parsed))
        found.write(outputs.document)
        write_audit_page(outputs.page, found)
        _refuse(found, outputs.page)
        checked = found.checked
        report(
            "tick features audit",
            f"no leak in {checked.factors} columns at {len(checked.cuts)} cuts,"
            f" {checked.factor_values_compared:,} values compared",
        )
    return found


def build(ticks: pl.DataFrame, span: Span, settings: Settings) -> pl.DataFrame:
    """The features of ticks that are in memory, as the product makes them."""
    return pl.concat(features_of_parts([ticks], span, settings))


def _audit(day: TickDay, span: Span, table: pl.LazyFrame, settings: Settings) -> Tally:
    moment = pl.col("timestamp").cast(pl.Int64) * MICROSECOND_NS
    own = (pl.col("symbol") == day.symbol) & moment.is_between(span.first, span.last + MICROSECOND_NS - 1)
    ticks = scan_table(day.path, TICKS).head(settings.audit.rows).collect()
    return audit_day(ticks, table.filter(own).collect(engine="streaming"), day, span, build, settings)


def _chosen(days: list[TickDay], wanted: int) -> list[TickDay]:
    """So many of the sessions, spread over all of them."""
    count = min(wanted, len(days))
    return [days[number * len(days) // count] for number in range(count)]


def _notes(days: list[TickDay], chosen: list[TickDay], tallies: list[Tally], settings: Settings) -> list[str]:
    """What was not looked at."""
    notes = []
    if len(chosen) < len(days):
        notes.append(f"{len(chosen)} of {len(days)} sessions were audited: tick_features.audit.days")
    if any(tally.ticks == settings.audit.rows for tally in tallies):
        notes.append(f"Of a session the first {settings.audit.rows:,} ticks: tick_features.audit.rows")
    return notes


def _refuse(found: LeakAudit, page: str | os.PathLike) -> None:
    """TickLeakFound, naming each leaking column, where there is a leak."""
    if found.passed:
        return
    lines = [
        f"- {leak.factor}: {leak.check}, first {leak.symbol} at {leak.timestamp}, {leak.rows:,} rows up to"
        f" the cut of {leak.cut}"
        for leak in found.leaks[:SHOWN]
    ]
    more = [f"- and {len(found.leaks) - SHOWN} more"] if len(found.leaks) > SHOWN else []
    checks = dict.fromkeys(leak.check for leak in found.leaks)
    shown = "\n".join([*lines, *more, *(f"{check}: {CHECKS[check]}." for check in checks)])
    raise TickLeakFound(
        f"The leak audit stopped the run: {len({leak.factor for leak in found.leaks})} columns of tick"
        f" features failed.\n{shown}\nMend them, then run again. The whole list is in {page}."
    )
