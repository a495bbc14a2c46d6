"""Tables that are read from files mapped into memory, so that the system takes their pages back where room is
short and fetches them again: a stage that holds a whole table so needs memory only for what it makes of it.
"""

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from components.contracts.row_limit import table_rows
from components.contracts.schemas import Table
from components.contracts.tables import add_column, check_table, read_table, refuse_changed, stamp_of

# Columns are unpacked this many bytes at a time, or one by one where each is larger.
BATCH_BYTES = 64 * 2**20
# What a value takes at most that is no text.
VALUE_BYTES = 8


def map_table(path: str | os.PathLike, table: Table, columns: Collection[str] | None = None) -> pl.DataFrame:
    """A stamped table as `read_table` reads and checks it, in one chunk, of which no more than a few columns
    are ever held.

    Its values lie unpacked in a file without a name in the folder for temporary files (TMPDIR), which needs
    room for them until the frame is gone.

    Parameters
    ----------
    columns : those that are wanted beside the table's own; all where left out

    Raises
    ------
    ContractError
        As `read_table`.
    """
    if os.name == "nt":  # where a file that is in use keeps its name
        frame = read_table(path, table)
        return frame if columns is None else frame.select(_wanted(frame.columns, table, columns))
    stamp, whole = stamp_of(path, table), pl.scan_parquet(path)
    schema = whole.collect_schema()
    check_table(pl.DataFrame(schema=schema), table, source=str(path))
    wanted = list(schema) if columns is None else _wanted(list(schema), table, columns)
    digest, parts = hashlib.sha256(), []
    with tempfile.TemporaryDirectory(prefix="alphaloop-mapped-") as folder:
        for number, names in enumerate(_batches(list(schema), table_rows(path))):
            batch = whole.select(names).collect().rechunk()
            for series in batch.iter_columns():
                add_column(digest, lambda series=series: [series])
            batch = batch.select(name for name in names if name in wanted)
            if batch.width:
                parts.append(_mapped(batch, Path(folder) / str(number)))
            # Or it would stand beside the next one.
            del batch
    frame = check_table(pl.concat(parts, how="horizontal"), table, source=str(path))
    refuse_changed(path, stamp, digest.hexdigest())
    return frame


def _wanted(names: Sequence[str], table: Table, columns: Collection[str]) -> list[str]:
    return [name for name in names if name in table.columns or name in columns]


def _batches(names: Sequence[str], rows: int) -> Iterator[Sequence[str]]:
    many = max(1, BATCH_BYTES // (VALUE_BYTES * max(rows, 1)))
    return (names[first : first + many] for first in range(0, len(names), many))


def _mapped(frame: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The same frame from a mapped file, which lasts as long as something refers to it."""
    import pyarrow

    frame.write_ipc(file, compression="uncompressed", record_batch_size=max(len(frame), 1))
    with pyarrow.memory_map(str(file)) as source:
        return pl.from_arrow(pyarrow.ipc.open_file(source).read_all(), rechunk=False)
