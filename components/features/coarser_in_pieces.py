"""The bars of coarser periods beside a build in pieces: gathered block by block, and their inputs as the rows
of a block see them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.cut import SYMBOL, TIME, Shelf
from components.features.catalog import STALE_BARS, catalog, of_coarser
from components.features.coarser import gathered, joined, seen_bars
from components.features.config import Settings
from components.features.panels import PanelOnShelf
from components.timeline.periods import stretch_end


@dataclass(frozen=True)
class Coarser:
    """The table of a coarser period, and the ends of its bars."""

    table: pl.LazyFrame
    ends: pl.Series


def gathered_on_shelf(source: PanelOnShelf, period: str, read: frozenset[str], folder: Path) -> Shelf | None:
    """The bars of a coarser period on a shelf, cut like the panel; None: there are none."""
    cut = source.cut
    ends = pl.select(stretch_end(pl.lit(cut.moments), period)).to_series()
    moments = ends.unique().sort()[1:]
    if moments.is_empty():
        return None
    last_of = np.minimum(cut.moments.search_sorted(moments).to_numpy(), len(cut.moments) - 1)
    _, block_of_moment = np.unique(cut.block_of_moment[last_of], return_inverse=True)
    cut = replace(cut, moments=moments, block_of_moment=block_of_moment)
    filled: list[int] = []
    for block in cut.symbol_blocks:
        bars = gathered(source.symbols(block), period, read, source.cut.moments[0])
        if bars.is_empty():
            # All its symbols are gone before the first bar: the others are numbered on without it.
            continue
        Shelf(folder, cut).put_symbols(
            len(filled),
            bars.with_columns(
                moments.search_sorted(bars["timestamp"]).alias(TIME),
                cut.symbols.search_sorted(bars["symbol"]).alias(SYMBOL),
            ),
        )
        filled.append(block)
    kept = np.isin(cut.block_of_symbol, filled)
    _, block_of_symbol = np.unique(cut.block_of_symbol[kept], return_inverse=True)
    symbols = cut.symbols.filter(pl.Series(kept))
    return Shelf(folder, replace(cut, symbols=symbols, block_of_symbol=block_of_symbol))


def coarser_columns(rows: pl.DataFrame, tables: Mapping[str, Coarser], settings: Settings) -> pl.DataFrame:
    """The inputs of all coarser periods as the rows of a block of bars see them."""
    own, found = of_coarser(settings), []
    for period in settings.coarser:
        columns = [entry.column for entry in catalog(own, period) if entry.role == "input"]
        values = pl.DataFrame(schema=dict.fromkeys(columns, pl.Float32))
        seen = pl.Series([None], dtype=pl.UInt32).new_from_index(0, len(rows))
        if period in tables:
            ends = tables[period].ends
            passed = int(ends.search_sorted(rows["timestamp"][0], side="right"))
            oldest = ends[max(passed - STALE_BARS - 1, 0)]
            values = (
                tables[period]
                .table.filter(pl.col("timestamp").is_between(oldest, rows["timestamp"][-1]))
                .select("timestamp", "symbol", "known_time", *columns)
                .collect()
            )
            seen = seen_bars(rows, values) if len(values) else seen
        found.append(joined(values, columns, seen, period))
    return pl.concat(found, how="horizontal") if found else pl.DataFrame()
