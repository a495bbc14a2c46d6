"""What a stage needs of memory, told from the size of its tables before it starts, and the refusal of what
can never fit.

The formulas are estimates, fitted to peaks that `tests/benchmarks/bench_growth.py` measures: a run is refused
only where the least that was ever measured is more than any process could get here. Between that and what
is sure to fit a warning is said, and the stage starts.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import read_stamp
from components.contracts.errors import AlphaloopError
from components.memory.amounts import readable
from components.memory.limits import ROOT, end, limit
from components.memory.lowered import what_to_lower
from components.memory.share import CEILING
from components.progress import warn

MIB, GIB = 1024**2, 1024**3
# No measured peak was less than this share of what its formula says, with one thread or two, on two sizes.
LEAST = 0.7


class TooLittleMemory(AlphaloopError):
    """A stage needs more memory than it can get here."""


@dataclass(frozen=True)
class Need:
    """What a stage holds at its peak: `base` bytes for its libraries, `row` for each row of the table that it
    is told by, and `cell` for each value in it.
    """

    stage: str
    base: int
    row: float
    cell: float

    def bytes(self, rows: int, columns: int) -> int:
        """What it holds at its peak, about."""
        return int(self.base + rows * (self.row + self.cell * columns))

    def most_gib(self, tables: Iterable[str | os.PathLike]) -> float:
        """GiB that it holds, about, for the largest of some tables, of which one is worked on at a time."""
        return max(self.bytes(*table_size(table)) for table in tables) / GIB

    def require(self, table: str | os.PathLike, *, stage: str = "", root: Path = ROOT) -> None:
        """Refuse to start where the table can never fit, warn where it may not; `stage` is its name where
        that is longer than the need's own.

        Raises
        ------
        TooLittleMemory
            With stage, need, limit and what to change.
        """
        self.require_for(*table_size(table), stage=stage, root=root)

    def require_for(self, rows: int, columns: int, *, stage: str = "", root: Path = ROOT) -> None:
        """The same for a table of so many rows and columns that is not there yet."""
        name, need = stage or self.stage, self.bytes(rows, columns)
        bound, first = end(root), limit(root)
        if bound is None or first is None:
            return
        about = f"For {rows:,} rows of {columns} columns {name} needs about {readable(need)} of memory"
        least, most = int(LEAST * need), bound.bytes + bound.swap
        if least > most:
            raise TooLittleMemory(
                f"{about}, no less than {readable(least)}, and no more than {readable(most)} can be had"
                f" ({bound.where}): it is not begun. {what_to_lower(name)}"
            )
        free = first.bytes - first.used
        if need > free - (1 - CEILING) * first.bytes:
            warn(name, f"{about}, and {readable(free)} of {readable(first.bytes)} are free ({first.where}).")


def table_size(path: str | os.PathLike) -> tuple[int, int]:
    """Rows and columns of a table's file, without reading them.

    Raises
    ------
    ContractError
        If there is no table, or a damaged one.
    """
    try:
        scan = pl.scan_parquet(path)
        return scan.select(pl.len()).collect().item(), len(scan.collect_schema())
    except (OSError, pl.exceptions.PolarsError):
        read_stamp(path)  # which says what is wrong with it
        raise
