"""The features of one symbol's session: its ticks go through memory a part at a time."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from components.contracts.parts import scan_table
from components.contracts.row_limit import table_rows
from components.contracts.tick_schemas import TICKS
from components.memory.need import MIB, Need
from components.tick_features.config import Settings
from components.tick_features.errors import TickFeatureError
from components.tick_features.state import MICROSECOND_NS, step_ns
from components.tick_features.streaming import (
    COLUMNS,
    DELAY,
    StreamingFeatures,
    frame_of,
    rows_of,
)

# The libraries, the part that is in memory, and what is kept of the times of all rows. Measured on 1, 3.1 and
# 20 million rows with a sample for 72 of them: 180, 223 and 562 MiB.
NEED = Need("tick features", base=165 * MIB, row=22, cell=0)
MAKE_DAY = "components.tick_features.day:make_day"
SAMPLES_FILE = "samples.arrow"
# Rows of ticks that are in memory at once.
PART_ROWS = 1 << 18


@dataclass(frozen=True)
class Span:
    """From the first message of a session to its last, of all symbols, by `ingest_ts`: all of them are
    sampled at the same moments of it.
    """

    first: int
    last: int


def features_of_parts(
    parts: Iterable[pl.DataFrame], span: Span, settings: Settings
) -> Iterator[pl.DataFrame]:
    """Samples of a symbol's ticks, which come in parts in their order: `timestamp`, `known_time`, and the
    columns of the catalog.

    Raises
    ------
    TickFeatureError
        If ticks are out of order.
    """
    step = step_ns(settings) or 1
    features = StreamingFeatures(settings, -(-span.first // step) * step)
    for part in parts:
        for samples in features.take(rows_of(part)):
            yield frame_of(samples, features.columns)
    end = -(-span.last // MICROSECOND_NS) * MICROSECOND_NS
    for samples in features.until(end):
        yield frame_of(samples, features.columns)


def make_day(arguments: Mapping[str, Any], folder: Path) -> None:
    """Write the samples of a session of ticks into an empty folder, as Arrow; a piece of `components/spread`.

    Raises
    ------
    ContractError, TickFeatureError
        If the file is not what its stamp says; if ticks are out of order.
    """
    NEED.require(arguments["path"])
    settings = Settings.model_validate_json(arguments["settings"])
    span, writer = Span(arguments["first"], arguments["last"]), None
    try:
        for rows in features_of_parts(read_parts(arguments["path"]), span, settings):
            table = rows.to_arrow()
            writer = writer or pa.ipc.new_file(folder / SAMPLES_FILE, table.schema)
            writer.write_table(table)
    except TickFeatureError as error:
        raise TickFeatureError(f"{arguments['path']}: {error}") from error
    finally:
        if writer:
            writer.close()


def read_parts(path: str | os.PathLike) -> Iterator[pl.DataFrame]:
    """The ticks of a file, part after part."""
    whole, rows = scan_table(path, TICKS), table_rows(path)
    wanted = [*COLUMNS, *(name for name in (DELAY,) if name in whole.collect_schema())]
    for start in range(0, rows, PART_ROWS):
        yield whole.slice(start, PART_ROWS).select(wanted).collect()
