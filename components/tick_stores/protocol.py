"""What a store of ticks is asked, and what it answers."""

from typing import Protocol

import polars as pl

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS

# A bar, from `start_ts` (ns, included) on, by the collector's clock: open, high, low and close in ticks,
# `volume` in lots, `value` in ticks times lots, and how many trades. Times without a trade have no bar.
BAR_COLUMNS = {
    "symbol": pl.String(),
    "session": pl.String(),
    "start_ts": pl.Int64(),
    "open": pl.Int64(),
    "high": pl.Int64(),
    "low": pl.Int64(),
    "close": pl.Int64(),
    "volume": pl.Int64(),
    "value": pl.Int64(),
    "trades": pl.Int64(),
}


class TickStore(Protocol):
    """Anything that keeps rows of TICKS. A row is known by (symbol, session, sequence): one that comes again
    counts once.
    """

    def append(self, ticks: pl.DataFrame) -> int:
        """Keep rows of TICKS; how many were given."""
        ...

    def require_same(self, ticks: pl.DataFrame) -> None:
        """TickStoreError where a row of `ticks` is kept with other content."""
        ...

    def seal(self, symbol: str, session: str) -> None:
        """Say that no more rows of a symbol's session are to be expected soon: they may be packed."""
        ...

    def read(self, symbol: str, session: str) -> pl.DataFrame:
        """The ticks of a symbol's session in order, each once.

        Raises
        ------
        TickStoreError
            Where there are none, or one row is there with two contents.
        """
        ...

    def bars(self, symbol: str, session: str, step_ns: int) -> pl.DataFrame:
        """Bars of so many nanoseconds of what was traded, columns BAR_COLUMNS; errors as in `read`."""
        ...
