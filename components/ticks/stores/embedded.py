"""Ticks kept in files of one machine: a log for what comes in, Parquet by day and symbol for what is sealed,
and DuckDB to read bars from both.

`log/SYMBOL/SESSION.arrows` takes appended rows. `seal` moves them to `days/DAY/SYMBOL/SESSION.parquet`, one
file for each day (UTC, by the collector's clock) that the session touches. What is in both counts once, so
that a seal that was cut off does no harm.
"""

from dataclasses import dataclass
from glob import escape
from pathlib import Path

import duckdb
import polars as pl

from components.contracts.files import atomic_path
from components.contracts.tick_days import read_day, tick_days
from components.contracts.tick_schemas import EXECUTE, HIDDEN, TICKS, TRADE
from components.ticks.errors import TicksError
from components.ticks.stores import log
from components.ticks.stores.protocol import BAR_COLUMNS, TickStore

COLUMNS = tuple(TICKS.columns)
# Trades are rows of TRADE, or, where a session has none, executions of orders.
BARS = f"""
    WITH trades AS (
        SELECT * FROM ticks
        WHERE kind = {TRADE}
           OR (kind IN ({EXECUTE}, {HIDDEN}) AND NOT EXISTS (SELECT 1 FROM ticks WHERE kind = {TRADE}))
    )
    SELECT
        symbol, session, ingest_ts // $step * $step AS start_ts,
        arg_min(price, sequence) AS open, max(price) AS high, min(price) AS low,
        arg_max(price, sequence) AS close,
        sum(quantity)::BIGINT AS volume, sum(price::HUGEINT * quantity)::BIGINT AS value, count(*) AS trades
    FROM trades GROUP BY ALL ORDER BY start_ts
"""


@dataclass(frozen=True)
class EmbeddedStore:
    """A TickStore in `folder`."""

    folder: Path

    def append(self, ticks: pl.DataFrame) -> int:
        """Keep rows in the logs of their symbols and sessions; how many."""
        sessions = ticks.select(COLUMNS).group_by("symbol", "session", maintain_order=True)
        for (symbol, session), rows in sessions:
            log.append(self._log(symbol, session), rows)
        return ticks.height

    def seal(self, symbol: str, session: str) -> None:
        """Move what is in the log of a session to its Parquet files."""
        ticks = self.read(symbol, session)
        day = pl.from_epoch("ingest_ts", time_unit="ns").dt.date()
        for (date,), rows in ticks.group_by(day.alias("day"), maintain_order=True):
            with atomic_path(self.folder / "days" / f"{date}" / symbol / f"{session}.parquet") as path:
                rows.select(COLUMNS).write_parquet(path, compression="zstd")
        self._log(symbol, session).unlink(missing_ok=True)

    def read(self, symbol: str, session: str) -> pl.DataFrame:
        """The ticks of a symbol's session in order, each once; TicksError where there are none, or one row is
        there with two contents.
        """
        parts = self._parts(symbol, session)
        if not parts:
            raise TicksError(
                f"{self.folder} holds no ticks of {symbol} in session {session}: append them, or name others."
            )
        return self._once(parts, symbol, session)

    def require_same(self, ticks: pl.DataFrame) -> None:
        """TicksError where a row of `ticks` is kept with other content: appended, it would be in the way of
        those that are there.
        """
        for (symbol, session), rows in ticks.select(COLUMNS).group_by("symbol", "session"):
            self._once([*self._parts(symbol, session), rows], symbol, session)

    def bars(self, symbol: str, session: str, step_ns: int) -> pl.DataFrame:
        """Bars of so many nanoseconds of what was traded, columns BAR_COLUMNS; errors as in `read`, and where
        a sum is too large to be held.
        """
        ticks = self.read(symbol, session)
        with duckdb.connect() as connection:
            connection.register("ticks", ticks.to_arrow())
            try:
                bars = pl.from_arrow(connection.sql(BARS, params={"step": step_ns}).to_arrow_table())
            except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
                raise TicksError(
                    f"{self.folder}: prices times quantities of {symbol}, session {session}, sum up to more"
                    f" than 64 bits hold (the largest quantity is {ticks['quantity'].max():,} lots). Mend the"
                    f" quantities, or set ticks.instruments.{symbol}.lot_size to a larger step."
                ) from error
        return bars.cast(BAR_COLUMNS)

    def _parts(self, symbol: str, session: str) -> list[pl.DataFrame]:
        """What is kept of a session, sealed and in the log."""
        place = f"days/*/{escape(symbol)}/{escape(session)}.parquet"
        found = [_sealed(path) for path in self.folder.glob(place)]
        logged = log.read(self._log(symbol, session))
        return [part.select(COLUMNS) for part in (*found, logged) if part is not None]

    def _once(self, parts: list[pl.DataFrame], symbol: str, session: str) -> pl.DataFrame:
        ticks = pl.concat(parts).unique(maintain_order=True).sort("sequence")
        twice = ticks["sequence"].filter(ticks["sequence"].is_duplicated())
        if len(twice):
            raise TicksError(
                f"{self.folder} holds sequence {twice[0]} of {symbol}, session {session}, with"
                f" {twice.eq(twice[0]).sum()} contents: two recordings share the name of a session. Keep them"
                " in folders of their own, or name their sessions apart."
            )
        return ticks

    def _log(self, symbol: str, session: str) -> Path:
        return self.folder / "log" / symbol / f"{session}.arrows"


def _sealed(path: Path) -> pl.DataFrame:
    """A file of the store; TicksError where it is none."""
    try:
        return pl.read_parquet(path, glob=False).select(COLUMNS)
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise TicksError(
            f"{path} can't be read as ticks of a store: {said}. Remove it, and put its ticks into"
            " the store again."
        ) from error


def stored_bars(ticks: Path, store: TickStore, step_ns: int) -> pl.DataFrame:
    """Put a folder of ticks into a store, and give the bars of all its symbols and sessions."""
    bars = []
    for day in tick_days(ticks):
        rows = read_day(day)
        store.require_same(rows)
        store.append(rows)
        store.seal(day.symbol, day.session)
        bars.append(store.bars(day.symbol, day.session, step_ns))
    return pl.concat(bars)
