"""The columns of a slow table's file that are used: required, typed, and each in one role."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.contracts import TIME
from components.fusion.config import TableSettings
from components.fusion.errors import FusionError
from components.fusion.feed import ROW
from components.reading.encoding import refuse_doubtful
from components.reading.keys import key_text
from components.reading.numbers import missing_as_null, read_numbers
from components.reading.place import Place, shown
from components.reading.stamps import Cells, is_dated, read_stamps
from components.reading.table import SourceTable


def value_columns(table: TableSettings) -> list[str]:
    """Columns of the file that hold values."""
    ratios = [name for column in table.columns for name in (column.source_column, column.divide_by) if name]
    return [table.value] if table.layout == "long" else list(dict.fromkeys(ratios))


def used_columns(
    frame: pl.DataFrame, table: TableSettings, source: SourceTable | None = None
) -> pl.DataFrame:
    """The columns that the table uses with _row, times typed, rows that `where` keeps.

    `source` is the file that the frame is of; its layout tells how numbers in text are written.

    Raises
    ------
    FusionError
        For a column that is missing, of another type, or named for two things; for a table without rows.
    """
    long = table.layout == "long"
    values = value_columns(table)
    place = (
        source.place if source else Place(Path(table.path), FusionError, owner=f"fusion table {table.name!r}")
    )
    texts = [
        *([table.symbol] if table.key == "symbol" else []),
        *([table.series] if long else []),
        *([table.company] if table.company else []),
    ]
    times = list(dict.fromkeys([table.observed, *([table.known] if table.known else [])]))
    _require_columns(frame, [*times, *texts, *values, *table.where], table)
    _require_one_column([*times, *texts, *values, *table.where], source, table)
    _require_one_role({"a time": times, "a name": texts, "a value": values}, table)
    frame = frame.with_row_index(ROW)
    for name, kept in table.where.items():
        frame = frame.filter(pl.col(name).cast(pl.String).str.strip_chars().is_in(kept))
    frame = _numbers(frame, values, table, place, source)
    if frame.is_empty():
        raise FusionError(
            f"{table.path} holds no rows for fusion table"
            f" {table.name!r}{' after `where`' if table.where else ''}. Check the"
            f" file{' and where' if table.where else ''}."
        )
    frame = frame.with_columns(
        *(_typed_time(frame[name], table, place) for name in times),
        *(key_text(frame[name], place, name)[0] for name in texts),
    )
    if source is not None and source.text is not None:
        for name in texts:
            refuse_doubtful(
                frame[name].drop_nulls().unique().to_list(), source.text, place, f"column {name!r}"
            )
    return frame.select(list(dict.fromkeys([ROW, *times, *texts, *values])))


def _require_columns(frame: pl.DataFrame, names: Sequence[str], table: TableSettings) -> None:
    for name in names:
        if name not in frame.columns:
            close = difflib.get_close_matches(name, frame.columns, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(frame.columns[:20])}."
            raise FusionError(
                f"{table.path} has no column {name!r}, which fusion table {table.name!r} names. {advice}"
            )


def _require_one_column(names: Sequence[str], source: SourceTable | None, table: TableSettings) -> None:
    twice = [name for name in names if source is not None and name in source.repeated]
    if twice:
        raise FusionError(
            f"{source.place.path}: two columns are called {twice[0]!r}, which fusion table {table.name!r}"
            " names."
            " Rename one in the file."
        )


def _numbers(
    frame: pl.DataFrame, names: Sequence[str], table: TableSettings, place: Place, source: SourceTable | None
) -> pl.DataFrame:
    """The frame with its values as Float64; FusionError where one is none."""
    texts = {name: frame[name] for name in names if frame[name].dtype == pl.String}
    separator = source.csv.separator if source is not None and source.csv is not None else ","
    read, _ = read_numbers(texts, table.csv.decimal, separator, place)
    for name, text in texts.items():
        lost = (missing_as_null(text).is_not_null() & read[name].is_null()).arg_true()
        if len(lost):
            raise place.refusal(
                f"column {name!r} of fusion table {table.name!r} holds {len(lost):,} values that are no"
                " numbers,"
                f" first {shown(text[int(lost[0])])} in row {frame[ROW][int(lost[0])] + 1:,}. Mend the file,"
                " name"
                f" another column, or see {place.setting('csv.decimal')}."
            )
    for name in names:
        if not (name in read or frame[name].dtype.is_numeric() or frame[name].dtype == pl.Null):
            raise FusionError(
                f"{table.path}: column {name!r} of fusion table {table.name!r} has type {frame[name].dtype},"
                " expected numbers. Name another column."
            )
    return frame.with_columns(
        read.get(name, frame[name]).cast(pl.Float64).alias(name) for name in dict.fromkeys(names)
    )


def _require_one_role(roles: Mapping[str, Sequence[str]], table: TableSettings) -> None:
    for name in dict.fromkeys(name for names in roles.values() for name in names):
        used = [role for role, names in roles.items() if name in names]
        if len(used) > 1:
            raise FusionError(
                f"Fusion table {table.name!r} takes the column {name!r} of {table.path} for"
                f" {' and for '.join(used)}; it can be only one. Name another column."
            )


def _typed_time(column: pl.Series, table: TableSettings, place: Place) -> pl.Series:
    """Dates stay dates; moments come in UTC."""
    if column.dtype == pl.String:
        column = missing_as_null(column)
    cells = Cells(place, column.name, f"another column of fusion table {table.name!r}")
    stamps = read_stamps(column, cells, table.timestamp_format, table.timestamp_unit)
    moments = stamps.moments.alias(column.name)
    digits = stamps.unit in ("calendar", "excel") and (moments.dt.truncate("1d") == moments).all()
    if column.dtype == pl.Date or digits or (stamps.form is not None and is_dated(stamps.form)):
        return moments.dt.date()
    if moments.dtype.time_zone is None:
        moments = moments.dt.replace_time_zone(table.timezone, ambiguous="latest", non_existent="null")
    return moments.dt.convert_time_zone("UTC").cast(TIME)
