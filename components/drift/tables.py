"""Reads and checks the table whose drift is asked for, and says in one sentence what is wrong with it."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.contracts import TIME, AlphaloopError, Stamp

TIMESTAMP, SYMBOL, SCORE = "timestamp", "symbol", "score"


class DriftError(AlphaloopError):
    """Drift can't be measured: the table does not fit the reference, or the reference is not whole."""


def require_made_from(predictions: Stamp, tables: Mapping[str, Stamp]) -> None:
    """Refuse predictions that were made from other tables than those at hand.

    Raises
    ------
    DriftError
        Naming the table that disagrees.
    """
    for name, stamp in tables.items():
        if predictions.inputs.get(name) != stamp.content_sha256:
            raise DriftError(
                f"The predictions were made from {name} {predictions.inputs.get(name, '(unknown)')[:12]}, but"
                f" the one at hand is {stamp.content_sha256[:12]}. A reference of mixed origin would call"
                " that drift: run the training pipeline on one data set."
            )


def read_current(path: Path) -> pl.DataFrame:
    """A Parquet or CSV table, or a folder of Parquet files such as the log of answers.

    Raises
    ------
    DriftError
        If there is no such file, it can't be read, or it holds no rows.
    """
    if not path.exists():
        raise DriftError(
            f"{path} does not exist. Give a Parquet or CSV file with the model's columns, or a folder of"
            " Parquet files."
        )
    try:
        if path.is_dir():
            frame = _read_folder(path)
        elif path.suffix.lower() in (".csv", ".txt", ".gz"):
            frame = pl.read_csv(path, try_parse_dates=True, infer_schema_length=10_000)
        else:
            frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DriftError(
            f"{path} can't be read as a table: {str(error).splitlines()[0]}. Give a whole Parquet or CSV"
            " file."
        ) from error
    if frame.is_empty():
        raise DriftError(f"{path} holds no rows, so there is nothing to compare. Check what wrote it.")
    return frame


def _read_folder(folder: Path) -> pl.DataFrame:
    """All tables below a folder; what one of them lacks is null.

    Answers come in the order in which they were given.
    """
    parts = sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
    if not parts:
        raise DriftError(
            f"{folder} holds no Parquet file (*.parquet), so there is nothing to compare. Give the folder"
            " that does, or a Parquet or CSV file."
        )
    frame = pl.concat([pl.read_parquet(part) for part in parts], how="diagonal_relaxed")
    return frame.sort("answered_at", maintain_order=True) if "answered_at" in frame.columns else frame


def check_current(
    frame: pl.DataFrame, columns: Sequence[str], *, kept: str = "the reference"
) -> pl.DataFrame:
    """The table's keys, columns and score, as far as it has them: one row a (timestamp, symbol), in order,
    values Float32.

    Of several rows of one (timestamp, symbol), as when the service was asked twice, the last is kept. A value
    that is not finite becomes null.

    Parameters
    ----------
    columns : those that the reference holds without the score; each must be there

    Raises
    ------
    DriftError
        Naming missing columns with the closest that the table has, columns of the wrong type, or a table
        without rows or values.
    """
    if frame.is_empty():
        raise DriftError(
            "The current table holds no rows, so there is nothing to compare. Check what wrote it."
        )
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DriftError(_describe_missing(missing, frame.columns, len(columns), kept))
    wanted = [*columns, *([SCORE] if SCORE in frame.columns else [])]
    _require_numbers(frame, wanted)
    keys = [name for name in (TIMESTAMP, SYMBOL) if name in frame.columns]
    table = frame.select(
        *(_key(frame, name) for name in keys), *(pl.col(name).cast(pl.Float32) for name in wanted)
    )
    table = table.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)) for name in wanted)
    if not table.select(pl.any_horizontal(pl.col(columns).is_not_null().any())).item():
        raise DriftError(
            f"None of the {len(columns)} columns of the current table holds a number. Check what wrote it;"
            " empty features would not say anything about drift."
        )
    if keys == [TIMESTAMP, SYMBOL]:
        return table.unique(keys, keep="last", maintain_order=True).sort(keys)
    return table.sort(TIMESTAMP) if TIMESTAMP in keys else table


def _require_numbers(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    wrong = [
        name
        for name in columns
        if not (frame.schema[name].is_numeric() or frame.schema[name] in (pl.Boolean, pl.Null))
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        shown = ", ".join(f"{name!r} ({frame.schema[name]})" for name in wrong[:3])
        raise DriftError(
            f"Columns of the current table are not numbers: {shown}{more}. Cast them to Float32; in a CSV"
            " file look for text among the numbers."
        )


def newest_bars(table: pl.DataFrame, bars: int) -> pl.DataFrame:
    """The rows of the newest `bars` timestamps; all of them in a table without."""
    if TIMESTAMP not in table.columns:
        return table
    moments = table[TIMESTAMP].unique().sort()
    return table.filter(pl.col(TIMESTAMP) >= moments[-min(bars, len(moments))])


def _key(frame: pl.DataFrame, name: str) -> pl.Expr:
    dtype = frame.schema[name]
    if frame[name].null_count():
        without = (
            "count rows as independent"
            if name == TIMESTAMP
            else "judge the rows without telling symbols apart"
        )
        raise DriftError(
            f"{frame[name].null_count():,} rows of the current table have no {name}. Fill them in, or leave"
            f" the column out to {without}."
        )
    if name == SYMBOL:
        return pl.col(name).cast(pl.String)
    if dtype == pl.Date:
        return pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime):
        return (
            pl.col(name).dt.replace_time_zone("UTC")
            if dtype.time_zone is None
            else pl.col(name).dt.convert_time_zone("UTC")
        ).cast(TIME)
    raise DriftError(
        f"Column 'timestamp' of the current table has type {dtype}, expected a date or a time. Parse it"
        " first, or leave it out to count rows as independent."
    )


def _describe_missing(missing: Sequence[str], found: Sequence[str], total: int, kept: str) -> str:
    shown = []
    for name in missing[:5]:
        close = difflib.get_close_matches(name, found, n=1)
        shown.append(f"{name!r} (closest: {close[0]!r})" if close else f"{name!r}")
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    advice = (
        "The table is of another kind or of another model's schema"
        if len(missing) == total
        else "Add or rename them"
    )
    return (
        f"The current table lacks {len(missing)} of the {total} columns that {kept} holds:"
        f" {', '.join(shown)}{more}. {advice}; a column that is unknown everywhere may be all null."
    )
