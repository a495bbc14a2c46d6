"""What an exchange says on its streams, in the words of Binance's futures
(https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams): changes of
depth, best bid and ask, trades; by HTTP whole books and the steps of prices and quantities.
"""

import math
from collections.abc import Sequence
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
COLUMNS = (
    *("message", "exchange_ts", "ingest_ts", "kind", "update_id", "previous_update_id", "side"),
    *("price", "quantity"),
)

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


Said = Depth | Touch | Trade | WholeBook

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


class Rows:
    """Rows of one symbol's session that wait to be kept."""

    def __init__(self):
        self._rows: list[tuple] = []

    def add(self, said: Said, message: int, ingest_ts: int, previous: int = 0) -> None:
        """A message that came at `ingest_ts` (ns); a change of depth continues that of id `previous`."""
        exchange_ts = said.E * NS_A_MS
        if isinstance(said, Touch):
            about = (message, exchange_ts, ingest_ts, QUOTE, 0, 0)
            self._rows += ((*about, BUY, said.b, said.B), (*about, SELL, said.a, said.A))
        elif isinstance(said, Trade):
            side = SELL if said.m else BUY
            self._rows.append((message, exchange_ts, ingest_ts, TRADE, 0, 0, side, said.p, said.q))
        else:
            if isinstance(said, Depth):
                about, bids, asks = (DEPTH, said.u, previous), said.b, said.a
            else:
                about, bids, asks = (SNAPSHOT, said.lastUpdateId, 0), said.bids, said.asks
            about = (message, exchange_ts, ingest_ts, *about)
            self._rows += [(*about, BUY, *level) for level in bids]
            self._rows += [(*about, SELL, *level) for level in asks]

    def table(self, symbol: str, session: str, first: int, steps: Instrument) -> tuple[pl.DataFrame, int]:
        """RAW_TICKS whose `sequence` begins at `first`, and how many messages are left out because a price or
        quantity of theirs is no whole, finite number of steps.
        """
        *numbers, prices, quantities = zip(*self._rows, strict=True) if self._rows else [()] * len(COLUMNS)
        columns = {name: np.array(values, np.int64) for name, values in zip(COLUMNS, numbers, strict=False)}
        whole = {
            "price": _steps(prices, steps.tick_size),
            "quantity": _steps(quantities, steps.lot_size),
        }
        unfit = np.isnan(whole["price"]) | np.isnan(whole["quantity"])
        columns |= whole
        left_out = np.unique(columns["message"][unfit])
        if len(left_out):
            kept = ~np.isin(columns["message"], left_out)
            columns = {name: values[kept] for name, values in columns.items()}
        columns |= {name: columns[name].astype(np.int64) for name in whole}
        count = len(columns["message"])
        columns["sequence"] = np.arange(first, first + count)
        columns["order_id"] = np.zeros(count, np.int64)
        columns |= {
            name: pl.repeat(value, count, eager=True)
            for name, value in (("symbol", symbol), ("session", session))
        }
        columns |= {name: columns[name].astype(np.int8) for name in ("kind", "side")}
        return pl.DataFrame({name: columns[name] for name in RAW_TICKS.columns}), len(left_out)


def _steps(texts: Sequence[str], size: float) -> np.ndarray:
    """Decimal texts as whole multiples of `size`, NaN where one is none, negative, or too large."""
    scaled = pl.Series(texts, dtype=pl.String).cast(pl.Float64, strict=False).to_numpy() / size
    nearest = np.rint(scaled)
    with np.errstate(invalid="ignore"):
        fits = (np.abs(scaled - nearest) <= OFF_GRID) & (nearest >= 0) & (nearest <= LARGEST)
    return np.where(fits, nearest, np.nan)
