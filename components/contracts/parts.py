"""Tables that are larger than memory: read, checked and written a part of the rows at a time, with the stamp,
the content hash and the file bytes that `components/contracts/tables.py` gives the whole.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from components.contracts.files import atomic_path
from components.contracts.row_limit import refuse_too_many, table_rows
from components.contracts.schemas import Table
from components.contracts.tables import (
    FILE_FORMAT,
    ROW_GROUP_ROWS,
    Stamp,
    add_column,
    check_table,
    refuse_changed,
    row_group_rows,
    stamp_of,
    stamped,
)

# Values that are held at once while a table is hashed, beyond one column: to read each column by itself costs
# more than to hash it.
HELD_VALUES = 1 << 24
TEXT = (pl.String, pl.Binary)
# Rows of a part that are read together on their way into the file.
BATCH_ROWS = 1 << 14


def scan_table(path: str | os.PathLike, table: Table) -> pl.LazyFrame:
    """A stamped table as a scan of its file, checked as `read_table` does.

    Raises
    ------
    ContractError
        As `read_table`.
    """
    stamp = stamp_of(path, table)
    whole = pl.scan_parquet(path)
    rows = table_rows(path)
    parts = [whole.slice(start, ROW_GROUP_ROWS) for start in range(0, max(rows, 1), ROW_GROUP_ROWS)]
    check_parts(parts, table, source=str(path))
    refuse_changed(path, stamp, parts_sha256(whole, parts))
    return whole


def check_parts(parts: Sequence[pl.LazyFrame], table: Table, *, source: str) -> None:
    """Refuse rows that follow on each other as `check_table` refuses them together.

    Raises
    ------
    ContractError
        As `check_table`.
    """
    names = parts[0].collect_schema().names()
    check_table(pl.DataFrame(schema=parts[0].collect_schema()), table, source=source)
    # All further columns of a table that allows them have one type and no other rule.
    looked_at = list(table.columns) if table.extra is not None else names
    before = pl.DataFrame()
    for part in parts:
        rows = part.select(looked_at).collect()
        check_table(pl.concat([before, rows]) if before.width else rows, table, source=source)
        before = rows[-1:] if len(rows) else before


def parts_sha256(whole: pl.LazyFrame, parts: Sequence[pl.LazyFrame]) -> str:
    """`content_sha256` of the `whole`, which is the `parts` one after another; of text one part is held at a
    time, of other columns as many as HELD_VALUES allow.
    """
    digest = hashlib.sha256()
    schema = whole.collect_schema()
    rows = whole.select(pl.len()).collect(engine="streaming").item()
    for names in _held_together(schema, rows):
        if schema[names[0]] in TEXT:
            texts = [part.select(names) for part in parts]
            add_column(digest, lambda texts=texts: (text.collect().to_series() for text in texts))
        else:
            for series in whole.select(names).collect().iter_columns():
                add_column(digest, lambda series=series: [series])
    return digest.hexdigest()


def _held_together(schema: pl.Schema, rows: int) -> list[list[str]]:
    """The columns in their order, those together that are held at once; one of text stands alone."""
    groups: list[list[str]] = []
    for name, dtype in schema.items():
        alone = dtype in TEXT or not groups or schema[groups[-1][0]] in TEXT
        if alone or (len(groups[-1]) + 1) * rows > HELD_VALUES:
            groups.append([name])
        else:
            groups[-1].append(name)
    return groups


def write_part(rows: pl.DataFrame, path: Path) -> Path:
    """Put rows where `write_parts` takes them from. Numbers without a pattern are not packed: that takes
    longer than to make many of them.
    """
    rows.write_ipc(path, record_batch_size=BATCH_ROWS)
    return path


def write_parts(
    files: Sequence[Path],
    path: str | os.PathLike,
    table: Table,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str],
) -> Stamp:
    """Write the rows of Arrow files that follow on each other as `write_table` writes them together; returns
    the stamp.

    Raises
    ------
    ContractError
        As `check_table`.
    """
    refuse_too_many(sum(_file_rows(file) for file in files), str(path))
    # A scan of all: lazy frames put one after another would be read side by side.
    whole = pl.scan_ipc(files)
    empty = check_table(pl.DataFrame(schema=whole.collect_schema()), table, source=str(path))
    parts = [pl.scan_ipc(file).select(empty.columns) for file in files]
    check_parts(parts, table, source=str(path))
    stamp = Stamp(
        table=table.name,
        schema_version=table.version,
        content_sha256=parts_sha256(whole.select(empty.columns), parts),
        code_version=code_version,
        config_hash=config_hash,
        inputs=dict(inputs),
    )
    with atomic_path(path) as temporary:
        rows = row_group_rows(empty.width)
        _one_by_one(parts, empty.schema).sink_parquet(
            temporary, **FILE_FORMAT, row_group_size=rows, metadata=stamped(stamp)
        )
    return stamp


def _one_by_one(parts: Sequence[pl.LazyFrame], schema: pl.Schema) -> pl.LazyFrame:
    """All rows of the parts, to be written: read a few at a time, where a scan of all reads ahead in many."""

    def batches(*_: object) -> Iterator[pl.DataFrame]:
        for part in parts:
            rows = part.select(pl.len()).collect().item()
            for start in range(0, rows, BATCH_ROWS):
                yield part.slice(start, BATCH_ROWS).collect()

    return register_io_source(batches, schema=schema)


def _file_rows(file: Path) -> int:
    """Rows of one of the Arrow files, each far from the limit."""
    return pl.scan_ipc(file).select(pl.len()).collect().item()
