"""How the tables that stages hand over are written, stamped, read and checked: Parquet with zstd, the stamp
in its metadata. Which tables there are: `components/contracts/schemas.py`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

import polars as pl

from components.contracts.classes import check_probabilities
from components.contracts.errors import ContractError
from components.contracts.files import atomic_path
from components.contracts.row_limit import table_rows
from components.contracts.schemas import Table

STAMP_KEY = "alphaloop.stamp"
# Rows of a row group, and its values at most, by which that of a wide table has fewer rows: who writes or
# reads holds some row groups.
ROW_GROUP_ROWS = 1 << 17
ROW_GROUP_VALUES = 1 << 24
# Rows whose keys are compared at a time.
ROWS_LOOKED_AT = 1 << 20
FILE_FORMAT = MappingProxyType({"compression": "zstd", "compression_level": 1})


def row_group_rows(columns: int) -> int:
    """Rows of the row groups of a table of so many columns; they depend on nothing else, so that a file's
    bytes don't depend on how its rows came together.
    """
    return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_VALUES // max(columns, 1)))


@dataclass(frozen=True)
class Stamp:
    """Where a table came from. `inputs` maps the name of each table that went in to its content SHA-256."""

    table: str
    schema_version: int
    content_sha256: str
    code_version: str
    config_hash: str
    train_window: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


def content_sha256(frame: pl.DataFrame) -> str:
    """SHA-256 over column names, types and values; independent of chunks, file format and what lies under
    nulls.
    """
    digest = hashlib.sha256()
    for series in frame.iter_columns():
        add_column(digest, lambda series=series: [series])
    return digest.hexdigest()


def add_column(digest: "hashlib._Hash", parts: Callable[[], Iterable[pl.Series]]) -> None:
    """Add one column to a content hash; `parts` gives its series that follow on each other, at every call
    anew, so that they need not be held together.
    """
    rows = nulls = 0
    for series in parts():
        name, dtype, rows, nulls = series.name, series.dtype, rows + len(series), nulls + series.null_count()
    digest.update(f"{name}:{dtype}:{rows}".encode())
    if nulls:
        for series in parts():
            digest.update(series.is_null().to_numpy().tobytes())
    for encoded in _ENCODINGS.get(dtype, (_fixed_width,)):
        for series in parts():
            if len(series):
                digest.update(encoded(series))


def _text_lengths(series: pl.Series) -> bytes:
    return series.fill_null("").str.len_bytes().to_numpy().tobytes()


def _text(series: pl.Series) -> bytes:
    return series.fill_null("").str.join("").item().encode()


def _binary_lengths(series: pl.Series) -> bytes:
    return series.fill_null(b"").bin.size().to_numpy().tobytes()


def _binary(series: pl.Series) -> bytes:
    return b"".join(series.fill_null(b""))


def _fixed_width(series: pl.Series) -> memoryview:
    physical = series.to_physical()
    filled = physical.fill_null(False if physical.dtype == pl.Boolean else 0)
    return memoryview(filled.rechunk().to_numpy()).cast("B")


# How the values of a type that has no fixed width go into a content hash: one after another over the column.
_ENCODINGS = {pl.String(): (_text_lengths, _text), pl.Binary(): (_binary_lengths, _binary)}


def check_table(frame: pl.DataFrame, table: Table, *, source: str = "") -> pl.DataFrame:
    """Return `frame` with its columns in the table's order, or refuse it.

    Raises
    ------
    ContractError
        For a missing, surplus or wrongly typed column, probabilities of classes that are no distribution, a
        repeated key, or rows out of order; the message gives examples.
    """
    where = source or f"the {table.name} table"
    missing = [name for name in table.columns if name not in frame.columns]
    if missing:
        raise ContractError(
            f"{where}: column {missing[0]!r} is missing (found: {', '.join(frame.columns)}). A {table.name}"
            f" table needs {', '.join(table.columns)}."
        )
    known = {**table.columns, **table.optional}
    for name, dtype in frame.schema.items():
        expected = known.get(name, table.extra)
        if expected is None:
            raise ContractError(
                f"{where}: column {name!r} does not belong in a {table.name} table. Remove it; allowed are"
                f" {', '.join(known)}."
            )
        if dtype != expected:
            raise ContractError(
                f"{where}: column {name!r} has type {dtype}, expected {expected}. Cast it before handing the"
                " table over."
            )
    if table.extra is None:
        check_probabilities(frame, source=where)
    ordered = frame.select(*table.columns, *(c for c in frame.columns if c not in table.columns))
    if not table.key:
        return ordered
    keys = ordered.select(table.key)
    if not all(part.select(_is_sorted(table.key)).item() for part in _looked_at(keys)):
        raise ContractError(
            f"{where}: rows are not sorted by {', '.join(table.key)}. Sort the table first; out of order may"
            " also mean that time runs backwards in the source."
        )
    if any(part.select(_is_repeat(table.key).any()).item() for part in _looked_at(keys)):
        repeated = ordered.select(_is_repeat(table.key).alias("repeat")).to_series()
        first = ordered.filter(repeated).select(table.key).head(5).rows()
        raise ContractError(
            f"{where}: {int(repeated.sum()):,} rows repeat a ({', '.join(table.key)}), first {first}. Each"
            " may occur once."
        )
    return ordered


def _looked_at(keys: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows that follow on each other, each part with the last one before it: what is compared within a part
    takes several times its memory.
    """
    for start in range(0, len(keys), ROWS_LOOKED_AT):
        yield keys[max(start - 1, 0) : start + ROWS_LOOKED_AT]


