"""What is said of one symbol's session after it was examined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from components.contracts.documents.tick_quality import ClockQuality, DayQuality, Finding
from components.ticks.examine import Examined
from components.ticks.rules import RULES, Rule
from components.ticks.work import MS

MOST_EXAMPLES = 5
# Points of the clock's course that a page can draw.
COURSE_POINTS = 200
EXAMPLE_COLUMNS = ("sequence", "ingest_ts", "kind", "side", "price", "quantity", "update_id")


def day_quality(raw: pl.DataFrame, found: Examined) -> DayQuality:
    """Counts, findings with examples, and the clock of one symbol's session."""
    silence = raw["ingest_ts"].diff().max()
    return DayQuality(
        symbol=raw["symbol"][0],
        session=raw["session"][0],
        rows_in=len(raw),
        rows_out=len(found.ticks),
        rows_quarantined=len(found.quarantine),
        messages=len(found.clock.offset_ns),
        first_ts=int(raw["ingest_ts"].min()),
        last_ts=int(raw["ingest_ts"].max()),
        states=found.states,
        crossed_states=found.crossed_states,
        longest_silence_ms=float(silence or 0) / MS,
        findings=[finding for rule in RULES if (finding := _finding(rule, found))],
        clock=_clock(raw, found),
    )


def _finding(rule: Rule, found: Examined) -> Finding | None:
    table = found.quarantine if rule.severity == "quarantine" else found.told
    rows = table.filter(pl.col("reason") == rule.reason)
    if not len(rows):
        return None
    return Finding(
        reason=rule.reason,
        severity=rule.severity,
        count=len(rows),
        amount=int(rows["amount"].sum()) if "amount" in rows.columns else len(rows),
        examples=_examples(rows),
    )


def _examples(rows: pl.DataFrame) -> list[dict[str, Any]]:
    shown: Sequence[str] = [name for name in (*EXAMPLE_COLUMNS, "amount") if name in rows.columns]
    return rows.select(shown).head(MOST_EXAMPLES).to_dicts()


def _clock(raw: pl.DataFrame, found: Examined) -> ClockQuality:
    stamped, clock = found.stamped, found.clock
    known = bool(stamped.any())
    delays = clock.delay_ns[stamped] / MS if known else np.zeros(1)
    offsets = clock.offset_ns[stamped] / MS if known else np.zeros(1)
    p50, p95, p99, most = np.quantile(delays, [0.5, 0.95, 0.99, 1.0])
    return ClockQuality(
        known=known,
        stamped_messages=int(stamped.sum()),
        offset_first_ms=float(offsets[_settled(offsets)]),
        offset_last_ms=float(offsets[-1]),
        drift_ms_a_minute=float(clock.drift[-1]) * 60e9 / MS,
        delay_p50_ms=float(p50),
        delay_p95_ms=float(p95),
        delay_p99_ms=float(p99),
        delay_max_ms=float(most),
        course=_course(raw, found) if known else [],
    )


def _course(raw: pl.DataFrame, found: Examined) -> list[tuple[float, float]]:
    """The offset at evenly spaced messages, once the first ones have settled it."""
    ingest = raw["ingest_ts"].to_numpy()[found.heads]
    stamped = np.flatnonzero(found.stamped)
    chosen = np.linspace(_settled(stamped), len(stamped) - 1, COURSE_POINTS).astype(int)
    places = stamped[np.unique(chosen)]
    seconds = (ingest[places] - ingest[0]) / 1e9
    offsets = found.clock.offset_ns[places] / MS
    return [(float(second), float(offset)) for second, offset in zip(seconds, offsets, strict=True)]


def _settled(stamped: np.ndarray) -> int:
    """The message from which on the offset means something: the first ones may have come late themselves."""
    return len(stamped) // 100
