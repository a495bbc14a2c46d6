"""What an exchange says on its streams, in the words of Binance's futures
(https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams): changes of
depth, best bid and ask, trades; by HTTP whole books and the steps of prices and quantities.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument
from components.contracts.errors import AlphaloopError
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, RAW_TICKS, SELL, SNAPSHOT, TRADE

# Milliseconds of the year 2200, and what 64 bits hold with room to count on.
LAST_MS, LAST_ID = 7_258_118_400_000, 2**62
NS_A_MS = 1_000_000
# A whole number that floating point still tells from the next one, and how far off it a number may lie.
LARGEST, OFF_GRID = 2**53, 1e-4

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]
Id = Annotated[int, msgspec.Meta(ge=0, le=LAST_ID)]
Level = tuple[str, str]


class ExchangeError(AlphaloopError):
    """An exchange does not answer, or not in words that are understood."""


class Depth(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    """What now rests at some prices; `pu` is the `u` of the change before."""

    s: str
    E: Milliseconds
    u: Id
    pu: Id
    b: list[Level]
    a: list[Level]


class Touch(msgspec.Struct, tag_field="e", tag="bookTicker"):
    """Best bid `b` with quantity `B`, best ask `a` with `A`."""

    s: str
    E: Milliseconds
    b: str
    B: str
    a: str
    A: str


class Trade(msgspec.Struct, tag_field="e", tag="aggTrade"):
    """A trade at price `p` of quantity `q`; `m` says whether the buyer's order rested."""

    s: str
    E: Milliseconds
    p: str
    q: str
    m: bool


class Frame(msgspec.Struct):
    """One message of the combined stream."""

    data: Depth | Touch | Trade


class WholeBook(msgspec.Struct):
    """The answer to a request for a whole book."""

    lastUpdateId: Id
    bids: list[Level]
    asks: list[Level]
    E: Milliseconds = 0


class _Filter(msgspec.Struct):
    filterType: str
    tickSize: str = ""
    stepSize: str = ""


class _Symbol(msgspec.Struct):
    symbol: str
    filters: list[_Filter]


class _Symbols(msgspec.Struct):
    symbols: list[_Symbol]


decode_frame = msgspec.json.Decoder(Frame).decode
decode_book = msgspec.json.Decoder(WholeBook).decode


def instruments_of(body: bytes, wanted: tuple[str, ...]) -> dict[str, Instrument]:
    """The steps of the wanted symbols from the exchange's list of all.

    Raises
    ------
    ExchangeError
        If the list can't be read, a symbol is not on it, or its steps are none.
    """
    try:
        listed = {one.symbol: one.filters for one in msgspec.json.decode(body, type=_Symbols).symbols}
    except msgspec.DecodeError as error:
        raise ExchangeError(f"The exchange's list of symbols can't be read: {error}.") from error
    missing = [symbol for symbol in wanted if symbol not in listed]
    if missing:
        known = ", ".join(sorted(listed)[:10])
        raise ExchangeError(f"The exchange has no symbol {missing[0]!r}; it has {known}. Mend --symbol.")
    return {symbol: _instrument(symbol, listed[symbol]) for symbol in wanted}


def _instrument(symbol: str, filters: list[_Filter]) -> Instrument:
    kinds = {one.filterType: one for one in filters}
    price, lot = kinds.get("PRICE_FILTER"), kinds.get("LOT_SIZE")
    sizes = [_number(price.tickSize if price else ""), _number(lot.stepSize if lot else "")]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ExchangeError(f"The exchange names no steps of price and quantity for {symbol}.")
    return Instrument(tick_size=sizes[0], lot_size=sizes[1])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass
class Rows:
    """Rows of one symbol's session that wait to be kept, column by column."""

    columns: dict[str, list] = field(
        default_factory=lambda: {
            name: []
            for name in (
                *("message", "exchange_ts", "ingest_ts", "kind", "side", "price", "quantity"),
                *("update_id", "previous_update_id"),
            )
        }
    )

    def add(
        self, said: Depth | Touch | Trade | WholeBook, message: int, ingest_ts: int, previous: int = 0
    ) -> None:
        """A message that came at `ingest_ts` (ns); a change of depth continues that of id `previous`."""
        ids = (0, 0)
        if isinstance(said, Depth):
            kind, levels, ids = DEPTH, _levels(said.b, said.a), (said.u, previous)
        elif isinstance(said, WholeBook):
            kind, levels, ids = SNAPSHOT, _levels(said.bids, said.asks), (said.lastUpdateId, 0)
        elif isinstance(said, Touch):
            kind, levels = QUOTE, [(BUY, said.b, said.B), (SELL, said.a, said.A)]
        else:
            kind, levels = TRADE, [(SELL if said.m else BUY, said.p, said.q)]
        about = (message, said.E * NS_A_MS, ingest_ts, kind)
        for level in levels:
            for column, value in zip(self.columns.values(), (*about, *level, *ids), strict=True):
                column.append(value)

    def table(self, symbol: str, session: str, first: int, steps: Instrument) -> tuple[pl.DataFrame, int]:
        """RAW_TICKS whose `sequence` begins at `first`, and how many messages are left out because a price or
        quantity of theirs is no whole, finite number of steps.
        """
        frame = pl.DataFrame(self.columns, schema_overrides={"price": pl.String, "quantity": pl.String})
        whole = frame.with_columns(
            _steps("price", steps.tick_size).alias("price"),
            _steps("quantity", steps.lot_size).alias("quantity"),
        )
        unfit = pl.any_horizontal(pl.col("price", "quantity").is_null())
        left_out = whole.filter(unfit)["message"].unique()
        kept = whole.filter(~pl.col("message").is_in(left_out.implode()))
        named = kept.with_columns(
            pl.lit(symbol).alias("symbol"),
            pl.lit(session).alias("session"),
            pl.lit(0, pl.Int64).alias("order_id"),
            pl.Series("sequence", np.arange(first, first + len(kept))),
        )
        return named.select(pl.col(name).cast(kind) for name, kind in RAW_TICKS.columns.items()), len(
            left_out
        )


def _levels(bids: list[Level], asks: list[Level]) -> list[tuple[int, str, str]]:
    return [*((BUY, *level) for level in bids), *((SELL, *level) for level in asks)]


def _steps(column: str, size: float) -> pl.Expr:
    """Decimal texts as whole multiples of `size`, null where one is none, negative, or too large."""
    scaled = pl.col(column).cast(pl.Float64, strict=False) / size
    fits = ((scaled - scaled.round()).abs() <= OFF_GRID) & scaled.is_between(0, LARGEST)
    return pl.when(fits).then(scaled.round()).cast(pl.Int64)
