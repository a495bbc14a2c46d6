"""The panel of a build in pieces, read by blocks of symbols and of bars: from its file, which is read as a
whole for each block of symbols, or from a shelf.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts.cut import SYMBOL, TIME, Cut, Shelf
from components.features.support import with_fused


@dataclass(frozen=True)
class PanelOnDisk:
    """A panel to be read by blocks, with the columns of a FUSED table beside its own where there is one."""

    panel: pl.LazyFrame
    cut: Cut
    fused: pl.LazyFrame | None = None

    def lazy(self) -> pl.LazyFrame:
        return self.panel if self.fused is None else with_fused(self.panel, self.fused)

    def symbols(self, block: int) -> pl.DataFrame:
        """The bars of a block of symbols, sorted by time and symbol."""
        return self._read(pl.col("symbol").is_in(self.cut.symbols_of(block).implode()))

    def bars(self, block: int) -> pl.DataFrame:
        """The symbols of a block of bars, sorted by time and symbol."""
        moments = self.cut.moments_of(block)
        return self._read(pl.col("timestamp").is_between(moments[0], moments[-1]))

    def on_shelf(self, folder: Path) -> "PanelOnShelf":
        """The same rows on a shelf in `folder`, where a block of symbols is read without the others."""
        shelf = Shelf(folder, self.cut)
        for block in self.cut.bar_blocks:
            bars = self.bars(block)
            time, symbol = (
                self.cut.moments.search_sorted(bars["timestamp"]),
                self.cut.symbols.search_sorted(bars["symbol"]),
            )
            shelf.put_bars(block, bars.with_columns(time.alias(TIME), symbol.alias(SYMBOL)))
        return PanelOnShelf(shelf)

    def _read(self, wanted: pl.Expr) -> pl.DataFrame:
        rows = self.panel.filter(wanted).collect(engine="streaming").sort("timestamp", "symbol")
        return rows if self.fused is None else with_fused(rows, self.fused.filter(wanted).collect())


@dataclass(frozen=True)
class PanelOnShelf:
    """A panel that was put on a shelf, to be read as a `PanelOnDisk` is."""

    shelf: Shelf

    @property
    def cut(self) -> Cut:
        return self.shelf.cut

    def lazy(self) -> pl.LazyFrame:
        return self.shelf.lazy()

    def symbols(self, block: int) -> pl.DataFrame:
        return self.shelf.symbols(block).sort(TIME, SYMBOL).drop(TIME, SYMBOL)

    def bars(self, block: int) -> pl.DataFrame:
        return self.shelf.bars(block).drop(TIME, SYMBOL)
