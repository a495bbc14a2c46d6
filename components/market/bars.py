"""What every source hands over: bars with their three moments, and what a person should know about them."""

from dataclasses import dataclass

import polars as pl

FILE = "source_file"


@dataclass(frozen=True)
class Bars:
    """Rows of a RAW_PANEL without `period`, in the order of the source; `open`, `high`, `low` and `volume`
    may be absent as columns.

    `notes` are the source's own remarks, such as bars that were not final. `truth` and `faults` only the
    simulator knows. Rows of files also carry `source_file`, the number of theirs among `files`, and
    `source_row`, from 1; `found` is YAML of the settings by which files were read where none were given.
    """

    rows: pl.DataFrame
    truth: pl.DataFrame | None = None
    faults: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    found: str = ""
