"""The columns of a slow table's file that are used: required, typed, and each in one role."""

import difflib
from collections.abc import Mapping, Sequence

import polars as pl

from components.contracts import TIME
from components.fusion.config import TableSettings
from components.fusion.errors import FusionError
from components.fusion.feed import ROW


def used_columns(frame: pl.DataFrame, table: TableSettings) -> pl.DataFrame:
    """The columns that the table uses with _row, times typed, rows that `where` keeps.

    Raises
    ------
    FusionError
        For a column that is missing, of another type, or named for two things; for a table without rows.
    """
    long = table.layout == "long"
    ratios = [name for column in table.columns for name in (column.source_column, column.divide_by) if name]
    values = [table.value] if long else ratios
    texts = [
        *([table.symbol] if table.key == "symbol" else []),
        *([table.series] if long else []),
        *([table.company] if table.company else []),
    ]
    times = list(dict.fromkeys([table.observed, *([table.known] if table.known else [])]))
    _require_columns(frame, [*times, *texts, *values, *table.where], table)
    frame = frame.with_row_index(ROW).with_columns(_typed_time(frame[name], table) for name in times)
    for name, kept in table.where.items():
        frame = frame.filter(pl.col(name).cast(pl.String).is_in(kept))
    _require_numbers(frame, values, table)
    _require_one_role({"a time": times, "a name": texts, "a value": values}, table)
    if frame.is_empty():
        raise FusionError(
            f"{table.path} holds no rows for fusion table"
            f" {table.name!r}{' after `where`' if table.where else ''}. Check the"
            f" file{' and where' if table.where else ''}."
        )
    types = dict.fromkeys(texts, pl.String) | dict.fromkeys(values, pl.Float64)
    kept = dict.fromkeys([ROW, *times, *texts, *values])
    return frame.select(pl.col(name).cast(types[name]) if name in types else pl.col(name) for name in kept)


def _require_columns(frame: pl.DataFrame, names: Sequence[str], table: TableSettings) -> None:
    for name in names:
        if name not in frame.columns:
            close = difflib.get_close_matches(name, frame.columns, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(frame.columns[:20])}."
            raise FusionError(
                f"{table.path} has no column {name!r}, which fusion table {table.name!r} names. {advice}"
            )


def _require_numbers(frame: pl.DataFrame, names: Sequence[str], table: TableSettings) -> None:
    for name in names:
        if not (frame[name].dtype.is_numeric() or frame[name].dtype == pl.Null):
            raise FusionError(
                f"{table.path}: column {name!r} of fusion table {table.name!r} has type {frame[name].dtype},"
                " expected numbers. Name another column."
            )


def _require_one_role(roles: Mapping[str, Sequence[str]], table: TableSettings) -> None:
    for name in dict.fromkeys(name for names in roles.values() for name in names):
        used = [role for role, names in roles.items() if name in names]
        if len(used) > 1:
            raise FusionError(
                f"Fusion table {table.name!r} takes the column {name!r} of {table.path} for"
                f" {' and for '.join(used)}; it can be only one. Name another column."
            )


def _typed_time(column: pl.Series, table: TableSettings) -> pl.Series:
    """Dates stay dates; moments come in UTC."""
    if column.dtype == pl.String:
        day = column.str.to_date("%Y-%m-%d", strict=False)
        try:
            column = (
                day
                if day.null_count() == column.null_count()
                else column.str.to_datetime(time_unit="us", strict=False)
            )
        except pl.exceptions.ComputeError:
            example = column.drop_nulls().first()
            raise FusionError(
                f"{table.path}: column {column.name!r} of fusion table {table.name!r} holds {example!r},"
                " expected times such as 2024-05-01 or 2024-05-01 16:30. Write them so, or name another"
                " column."
            ) from None
    if column.dtype == pl.Date:
        return column
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            column = column.dt.replace_time_zone(table.timezone, ambiguous="latest", non_existent="null")
        return column.dt.convert_time_zone("UTC").cast(TIME)
    raise FusionError(
        f"{table.path}: column {column.name!r} of fusion table {table.name!r} has type {column.dtype},"
        " expected dates or times. Name another column."
    )
