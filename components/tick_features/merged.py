"""From samples of single sessions to one table, sorted by time and symbol, a block of moments at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import FACTORS
from components.contracts.parts import write_part, write_parts
from components.memory.given_back import give_back
from components.tick_features.errors import TickFeatureError

# Rows of a block that is in memory at once.
BLOCK_ROWS = 200_000


@dataclass(frozen=True)
class MadeDay:
    """The samples of a symbol's session, in an Arrow file, in order of time."""

    symbol: str
    file: Path


def merge_days(
    days: Sequence[MadeDay],
    target: str | os.PathLike,
    folder: Path,
    *,
    code_version: str,
    config_hash: str,
    inputs: Mapping[str, str],
) -> dict[str, int]:
    """Write all samples to `target` as FACTORS with their stamp, by way of files in `folder`; how many rows
    have a value, by column.

    Raises
    ------
    ContractError, TickFeatureError
        If a symbol has two samples of one moment: two of its sessions overlap. If there is no sample.
    """
    parts, known = [], {}
    for number, rows in enumerate(_blocks(days)):
        counts = rows.select(pl.all().count()).row(0, named=True)
        known = {name: known.get(name, 0) + count for name, count in counts.items()}
        parts.append(write_part(rows, folder / f"part_{number:05d}"))
        # Or it would stand beside the next one.
        del rows
        give_back()
    stamped = {"code_version": code_version, "config_hash": config_hash, "inputs": inputs}
    write_parts(parts, target, FACTORS, **stamped)
    return known


def _blocks(days: Sequence[MadeDay]) -> Iterator[pl.DataFrame]:
    """All rows, sorted, a block of whole moments after another."""
    moments = [pl.scan_ipc(day.file).select("timestamp").collect().to_series() for day in days]
    ordered = pl.concat(moments).sort()
    if ordered.is_empty():
        raise TickFeatureError(
            "No session is long enough for a sample. Choose a smaller tick_features.sample, or more ticks."
        )
    edges = ordered.gather_every(BLOCK_ROWS, BLOCK_ROWS).unique(maintain_order=True)
    places = [[0, *own.search_sorted(edges, side="left").to_list(), len(own)] for own in moments]
    for block in range(len(edges) + 1):
        rows = pl.concat(
            pl.scan_ipc(day.file)
            .slice(place[block], place[block + 1] - place[block])
            .select("timestamp", pl.lit(day.symbol).alias("symbol"), pl.all().exclude("timestamp"))
            for day, place in zip(days, places, strict=True)
        )
        yield rows.sort("timestamp", "symbol").collect()
