"""Tables and arrays whose values lie in files that are mapped into memory: the system takes their pages back
where room is short and fetches them again, so that they need memory only while they are worked on.

The files have no name. They lie in the folder for temporary files (TMPDIR), which needs room for them until
nothing refers to them any more.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from components.contracts.files import OutputError
from components.contracts.row_limit import table_rows
from components.contracts.schemas import Table
from components.contracts.tables import add_column, check_table, read_table, refuse_changed, stamp_of

# Columns are held this many bytes at a time, or one by one where each is larger.
BATCH_BYTES = 16 * 2**20
# What a value takes at most that is no text.
VALUE_BYTES = 8
# Less than this is not worth a file.
SMALL_BYTES = 8 * 2**20
PREFIX = "alphaloop-mapped-"
# Where a file that is in use keeps its name, nothing is mapped.
NAMES_STAY = os.name == "nt"


def map_table(path: str | os.PathLike, table: Table, columns: Collection[str] | None = None) -> pl.DataFrame:
    """A stamped table as `read_table` reads and checks it, mapped, in one chunk.

    Parameters
    ----------
    columns : those that are wanted beside the table's own; all where left out

    Raises
    ------
    ContractError
        As `read_table`.
    OutputError
        If its values find no room.
    """
    if NAMES_STAY:
        frame = read_table(path, table)
        return frame if columns is None else frame.select(_wanted(frame.columns, table, columns))
    stamp, whole = stamp_of(path, table), pl.scan_parquet(path)
    schema = whole.collect_schema()
    check_table(pl.DataFrame(schema=schema), table, source=str(path))
    wanted = list(schema) if columns is None else _wanted(list(schema), table, columns)
    digest = hashlib.sha256()

    def read(names: Sequence[str]) -> pl.DataFrame:
        batch = whole.select(names).collect()
        for series in batch.iter_columns():
            add_column(digest, lambda series=series: [series])
        return batch.select(name for name in names if name in wanted)

    frame = check_table(mapped_columns(read, list(schema), table_rows(path)), table, source=str(path))
    refuse_changed(path, stamp, digest.hexdigest())
    return frame


def mapped_rows(frame: pl.DataFrame, kept: pl.Expr) -> pl.DataFrame:
    """The rows of a frame for which `kept` holds, mapped where they are many.

    Raises
    ------
    OutputError
        If they find no room.
    """
    if _small(frame):
        return frame.filter(kept)
    chosen = frame.select(kept.alias("kept")).to_series()
    return mapped_columns(lambda names: frame.select(names).filter(chosen), frame.columns, len(frame))


def mapped_parts(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Frames one below the other, each a chunk of its own that is mapped before the next one is made.

    Raises
    ------
    OutputError
        If they find no room.
    """
    laid = []
    for part in parts:
        laid.append(part if _small(part) else mapped_columns(part.select, part.columns, len(part)))
        # Or it would stand beside the next one.
        del part
    return pl.concat(laid)


def mapped_array(rows: int, columns: int, order: Literal["C", "F"] = "C") -> np.ndarray:
    """Float32 zeros, shape (rows, columns), mapped where they are many.

    Raises
    ------
    OutputError
        If they find no room.
    """
    if NAMES_STAY or 4 * rows * columns <= SMALL_BYTES:
        return np.zeros((rows, columns), dtype=np.float32, order=order)
    with _room(), tempfile.TemporaryFile(prefix=PREFIX) as file:
        if hasattr(os, "posix_fallocate"):  # which macOS lacks
            # Or a full disk would end the process without a word, when its pages are written; there it does.
            os.posix_fallocate(file.fileno(), 0, 4 * rows * columns)
        return np.asarray(np.memmap(file, np.float32, "r+", shape=(rows, columns), order=order))


def _wanted(names: Sequence[str], table: Table, columns: Collection[str]) -> list[str]:
    return [name for name in names if name in table.columns or name in columns]


def _small(frame: pl.DataFrame) -> bool:
    return NAMES_STAY or frame.estimated_size() <= SMALL_BYTES


def mapped_columns(
    read: Callable[[Sequence[str]], pl.DataFrame], names: Sequence[str], rows: int
) -> pl.DataFrame:
    """What `read` gives of some columns after others, so many rows of each, mapped.

    Raises
    ------
    OutputError
        If they find no room.
    """
    parts = []
    with _room():
        place = tempfile.TemporaryDirectory(prefix=PREFIX)
    with place as folder:
        for number, some in enumerate(_batches(names, rows)):
            batch = read(some)
            if batch.width:
                with _room():
                    parts.append(_mapped(batch, Path(folder) / str(number)))
            # Or it would stand beside the next one.
            del batch
    return pl.concat(parts, how="horizontal")


def _batches(names: Sequence[str], rows: int) -> Iterator[Sequence[str]]:
    many = max(1, BATCH_BYTES // (VALUE_BYTES * max(rows, 1)))
    return (names[first : first + many] for first in range(0, len(names), many))


def _mapped(frame: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The same frame from a mapped file, which lasts as long as something refers to it."""
    import pyarrow

    frame.rechunk().write_ipc(file, compression="uncompressed", record_batch_size=max(len(frame), 1))
    with pyarrow.memory_map(str(file)) as source:
        return pl.from_arrow(pyarrow.ipc.open_file(source).read_all(), rechunk=False)


@contextmanager
def _room() -> Iterator[None]:
    """What the block says where the disk is full."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()} has no room for tables that are worked on ({error}). They lie there so"
            " that they need little memory: make room, or set TMPDIR to a folder on another disk."
        ) from error
