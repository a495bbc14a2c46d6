"""The leak audit of tick features: what stands at or before a cut must keep every byte when the ticks after
it are changed, or taken away.

The cuts are moments of samples soon after which the next message comes: who looks one message ahead, or into
what shares a bucket of time with it, is seen there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from components.contracts.documents.leak_audit import AuditedCut, Checked, FoundLeak, LeakAudit
from components.contracts.tick_days import TickDay
from components.tick_features.altered import cut_off, other_future
from components.tick_features.config import Settings
from components.tick_features.day import Span
from components.tick_features.state import MICROSECOND_NS

# Makes features of ticks that are in memory: those of the product, or planted ones.
Build = Callable[[pl.DataFrame, Span, Settings], pl.DataFrame]
KEYS = ("timestamp", "known_time")
ROWS = "(rows)"
# Of so many samples the one is cut at after which the next message comes soonest.
LOOKED_AT = 400
SEED = 16

CHECKS = {
    "whole_history": "the table differs from what these ticks give: another history went into it",
    "known_time": "a row says it was known after its moment, or names another message than its newest",
    "future_mutation": "rows up to the cut moved when the ticks after it were changed",
    "truncation": "rows up to the cut differ where the ticks end there",
}


@dataclass
class Tally:
    """What was looked at so far, and what was found."""

    columns: set[str] = field(default_factory=set)
    known: Counter = field(default_factory=Counter)
    made: Counter = field(default_factory=Counter)
    cuts: list[AuditedCut] = field(default_factory=list)
    leaks: list[FoundLeak] = field(default_factory=list)
    rows: int = 0
    table_rows: int = 0
    ticks: int = 0


@dataclass(frozen=True)
class Place:
    """Where two builds are compared."""

    check: str
    symbol: str
    cut: int


def audit_day(
    ticks: pl.DataFrame, table: pl.DataFrame, day: TickDay, span: Span, build: Build, settings: Settings
) -> Tally:
    """Audit the features `table` of one symbol's session (sorted by time) against its `ticks`, or against so
    many of them from the beginning as there are.
    """
    tally = Tally(ticks=len(ticks))
    last = span.last if ticks["ingest_ts"][-1] >= span.last else int(ticks["ingest_ts"][-1]) - 1
    table, heard = _until(table.drop("symbol"), last), ticks["ingest_ts"].to_numpy()
    tally.table_rows, tally.columns = len(table), set(table.columns) - set(KEYS)
    tally.known.update(table.select(pl.all().exclude(KEYS).count()).row(0, named=True))
    whole = build(cut_off(ticks, last), replace(span, last=last), settings)
    _compare(table, _until(whole, last), Place("whole_history", day.symbol, last), tally)
    _check_known_times(table, heard, Place("known_time", day.symbol, last), tally)
    rng = np.random.default_rng([SEED, *day.symbol.encode(), *day.session.encode()])
    for cut in _cuts(table, heard, settings.audit.cuts):
        upto = _until(table, cut)
        tally.cuts.append(_audited(cut, heard, len(upto)))
        changed = build(other_future(ticks, cut, rng), span, settings)
        _compare(upto, _until(changed, cut), Place("future_mutation", day.symbol, cut), tally)
        ended = build(cut_off(ticks, cut), replace(span, last=cut), settings)
        _compare(upto, ended, Place("truncation", day.symbol, cut), tally)
    return tally


def verdict(tallies: Iterable[Tally], notes: Sequence[str]) -> LeakAudit:
    """What the audited sessions say together; a column's finding of a check is told once, the largest."""
    tallies = list(tallies)
    worst: dict[tuple[str, str], FoundLeak] = {}
    for leak in (leak for tally in tallies for leak in tally.leaks):
        before = worst.get((leak.factor, leak.check))
        if before is None or leak.rows > before.rows:
            worst[leak.factor, leak.check] = leak
    columns = set().union(*(tally.columns for tally in tallies))
    known, made = (sum((getattr(tally, name) for tally in tallies), Counter()) for name in ("known", "made"))
    checked = Checked(
        seed=SEED,
        factors=len(columns),
        factor_rows_compared=sum(tally.rows for tally in tallies),
        factor_values_compared=sum(tally.rows * len(tally.columns) for tally in tallies),
        factors_without_values=sorted(column for column in columns if not known[column]),
        cuts=[cut for tally in tallies for cut in tally.cuts],
        checks=dict(made),
        builds=sum(made[check] for check in made if check != "known_time"),
        notes=list(notes),
        factor_rows=sum(tally.table_rows for tally in tallies),
        panel_rows=sum(tally.ticks for tally in tallies),
    )
    leaks = [worst[key] for key in sorted(worst)]
    return LeakAudit(passed=not leaks, leaks=leaks, unstable=[], warm_up=[], placebo=[], checked=checked)


