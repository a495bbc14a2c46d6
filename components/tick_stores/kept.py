"""What all stores of ticks have in common: which rows count, and bars of them."""

import duckdb
import polars as pl

from components.contracts.tick_schemas import EXECUTE, HIDDEN, TICKS, TRADE
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import BAR_COLUMNS

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


def once(ticks: pl.DataFrame, store: str) -> pl.DataFrame:
    """Rows of a symbol's session in order, each once; TickStoreError where one has two contents."""
    ticks = ticks.unique(maintain_order=True).sort("sequence")
    twice = ticks["sequence"].filter(ticks["sequence"].is_duplicated())
    if len(twice):
        symbol, session = ticks.select("symbol", "session").row(0)
        raise TickStoreError(
            f"{store} holds sequence {twice[0]} of {symbol}, session {session}, with"
            f" {twice.eq(twice[0]).sum()} contents: two recordings share the name of a session. Keep them"
            " in stores of their own, or name their sessions apart."
        )
    return ticks


def nothing_of(symbol: str, session: str, store: str) -> TickStoreError:
    """The error where a store has no row of a session."""
    return TickStoreError(
        f"{store} holds no ticks of {symbol} in session {session}: append them, or name others."
    )


def bars_of(ticks: pl.DataFrame, step_ns: int, store: str) -> pl.DataFrame:
    """Bars of so many nanoseconds of a session's rows, columns BAR_COLUMNS; TickStoreError where a sum is too
    large to be held.
    """
    with duckdb.connect() as connection:
        connection.register("ticks", ticks.to_arrow())
        try:
            bars = pl.from_arrow(connection.sql(BARS, params={"step": step_ns}).to_arrow_table())
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            symbol, session = ticks.select("symbol", "session").row(0)
            raise TickStoreError(
                f"{store}: prices times quantities of {symbol}, session {session}, sum up to more"
                f" than 64 bits hold (the largest quantity is {ticks['quantity'].max():,} lots). Mend the"
                f" quantities, or set ticks.instruments.{symbol}.lot_size to a larger step."
            ) from error
    return bars.cast(BAR_COLUMNS)
