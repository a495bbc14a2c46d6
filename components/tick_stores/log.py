"""The log of a symbol's session: an Arrow stream that grows by a batch at a time.

A batch is written at its end in one go. What a killed process left of its last one is not read, and cut off
before the next is written.
"""

import os
from pathlib import Path

import polars as pl
import pyarrow as pa

from components.contracts.files import OutputError

# Up to where this process knows logs to be whole, so that not every append reads all that stands there.
_KNOWN: dict[Path, int] = {}


def append(path: Path, rows: pl.DataFrame) -> None:
    """Add rows at the end, making the log where there is none; OutputError where that can't be."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, table)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}. Check the path and the disk, then"
            " run again."
        ) from error


def _write(path: Path, table: pa.Table) -> None:
    with open(path, "ab") as file:
        size = file.tell()
        whole = size if _KNOWN.get(path) == size else _read(path)[1]
        if whole < size:
            file.truncate(whole)
        if whole == 0:
            file.write(table.schema.serialize())
        file.write(b"".join(batch.serialize() for batch in table.to_batches()))
        file.flush()
        os.fsync(file.fileno())
        _KNOWN[path] = os.fstat(file.fileno()).st_size


def read(path: Path) -> pl.DataFrame | None:
    """All whole batches, None where there is no log or none of them."""
    batches, _ = _read(path)
    return pl.from_arrow(pa.Table.from_batches(batches)) if batches else None


def _read(path: Path) -> tuple[list[pa.RecordBatch], int]:
    """The whole batches of a log, and the bytes up to the end of the last."""
    if not path.exists():
        return [], 0
    batches, whole = [], 0
    with pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"") as source:
        try:
            reader = pa.ipc.open_stream(source)
            whole = source.tell()
            while True:
                batches.append(reader.read_next_batch())
                whole = source.tell()
        except (StopIteration, pa.ArrowInvalid, OSError):
            return batches, whole