def _until(rows: pl.DataFrame, moment: int) -> pl.DataFrame:
    """The rows up to a moment (ns)."""
    return rows.filter(pl.col("timestamp").cast(pl.Int64) * MICROSECOND_NS <= moment)


def _moments(rows: pl.DataFrame) -> np.ndarray:
    return rows["timestamp"].cast(pl.Int64).to_numpy() * MICROSECOND_NS


def _cuts(table: pl.DataFrame, heard: np.ndarray, wanted: int) -> list[int]:
    """Moments (ns) spread over the samples, each with a message soon after it."""
    moments = _moments(table)
    after = np.searchsorted(heard, moments, side="right")
    gaps = np.where(after < len(heard), heard[np.minimum(after, len(heard) - 1)] - moments, np.inf)
    found = set()
    for number in range(1, wanted + 1):
        start = len(moments) * number // (wanted + 1)
        near = gaps[start : start + min(LOOKED_AT, max(len(moments) // (wanted + 1), 1))]
        if len(near) and np.isfinite(near).any():
            found.add(int(moments[start + int(near.argmin())]))
    return sorted(found)


def _audited(cut: int, heard: np.ndarray, rows: int) -> AuditedCut:
    return AuditedCut(
        timestamp=_said(cut),
        kind="next message soonest",
        bars_after=int((heard > cut).sum()),
        symbols=1,
        rows=rows,
    )


def _check_known_times(table: pl.DataFrame, heard: np.ndarray, place: Place, tally: Tally) -> None:
    """`known_time` is the first microsecond at which the newest message up to the moment was there."""
    tally.made[place.check] += 1
    moments = _moments(table)
    at = np.searchsorted(heard, moments, side="right") - 1
    newest = np.where(at >= 0, heard[np.maximum(at, 0)], moments)
    first = -(-newest // MICROSECOND_NS)
    wrong = (table["known_time"].cast(pl.Int64).to_numpy() != first) | (
        table["known_time"] > table["timestamp"]
    ).to_numpy()
    if wrong.any():
        tally.leaks.append(_leak("known_time", place, table, np.flatnonzero(wrong)))


def _compare(before: pl.DataFrame, after: pl.DataFrame, place: Place, tally: Tally) -> None:
    """Every byte of two builds of the same rows."""
    tally.made[place.check] += 1
    tally.rows += len(before)
    if not before["timestamp"].equals(after["timestamp"]):
        longer, other = (before, after) if len(before) >= len(after) else (after, before)
        only = np.flatnonzero(~longer["timestamp"].is_in(other["timestamp"].implode()).to_numpy())
        tally.leaks.append(_leak(ROWS, place, longer, only, "Which moments there are depends on it"))
        return
    for column in (name for name in before.columns if name != "timestamp"):
        one, other = before[column], after[column] if column in after.columns else None
        if other is None:
            tally.leaks.append(_leak(column, place, before, np.arange(len(before)), "It is not made"))
        elif not one.equals(other, check_dtypes=True):
            moved = np.flatnonzero(one.ne_missing(other).to_numpy())
            tally.leaks.append(_leak(column, place, before, moved, sizes=_sizes(one, other, moved)))


def _sizes(one: pl.Series, other: pl.Series, moved: np.ndarray) -> np.ndarray:
    """By how much values moved; NaN where one came or went."""
    a, b = (series.gather(moved).cast(pl.Float64).fill_null(np.nan).to_numpy() for series in (one, other))
    return np.abs(a - b)


def _leak(
    column: str,
    place: Place,
    rows: pl.DataFrame,
    moved: np.ndarray,
    detail: str = "",
    sizes: np.ndarray | None = None,
) -> FoundLeak:
    moments = _moments(rows)
    first = int(moments[moved[0]]) if len(moved) else place.cut
    before = int(((moments > first) & (moments <= place.cut)).sum())
    sizes = np.empty(0) if sizes is None else sizes
    finite = sizes[np.isfinite(sizes)]
    return FoundLeak(
        check=place.check,
        factor=column,
        timestamp=_said(first),
        symbol=place.symbol,
        cut=_said(place.cut),
        bars_before_cut=before,
        bars_ahead=before + 1,
        rows=len(moved),
        absolute=float(finite.max()) if len(finite) else None,
        relative=None,
        appeared_or_vanished=len(sizes) - len(finite),
        detail=detail or CHECKS[place.check],
        size=float(finite.max()) if len(finite) else None,
    )


def _said(moment: int) -> str:
    """A moment in ISO 8601, to the microsecond."""
    return f"{np.datetime64(moment // MICROSECOND_NS, 'us')}"
