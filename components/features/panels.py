"""The panel of a build in pieces: its file, and the shelf it is put on to be read by blocks."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts.cut import SYMBOL, TIME, Cut, Shelf
from components.features.support import with_fused


@dataclass(frozen=True)
class PanelOnDisk:
    """A panel to be read by blocks of bars, with the columns of a FUSED table beside its own where there is
    one.
    """

    panel: pl.LazyFrame
    cut: Cut
    fused: pl.LazyFrame | None = None

    def lazy(self) -> pl.LazyFrame:
        return self.panel if self.fused is None else with_fused(self.panel, self.fused)

    def bars(self, block: int) -> pl.DataFrame:
        """The symbols of a block of bars, sorted by time and symbol."""
        moments = self.cut.moments_of(block)
        wanted = pl.col("timestamp").is_between(moments[0], moments[-1])
        rows = self.panel.filter(wanted).collect(engine="streaming").sort("timestamp", "symbol")
        return rows if self.fused is None else with_fused(rows, self.fused.filter(wanted).collect())

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


@dataclass(frozen=True)
class PanelOnShelf:
    """A panel that was put on a shelf; its blocks are sorted by time and symbol."""

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