def _is_sorted(key: Sequence[str]) -> pl.Expr:
    """True when the rows ascend in the lexicographic order of `key`."""
    ascends, ties = pl.lit(False), pl.lit(True)
    for name in key:
        previous = pl.col(name).shift(1)
        ascends = ascends | (ties & (pl.col(name) > previous))
        ties = ties & (pl.col(name) == previous)
    return (ascends | ties).fill_null(True).all()


def _is_repeat(key: Sequence[str]) -> pl.Expr:
    """For sorted rows: True where the key equals that of the row before."""
    return pl.all_horizontal(*(pl.col(name) == pl.col(name).shift(1) for name in key)).fill_null(False)


def write_table(
    frame: pl.DataFrame,
    path: str | os.PathLike,
    table: Table,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str] | None = None,
    train_window: str = "",
) -> Stamp:
    """Check `frame` against its contract and write it with its stamp, atomically. Returns the stamp."""
    frame = check_table(frame, table, source=str(path))
    stamp = Stamp(
        table=table.name,
        schema_version=table.version,
        content_sha256=content_sha256(frame),
        code_version=code_version,
        config_hash=config_hash,
        train_window=train_window,
        inputs=dict(inputs or {}),
    )
    with atomic_path(path) as temporary:
        rows = row_group_rows(frame.width)
        frame.write_parquet(temporary, **FILE_FORMAT, row_group_size=rows, metadata=stamped(stamp))
    return stamp


def stamped(stamp: Stamp) -> dict[str, str]:
    """The metadata of a table's file."""
    return {STAMP_KEY: json.dumps(asdict(stamp))}


def read_stamp(path: str | os.PathLike) -> Stamp:
    """The stamp of a table written by `write_table`.

    Raises
    ------
    ContractError
        If the file is missing, empty, cut off, not Parquet, or carries no stamp.
    """
    metadata = _metadata(path)
    if STAMP_KEY not in metadata:
        raise ContractError(
            f"{path} carries no stamp, so nobody can tell which code and data made it. Let the pipeline write"
            " it; for your own data use market.source: parquet."
        )
    return Stamp(**json.loads(metadata[STAMP_KEY]))


def read_table(path: str | os.PathLike, table: Table, *, verify: bool = True) -> pl.DataFrame:
    """Read a stamped table. `verify` recomputes its content hash (about a second a gigabyte).

    Raises
    ------
    ContractError
        If the file is unreadable, of another kind or schema version, or its content does not match its stamp.
    """
    stamp = stamp_of(path, table)
    frame = check_table(pl.read_parquet(path), table, source=str(path))
    if verify:
        refuse_changed(path, stamp, content_sha256(frame))
    return frame


def stamp_of(path: str | os.PathLike, table: Table) -> Stamp:
    """The stamp of a table that must be of this kind and schema version.

    Raises
    ------
    ContractError
        As `read_stamp`, and if it is of another kind or version, or has more rows than can be counted.
    """
    stamp = read_stamp(path)
    table_rows(path)
    if (stamp.table, stamp.schema_version) != (table.name, table.version):
        raise ContractError(
            f"{path} is a {stamp.table} table of schema {stamp.schema_version}; expected {table.name} of"
            f" schema {table.version}. Run the stage that writes it again."
        )
    return stamp


def refuse_changed(path: str | os.PathLike, stamp: Stamp, found: str) -> None:
    """ContractError where the content hash that was found is not that of the stamp."""
    if found != stamp.content_sha256:
        raise ContractError(
            f"{path} was changed after it was written: its content does not match the SHA-256 in its stamp."
            " Delete it and run again."
        )


def require_one_origin(paths: Sequence[str | os.PathLike], input_name: str) -> str:
    """Content hash of `input_name` that all the tables at `paths` were made from.

    Raises
    ------
    ContractError
        If one of them was made from other data than the first; the message names the file that disagrees.
    """
    origins = {str(path): read_stamp(path).inputs.get(input_name, "") for path in paths}
    first_path, first = next(iter(origins.items()))
    for path, origin in origins.items():
        if not origin or origin != first:
            raise ContractError(
                f"{path} was made from {input_name} {origin[:12] or '(unknown)'}, but {first_path} from"
                f" {first[:12] or '(unknown)'}. Tables of different origin must not be mixed: run the stages"
                " that wrote them again on one data set."
            )
    return first


def _metadata(path: str | os.PathLike) -> dict[str, str]:
    path = Path(path)
    if not path.exists():
        raise ContractError(f"{path} does not exist. Run the stage that writes it, or check the path.")
    if path.stat().st_size == 0:
        raise ContractError(f"{path} is empty (0 bytes). Run the stage that writes it again.")
    try:
        return pl.read_parquet_metadata(path)
    except pl.exceptions.ComputeError as error:
        raise ContractError(
            f"{path} is not a whole Parquet file ({error}). It may have been cut off while being copied;"
            " fetch it again."
        ) from error
