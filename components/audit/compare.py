"""Compares two builds of the same rows, column by column, and turns what moved into leaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.result import Leak


@dataclass(frozen=True)
class Place:
    """Which check is being made and around which cut; `calendar` is the panel's sorted distinct timestamps."""

    check: str
    cut: datetime
    calendar: pl.Series


def compare(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], columns: Sequence[str], place: Place, tolerance: float) -> list[Leak]:
    """Leaks of the columns that differ between two builds of the same rows.

    Rows are matched by `key`; rows that only one build has are a leak of their own, named `(rows)`. Null and NaN equal
    themselves and nothing else. Numbers may differ by `tolerance` times the larger of their size and the column's median size.
    """
    key = list(key)
    leaks = []
    if len(before) != len(after) or any(not before[name].equals(after[name]) for name in key):
        surplus = pl.concat([before.select(key).join(after.select(key), on=key, how="anti"), after.select(key).join(before.select(key), on=key, how="anti")])
        if len(surplus):
            first = surplus.sort(key).row(0, named=True)
            leaks.append(_leak("(rows)", place, first["timestamp"], first["symbol"], len(surplus), detail="Whether these rows exist depends on what came after the cut"))
        before = before.join(after.select(key), on=key, how="semi").sort(key)
        after = after.join(before.select(key), on=key, how="semi").sort(key)
    for name in columns:
        if name not in after.columns:
            leaks.append(_leak(name, place, None, None, len(before), detail="The column vanished"))
            continue
        moved = moved_rows(before[name], after[name], tolerance)
        if moved is not None:
            leaks.append(_column_leak(name, before, moved, place))
    leaks += [_leak(name, place, None, None, len(after), detail="The column appeared") for name in after.columns if name not in before.columns]
    return leaks


@dataclass(frozen=True)
class Moved:
    """Rows that moved (positions), the size of each change (NaN where a value appeared or vanished), the column's median size."""

    rows: np.ndarray
    sizes: np.ndarray
    scale: float


def moved_rows(before: pl.Series, after: pl.Series, tolerance: float) -> Moved | None:
    """Where two series of equal length differ; None where they do not."""
    if before.dtype == after.dtype and before.equals(after):
        return None
    if not (before.dtype.is_numeric() or before.dtype == pl.Boolean):
        rows = np.flatnonzero(before.ne_missing(after).to_numpy())
        return Moved(rows, np.full(len(rows), np.nan), 0.0) if len(rows) else None
    a, b = (series.cast(pl.Float64).to_numpy() for series in (before, after))
    size = np.abs(a)
    usual = size[np.isfinite(a) & (a != 0)]
    scale = float(np.median(usual)) if len(usual) else 0.0
    with np.errstate(invalid="ignore"):
        change = np.abs(a - b)
    nulls = before.is_null().to_numpy() != after.is_null().to_numpy()
    same = ~nulls & ((a == b) | (np.isnan(a) & np.isnan(b)) | (change <= tolerance * np.maximum(size, scale)))
    rows = np.flatnonzero(~same)
    return Moved(rows, change[rows], scale) if len(rows) else None


def _column_leak(name: str, frame: pl.DataFrame, moved: Moved, place: Place) -> Leak:
    timestamps = frame["timestamp"].gather(moved.rows)
    first = int(timestamps.arg_min())
    finite = moved.sizes[np.isfinite(moved.sizes)]
    absolute = float(finite.max()) if len(finite) else None
    relative = absolute / moved.scale if absolute is not None and moved.scale > 0 else None
    symbol = frame["symbol"][int(moved.rows[first])]
    return _leak(name, place, timestamps[first], symbol, len(moved.rows), absolute=absolute, relative=relative, appeared_or_vanished=len(moved.rows) - len(finite))


def _leak(factor: str, place: Place, timestamp: datetime | None, symbol: str | None, rows: int, **sizes) -> Leak:
    before_cut = None if timestamp is None else int(place.calendar.search_sorted(place.cut) - place.calendar.search_sorted(timestamp))
    ahead = None if before_cut is None else max(before_cut, 0) + 1
    return Leak(place.check, factor, timestamp, symbol, place.cut, before_cut, ahead, rows, **sizes)


def in_order(table: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """`table` sorted by `key`; the same object where it is already."""
    return table if not len(table) or table.select(ascends(key)).item() else table.sort(key)


def ascends(key: Sequence[str]) -> pl.Expr:
    """True where no row stands before its predecessor in the lexicographic order of `key`."""
    later, ties = pl.lit(False), pl.lit(True)
    for name in key:
        previous = pl.col(name).shift(1)
        later = later | (ties & (pl.col(name) > previous))
        ties = ties & (pl.col(name) == previous)
    return (later | ties).fill_null(True).all()
