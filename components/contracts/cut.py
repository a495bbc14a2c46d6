"""How a panel that is larger than memory is cut, and where its pieces lie: a block of symbols holds all bars
of each, for what looks along time, and a block of bars all symbols of each, for what looks across. A piece on
disk is where the two meet, so both blocks are read from the same files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

# Columns of what lies on a shelf: numbers of the panel's symbols and timestamps, from 0.
SYMBOL, TIME = "_symbol", "_time"


@dataclass(frozen=True)
class Cut:
    """`symbols` in alphabetical order with the number of their block, `moments` ascending with that of
    theirs; blocks count from 0.
    """

    symbols: pl.Series
    block_of_symbol: np.ndarray
    moments: pl.Series
    block_of_moment: np.ndarray

    @property
    def symbol_blocks(self) -> range:
        return range(int(self.block_of_symbol[-1]) + 1)

    @property
    def bar_blocks(self) -> range:
        return range(int(self.block_of_moment[-1]) + 1)

    def moments_of(self, block: int) -> pl.Series:
        return self.moments.filter(pl.Series(self.block_of_moment == block))


def cut_of(panel: pl.LazyFrame, rows: int) -> Cut:
    """Blocks of about so many rows; one symbol, or one bar, is never cut."""
    symbols, moments = (
        panel.group_by(name).len().sort(name).collect(engine="streaming") for name in ("symbol", "timestamp")
    )
    return Cut(
        symbols["symbol"],
        blocks(symbols["len"].to_numpy(), rows),
        moments["timestamp"],
        blocks(moments["len"].to_numpy(), rows),
    )


def blocks(sizes: np.ndarray, rows: int) -> np.ndarray:
    """The number of the block that each item belongs to, of items that follow on each other and have so many
    rows; (items,).
    """
    before = np.cumsum(sizes.astype(np.int64)) - sizes
    _, number = np.unique(before // rows, return_inverse=True)
    return number


@dataclass(frozen=True)
class Shelf:
    """Columns of a panel in pieces on disk, put there by either kind of block and taken by either.

    Every table has TIME and SYMBOL, numbers of the panel's timestamps and symbols.
    """

    folder: Path
    cut: Cut

    def put_symbols(self, block: int, table: pl.DataFrame) -> None:
        """Put all bars of a block of symbols."""
        self._put(table, self.cut.block_of_moment[table[TIME].to_numpy()], f"*_{block}")

    def put_bars(self, block: int, table: pl.DataFrame) -> None:
        """Put all symbols of a block of bars."""
        self._put(table, self.cut.block_of_symbol[table[SYMBOL].to_numpy()], f"{block}_*")

    def symbols(self, block: int) -> pl.DataFrame:
        """All bars of a block of symbols, in the order of symbol and time."""
        table = self._taken([self.folder / f"{bars}_{block}" for bars in self.cut.bar_blocks])
        return _sorted(table, table[SYMBOL], table[TIME])

    def bars(self, block: int) -> pl.DataFrame:
        """All symbols of a block of bars, in the order of time and symbol."""
        table = self._taken(self._of_bars(block))
        return _sorted(table, table[TIME], table[SYMBOL])

    def remove_bars(self, block: int) -> None:
        """Remove all symbols of a block of bars from the disk."""
        for path in self._of_bars(block):
            path.unlink(missing_ok=True)

    def lazy(self) -> pl.LazyFrame:
        """All rows, in the order of the files."""
        return pl.scan_ipc(sorted(self.folder.iterdir()))

    def _of_bars(self, block: int) -> list[Path]:
        return [self.folder / f"{block}_{names}" for names in self.cut.symbol_blocks]

    def _put(self, table: pl.DataFrame, other: np.ndarray, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (np.diff(other) < 0).any():
            order = np.argsort(other, kind="stable")
            table, other = table[order], other[order]
        numbers, starts = np.unique(other, return_index=True)
        for number, start, end in zip(numbers, starts, [*starts[1:], len(other)], strict=True):
            table[start:end].write_ipc(self.folder / name.replace("*", str(number)), compression="lz4")

    def _taken(self, paths: Sequence[Path]) -> pl.DataFrame:
        return pl.scan_ipc([path for path in paths if path.exists()]).collect()


def _sorted(table: pl.DataFrame, first: pl.Series, second: pl.Series) -> pl.DataFrame:
    """The rows in the order of two numbers."""
    place = (first.cast(pl.Int64).to_numpy() << 32) + second.to_numpy()
    return table[np.argsort(place)] if (np.diff(place) < 0).any() else table
