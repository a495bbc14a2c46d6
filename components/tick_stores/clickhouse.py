"""Ticks kept in ClickHouse, in the tables of `infra/clickhouse/ticks.sql`.

Rows are written under the number of a batch, then a line of `batches` that names it, with which they begin to
count: a writer that ends before leaves nothing that is read. Rows that a batch has already are not written
again. So each counts once, in the views too, as long as one process writes a session; where several did,
batches overlap, and bars come from the rows, each once, instead of from a view.
"""

import secrets
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from components.contracts.tick_schemas import EXECUTE, HIDDEN, TRADE
from components.tick_stores.errors import TickStoreError
from components.tick_stores.kept import COLUMNS, bars_of, nothing_of, once
from components.tick_stores.protocol import BAR_COLUMNS, MINUTE_NS, SECOND_NS

VIEWS = {SECOND_NS: "bars_1s", MINUTE_NS: "bars_1m"}
# Bars that are read while others write are read again so many times.
ATTEMPTS = 5
# Values of a bar up to here are certain to be sums that 64 bits hold.
LARGEST_SUM = 2.0**62
ASKED = [name for name in COLUMNS if name not in ("symbol", "session")]
OF_SESSION = "symbol = %(symbol)s AND session = %(session)s"
THAT_COUNT = f"batch IN (SELECT batch FROM batches WHERE {OF_SESSION})"
WRITTEN = f"""
    SELECT batch, first_sequence, last_sequence, first_ts, last_ts, rows, traded FROM batches
    WHERE {OF_SESSION} AND last_sequence >= %(first)s AND first_sequence <= %(last)s
    ORDER BY first_sequence, batch
"""
ROWS = f"""
    SELECT {", ".join(ASKED)} FROM ticks
    WHERE {OF_SESSION} AND ingest_ts BETWEEN %(first_ts)s AND %(last_ts)s
      AND sequence BETWEEN %(first)s AND %(last)s AND {THAT_COUNT}
"""
BARS = f"""
    SELECT
        start_ts, printed, argMinMerge(open) AS bar_open, maxMerge(high) AS bar_high,
        minMerge(low) AS bar_low, argMaxMerge(close) AS bar_close, sumMerge(volume) AS bar_volume,
        sumMerge(value) AS bar_value, countMerge(trades) AS bar_trades, sumMerge(most) AS bar_most
    FROM view_of_step
    WHERE {OF_SESSION} AND start_ts BETWEEN %(first_ts)s AND %(last_ts)s AND {THAT_COUNT}
    GROUP BY start_ts, printed ORDER BY start_ts
"""
FIRST, LAST = -(2**63), 2**63 - 1


class Connection(Protocol):
    """A way to a server; `store` is what it is called in words for the user."""

    store: str

    def ask(self, query: str, values: dict[str, str | int]) -> pl.DataFrame:
        """The rows of a query with values in the places %(name)s."""
        ...

    def put(self, table: str, rows: pl.DataFrame) -> None:
        """Insert rows whose columns have the table's names."""
        ...


