"""Compares two builds of the same rows, column by column, and turns what moved into leaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from components.audit.result import Leak

ROWS = "(rows)"
COPY, ROW = "__copy", "__row"
# Rounding: differences below this share of the value, in this share of all rows, at least so many, with at
# least this share of each sign.
ROUNDING = 1e-6
ROUNDED_SHARE = 0.05
MIN_ROUNDED_ROWS = 40
MIXED_SIGNS = 0.25
# Changes whose shares of the value spread less than this, as a share of their mean, are one factor on all
# rows: no rounding.
SAME_SHARE = 0.01
# Noise up to this share of the column's median size is rounding: values that appear or vanish beside it still
# count.
TINY_NOISE = 1e-4
# Differences below this share of the value, or of the column's median size, are rounding: sums over fewer
# rows may be taken in other chunks.
TRUNCATION_TOLERANCE = 1e-7
# The same where later values were changed; exact for Float32, and rounding in the last bits of Float64.
MUTATION_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Place:
    """Which check is being made and around which cut; `calendar` is the panel's sorted distinct
    timestamps.
    """

    check: str
    cut: datetime
    calendar: pl.Series


def compare(
    before: pl.DataFrame,
    after: pl.DataFrame,
    key: Sequence[str],
    columns: Sequence[str],
    place: Place,
    tolerance: float,
    noise: Mapping[str, float] | None = None,
) -> list[Leak]:
    """Leaks of the columns that differ between two builds of the same rows.

    Rows are matched by `key`, and among equal keys by their order; rows that only one build has are a leak of
    their own, named `(rows)`. Null and NaN equal themselves and nothing else. Numbers may differ by
    `tolerance` times the larger of their size and the column's median size, and by the column's entry in
    `noise` (absolute); what looks like rounding is no difference. A column that only one build has is a leak
    where it holds more than one value.
    """
    leaks = []
    matched = match(before, after, key)
    if matched is not None:
        before, after = before[matched.before], after[matched.after]
        if len(matched.surplus):
            leaks.append(rows_leak(matched.surplus, len(matched.surplus), place))
    for name in columns:
        if name not in after.columns:
            if before[name].drop_nulls().n_unique() > 1:
                leaks.append(_leak(name, place, None, None, len(before), detail="The column vanished"))
            continue
        moved = moved_rows(before[name], after[name], tolerance, (noise or {}).get(name, 0.0))
        if moved is not None:
            leaks.append(_column_leak(name, before, moved, place))
    appeared = [
        name
        for name in after.columns
        if name not in before.columns and after[name].drop_nulls().n_unique() > 1
    ]
    return leaks + [
        _leak(name, place, None, None, len(after), detail="The column appeared") for name in appeared
    ]


@dataclass(frozen=True)
class Matched:
    """Numbers of the rows that both of two tables have, in the order of their key, and the keys of those that
    only one has.
    """

    before: pl.Series
    after: pl.Series
    surplus: pl.DataFrame


def match(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> Matched | None:
    """Rows matched by `key`, and among equal keys by their order; None where they are the same as they
    stand.
    """
    if len(before) == len(after) and all(before[name].equals(after[name]) for name in key):
        return None
    full = [*key, COPY]
    before, after = (
        table.select(key).with_columns(pl.int_range(pl.len()).over(key).alias(COPY)).with_row_index(ROW)
        for table in (before, after)
    )
    pairs = ((before, after), (after, before))
    only = [one.join(other, on=full, how="anti").select(full) for one, other in pairs]
    shared = [one.join(other, on=full, how="semi").sort(full)[ROW] for one, other in pairs]
    return Matched(*shared, pl.concat(only).sort(full).select(key))


def rows_leak(surplus: pl.DataFrame, count: int, place: Place) -> Leak:
    """The leak of so many rows that only one of two builds has, the first of which begin `surplus`."""
    first = surplus.row(0, named=True)
    detail = "Whether these rows exist depends on what came after the cut"
    return _leak(ROWS, place, first["timestamp"], first["symbol"], count, detail=detail)


@dataclass(frozen=True)
class Moved:
    """Rows that moved (positions), the size of each change (NaN where a value appeared or vanished), the
    column's median size.
    """

    rows: np.ndarray
    sizes: np.ndarray
    scale: float


def moved_rows(
    before: pl.Series,
    after: pl.Series,
    tolerance: float,
    noise: float = 0.0,
    *,
    forgive_rounding: bool = True,
) -> Moved | None:
    """Where two series of equal length differ; None where they do not, or, unless `forgive_rounding` is off,
    differ by rounding only.
    """
    if is_same(before, after):
        return None
    if not (before.dtype.is_numeric() or before.dtype == pl.Boolean):
        rows = np.flatnonzero(before.ne_missing(after.cast(before.dtype, strict=False)).to_numpy())
        return Moved(rows, np.full(len(rows), np.nan), 0.0) if len(rows) else None
    a, b = (series.cast(pl.Float64, strict=False).to_numpy() for series in (before, after))
    size = np.abs(a)
    usual = size[np.isfinite(a) & (a != 0)]
    scale = float(np.median(usual)) if len(usual) else 0.0
    with np.errstate(invalid="ignore"):
        change = b - a
        near = np.abs(change) <= tolerance * np.maximum(size, scale) + noise
    nulls = before.is_null().to_numpy() != after.is_null().to_numpy()
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | near
    exact = noise <= TINY_NOISE * scale
    rows = np.flatnonzero(~same | nulls) if exact else np.flatnonzero(~same & ~nulls & np.isfinite(change))
    if not len(rows) or (forgive_rounding and _is_rounding(change[rows], a[rows], scale, len(a))):
        return None
    return Moved(rows, np.abs(change[rows]), scale)


def is_same(before: pl.Series, after: pl.Series) -> bool:
    """Whether two series are equal, type and all; null and NaN equal themselves."""
    return before.dtype == after.dtype and before.equals(after)


def _is_rounding(change: np.ndarray, value: np.ndarray, scale: float, count: int) -> bool:
    """Tiny differences of both signs without a common direction, all over the table: sums that were taken in
    another order.

    A leak moves the rows before the cut, or all rows one way, or all by the same share of their value.
    """
    size = np.maximum(np.abs(value), scale)
    if (
        len(change) < max(MIN_ROUNDED_ROWS, ROUNDED_SHARE * count)
        or not np.isfinite(change).all()
        or (np.abs(change) > ROUNDING * size).any()
    ):
        return False
    share = change[value != 0] / value[value != 0]
    if len(share) and share.std() < SAME_SHARE * abs(share.mean()):
        return False
    upwards = (change > 0).mean()
    return MIXED_SIGNS <= upwards <= 1 - MIXED_SIGNS and abs(change.mean()) < 0.3 * change.std()


def _column_leak(name: str, frame: pl.DataFrame, moved: Moved, place: Place) -> Leak:
    timestamps = frame["timestamp"].gather(moved.rows)
    first = int(timestamps.arg_min())
    finite = moved.sizes[np.isfinite(moved.sizes)]
    absolute = float(finite.max()) if len(finite) else None
    relative = absolute / moved.scale if absolute is not None and moved.scale > 0 else None
    symbol = frame["symbol"][int(moved.rows[first])]
    return _leak(
        name,
        place,
        timestamps[first],
        symbol,
        len(moved.rows),
        absolute=absolute,
        relative=relative,
        appeared_or_vanished=len(moved.rows) - len(finite),
    )


def _leak(
    factor: str, place: Place, timestamp: datetime | None, symbol: str | None, rows: int, **sizes
) -> Leak:
    before_cut = (
        None
        if timestamp is None
        else int(place.calendar.search_sorted(place.cut) - place.calendar.search_sorted(timestamp))
    )
    ahead = None if before_cut is None else max(before_cut, 0) + 1
    return Leak(place.check, factor, timestamp, symbol, place.cut, before_cut, ahead, rows, **sizes)


def in_order(table: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """`table` sorted by `key`; the same object where it is already."""
    return (
        table if not len(table) or table.select(ascends(key)).item() else table.sort(key, maintain_order=True)
    )


def ascends(key: Sequence[str]) -> pl.Expr:
    """True where no row stands before its predecessor in the lexicographic order of `key`."""
    later, ties = pl.lit(False), pl.lit(True)
    for name in key:
        previous = pl.col(name).shift(1)
        later = later | (ties & (pl.col(name) > previous))
        ties = ties & (pl.col(name) == previous)
    return (later | ties).fill_null(True).all()
