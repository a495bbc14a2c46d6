"""From sorted rows of single symbol-sessions to one table, sorted by time and symbol: a block of moments at a
time, so that what is held does not grow with the number of sessions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

# Rows of a block that is in memory at once; one may have twice as many.
BLOCK_ROWS = 200_000


@dataclass(frozen=True)
class SessionRows:
    """Rows of a symbol's session in an Arrow file, sorted by `timestamp`; without a column `symbol`."""

    symbol: str
    file: Path


def moment_blocks(sessions: Sequence[SessionRows]) -> Iterator[pl.DataFrame]:
    """All rows with their `symbol`, a block of whole moments after another; within a block by timestamp and
    symbol, rows of both as in their file. Nothing where no session has a row.
    """
    edges = _edges(sessions)
    places = [_places(one.file, edges) for one in sessions]
    for block in range(len(edges) + 1):
        rows = pl.concat(
            pl.scan_ipc(one.file)
            .slice(place[block], place[block + 1] - place[block])
            .select("timestamp", pl.lit(one.symbol).alias("symbol"), pl.all().exclude("timestamp"))
            for one, place in zip(sessions, places, strict=True)
        )
        if len(found := rows.sort("timestamp", "symbol", maintain_order=True).collect()):
            yield found


def _edges(sessions: Sequence[SessionRows]) -> pl.Series:
    """The moments with which blocks but the first begin."""
    every = max(1, BLOCK_ROWS // len(sessions))
    some = [pl.scan_ipc(one.file).select(pl.col("timestamp").gather_every(every)) for one in sessions]
    ordered = pl.concat(some).collect().to_series().sort()
    return ordered.gather_every(len(sessions), len(sessions)).unique(maintain_order=True)


def _places(file: Path, edges: pl.Series) -> list[int]:
    """The row of a file with which each block begins, and the one after the last."""
    own = pl.scan_ipc(file).select("timestamp").collect().to_series()
    return [0, *own.search_sorted(edges, side="left").to_list(), len(own)]