@dataclass(frozen=True)
class ClickHouseStore:
    """A TickStore at the other end of a connection, for one thread at a time."""

    connection: Connection

    def append(self, ticks: pl.DataFrame) -> int:
        """Keep rows, a batch for each symbol and session, and none of a batch if it is cut off.

        How many were given. TickStoreError as in `require_same`, or where the server does not take them.
        """
        for symbol, session, rows in _sessions(ticks):
            new = self._new(symbol, session, rows)
            if new.height:
                self._write(symbol, session, new)
        return ticks.height

    def require_same(self, ticks: pl.DataFrame) -> None:
        """TickStoreError where a row of `ticks` is kept with other content."""
        for symbol, session, rows in _sessions(ticks):
            self._new(symbol, session, rows)

    def seal(self, symbol: str, session: str) -> None:
        """Nothing: the server packs what it has by itself."""

    def read(self, symbol: str, session: str) -> pl.DataFrame:
        """The ticks of a symbol's session in order, each once; TickStoreError where there are none, some are
        gone, or one row is there with two contents.
        """
        written = self._written(symbol, session)
        rows = self._rows(symbol, session, written)
        if rows.height < written["rows"].sum():
            raise self._lost(symbol, session, written["rows"].sum() - rows.height, "rows", "ticks")
        return once(rows, self.connection.store)

    def bars(self, symbol: str, session: str, step_ns: int) -> pl.DataFrame:
        """Bars of so many nanoseconds of what was traded, columns BAR_COLUMNS; errors as in `read`, and where
        a sum is too large to be held.
        """
        written = self._written(symbol, session)
        for _ in range(ATTEMPTS):
            if step_ns not in VIEWS or not _apart(written):
                break
            bars = self._viewed(symbol, session, step_ns, written)
            lost = written["traded"].sum() - bars["trades"].sum()
            before, written = written, self._written(symbol, session)
            if not before.equals(written):
                continue
            if lost:
                raise self._lost(symbol, session, lost, "trades", VIEWS[step_ns])
            if (bars["most"] < LARGEST_SUM).all():
                return bars.filter(pl.col("printed") == pl.col("printed").max()).select(*BAR_COLUMNS)
            break
        return bars_of(self.read(symbol, session), step_ns, self.connection.store)

    def _new(self, symbol: str, session: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Those rows, each once, that no batch has."""
        first, last = rows["sequence"].min(), rows["sequence"].max()
        near = self._batches(symbol, session, first, last)
        if near.is_empty():
            return once(rows, self.connection.store)
        kept = self._rows(symbol, session, near, first, last)
        return once(pl.concat([kept, rows]), self.connection.store).join(kept, on="sequence", how="anti")

    def _write(self, symbol: str, session: str, rows: pl.DataFrame) -> None:
        batch = secrets.randbits(63)
        self.connection.put("ticks", rows.with_columns(batch=pl.lit(batch, pl.Int64)))
        line = rows.select(
            symbol=pl.lit(symbol),
            session=pl.lit(session),
            batch=pl.lit(batch, pl.Int64),
            first_sequence=pl.col("sequence").min(),
            last_sequence=pl.col("sequence").max(),
            first_ts=pl.col("ingest_ts").min(),
            last_ts=pl.col("ingest_ts").max(),
            rows=pl.len().cast(pl.Int64),
            traded=pl.col("kind").is_in([TRADE, EXECUTE, HIDDEN]).sum().cast(pl.Int64),
        )
        self.connection.put("batches", line)

    def _batches(self, symbol: str, session: str, first: int = FIRST, last: int = LAST) -> pl.DataFrame:
        span = {"symbol": symbol, "session": session, "first": first, "last": last}
        return self.connection.ask(WRITTEN, span)

    def _written(self, symbol: str, session: str) -> pl.DataFrame:
        """The batches of a session, of which there must be one."""
        written = self._batches(symbol, session)
        if written.is_empty():
            raise nothing_of(symbol, session, self.connection.store)
        return written

    def _rows(
        self, symbol: str, session: str, near: pl.DataFrame, first: int = FIRST, last: int = LAST
    ) -> pl.DataFrame:
        times = {"first_ts": near["first_ts"].min(), "last_ts": near["last_ts"].max()}
        span = {"symbol": symbol, "session": session, "first": first, "last": last, **times}
        rows = self.connection.ask(ROWS, span)
        return rows.with_columns(symbol=pl.lit(symbol), session=pl.lit(session)).select(COLUMNS)

    def _viewed(self, symbol: str, session: str, step_ns: int, written: pl.DataFrame) -> pl.DataFrame:
        """All bars of a view, those of trades and those of executions, with `printed` and `most`."""
        span = {
            "symbol": symbol,
            "session": session,
            "first_ts": written["first_ts"].min() // step_ns * step_ns,
            "last_ts": written["last_ts"].max(),
        }
        bars = self.connection.ask(BARS.replace("view_of_step", VIEWS[step_ns]), span)
        named = bars.rename({name: name.removeprefix("bar_") for name in bars.columns})
        whole = named.with_columns(symbol=pl.lit(symbol), session=pl.lit(session))
        return whole.cast(BAR_COLUMNS)

    def _lost(self, symbol: str, session: str, count: int, what: str, table: str) -> TickStoreError:
        return TickStoreError(
            f"{self.connection.store}: {count:,} {what} of {symbol}, session {session}, that `batches` names"
            f" are not in `{table}`: somebody removed them, or made the table anew. Bring them back from a"
            " copy of the database, or remove the session's lines of `batches` and append its ticks again."
        )


def _sessions(ticks: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame]]:
    groups = ticks.select(COLUMNS).group_by("symbol", "session", maintain_order=True)
    return [(symbol, session, rows) for (symbol, session), rows in groups]


def _apart(written: pl.DataFrame) -> bool:
    """Whether no row can be in two batches: each begins behind the one before."""
    return bool((written["first_sequence"][1:] > written["last_sequence"][:-1]).all())
