"""What every source hands over: bars with their three moments, and what a person should know about them."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Bars:
    """Rows of a RAW_PANEL without `period`, in the order of the source; `open`, `high`, `low` and `volume`
    may be absent as columns.

    `notes` are the source's own remarks, such as bars that were not final. `truth` and `faults` only the
    simulator knows.
    """

    rows: pl.DataFrame
    truth: pl.DataFrame | None = None
    faults: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
