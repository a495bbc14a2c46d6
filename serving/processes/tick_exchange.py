"""An exchange on this machine that plays recorded or simulated ticks in the words of
`serving/live/exchange_messages.py`, for tests and to try things out: times are those of now.
"""

import asyncio
import heapq
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from components.contracts import ContractError, read_stamp
from components.contracts.documents.instruments import Instrument
from components.contracts.tick_days import TickDay, read_day, read_instruments, tick_days
from components.contracts.tick_schemas import (
    BUY,
    DEPTH,
    QUOTE,
    RAW_TICKS,
    SELL,
    SNAPSHOT,
    TICKS,
    TRADE,
)
from serving.processes.tick_collector import BOOK_PATH, STREAM_PATH, SYMBOLS_PATH

NS_A_SECOND = 1_000_000_000
KINDS = (SNAPSHOT, DEPTH, QUOTE, TRADE)
# Messages that are sent without looking up, so that requests are answered meanwhile.
AT_ONCE = 50


@dataclass
class Market:
    """One symbol as the exchange has it: what rests by side and price in ticks, the touch, and the id of the
    last change.
    """

    symbol: str
    instrument: Instrument
    levels: dict[int, dict[int, int]] = field(default_factory=lambda: {BUY: {}, SELL: {}})
    touch: dict[int, tuple[int, int]] = field(default_factory=dict)
    update_id: int = 0

    def book(self) -> dict:
        """The answer to a request for the whole book."""
        bids, asks = (
            [self._level(*level) for level in sorted(self.levels[side].items(), reverse=side == BUY)]
            for side in (BUY, SELL)
        )
        return {"lastUpdateId": self.update_id, "E": _now_ms(), "bids": bids, "asks": asks}

    def filters(self) -> list[dict]:
        """Its steps, as the list of symbols has them."""
        return [
            {"filterType": "PRICE_FILTER", "tickSize": _decimal(1, self.instrument.tick_size)},
            {"filterType": "LOT_SIZE", "stepSize": _decimal(1, self.instrument.lot_size)},
        ]

    def messages(self, kind: int, rows: Sequence[tuple[int, int, int]]) -> Iterator[dict]:
        """What the rows (side, price, quantity) of one message change here, and what is said of it."""
        about = {"E": _now_ms(), "s": self.symbol}
        if kind == SNAPSHOT:
            # A book that nobody was told of: what comes next continues nothing that was said.
            self.levels = {BUY: {}, SELL: {}}
            self._rest(rows)
            self.update_id += 1
        elif kind == DEPTH:
            self._rest(rows)
            before, self.update_id = self.update_id, self.update_id + 1
            sides = {
                name: [self._level(price, quantity) for own, price, quantity in rows if own == side]
                for name, side in (("b", BUY), ("a", SELL))
            }
            ids = {"U": self.update_id, "u": self.update_id, "pu": before}
            yield {"e": "depthUpdate", **about, **ids, **sides}
        elif kind == QUOTE:
            self.touch |= {side: (price, quantity) for side, price, quantity in rows}
            if len(self.touch) == len((BUY, SELL)):
                (bid, bids), (ask, asks) = (self._level(*self.touch[side]) for side in (BUY, SELL))
                yield {"e": "bookTicker", **about, "b": bid, "B": bids, "a": ask, "A": asks}
        else:
            for side, price, quantity in rows:
                at, lots = self._level(price, quantity)
                yield {"e": "aggTrade", **about, "p": at, "q": lots, "m": side == SELL}

    def _rest(self, rows: Sequence[tuple[int, int, int]]) -> None:
        for side, price, quantity in rows:
            if quantity:
                self.levels[side][price] = quantity
            else:
                self.levels[side].pop(price, None)

    def _level(self, price: int, quantity: int) -> tuple[str, str]:
        return _decimal(price, self.instrument.tick_size), _decimal(quantity, self.instrument.lot_size)


class Exchange:
    """Plays the first session of each symbol in a folder of ticks, once somebody listens. `sent` counts the
    messages by symbol.

    speed : how many times as fast as it was recorded; 0: as fast as listeners take it
    lose_every : the depth messages, counted from one, of which each so many-th is not sent; 0: none

    Raises
    ------
    ContractError
        If the folder holds no ticks, or such that streams of depth can't tell (orders by number, halts).
    """

    def __init__(self, ticks: Path, *, speed: float = 1.0, lose_every: int = 0):
        instruments = read_instruments(ticks).symbols
        days = {day.symbol: day for day in reversed(tick_days(ticks))}
        self._tables = {symbol: _readable(day) for symbol, day in sorted(days.items())}
        self.markets = {symbol: Market(symbol, instruments[symbol]) for symbol in self._tables}
        self.over, self.sent = asyncio.Event(), dict.fromkeys(self._tables, 0)
        self._speed, self._lose_every = speed, lose_every
        self._listeners: dict[ServerConnection, set[str]] = {}
        self._begun = asyncio.Event()

    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> Server:
        """Listen; what is played begins with the first listener. `over` is set when all was sent."""
        self._playing = asyncio.create_task(self._play())
        return await serve(self._listen, host, port, process_request=self._answer, compression=None)

    async def _listen(self, connection: ServerConnection) -> None:
        self._listeners[connection] = _asked(connection.request.path)
        self._begun.set()
        try:
            await connection.wait_closed()
        finally:
            del self._listeners[connection]

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Requests by HTTP; None for those that go on as a stream."""
        address = urlsplit(request.path)
        if address.path == SYMBOLS_PATH:
            listed = [{"symbol": name, "filters": one.filters()} for name, one in self.markets.items()]
            return answered({"symbols": listed})
        if address.path == BOOK_PATH:
            symbol = parse_qs(address.query).get("symbol", [""])[0]
            known = self.markets.get(symbol)
            if known is None:
                return answered({"symbols": list(self.markets)}, HTTPStatus.BAD_REQUEST)
            return answered(known.book())
        if address.path != STREAM_PATH or not _asked(request.path) <= set(map(str.lower, self.markets)):
            return answered({"symbols": list(self.markets)}, HTTPStatus.NOT_FOUND)
        return None

    async def _play(self) -> None:
        await self._begun.wait()
        began, first, depths = time.monotonic(), None, 0
        for number, (at, symbol, kind, rows) in enumerate(heapq.merge(*map(_messages, self._tables.items()))):
            first = at if first is None else first
            if self._speed:
                late = began + (at - first) / NS_A_SECOND / self._speed - time.monotonic()
                if late > 0:
                    await asyncio.sleep(late)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            for said in self.markets[symbol].messages(kind, rows):
                depths += kind == DEPTH
                if not (kind == DEPTH and self._lose_every and depths % self._lose_every == 0):
                    await self._send(symbol, json.dumps({"stream": symbol.lower(), "data": said}))
                    self.sent[symbol] += 1
        self.over.set()

    async def _send(self, symbol: str, text: str) -> None:
        for connection, symbols in list(self._listeners.items()):
            if symbol.lower() in symbols:
                try:
                    await connection.send(text)
                except ConnectionClosed:
                    continue


def _readable(day: TickDay) -> pl.DataFrame:
    raw = read_stamp(day.path).table == RAW_TICKS.name
    ticks = read_day(day, RAW_TICKS if raw else TICKS)
    other = ticks.filter(~pl.col("kind").is_in(KINDS))
    if len(other):
        raise ContractError(
            f"{day.path} holds {len(other):,} rows of orders by number, halts or the like, which streams of"
            " depth can't tell. Play a recording of depth messages, or simulated ticks."
        )
    return ticks


def _messages(named: tuple[str, pl.DataFrame]) -> Iterator[tuple[int, str, int, list[tuple[int, int, int]]]]:
    """Arrival (ns), symbol, kind and rows of each message, in order."""
    symbol, ticks = named
    grouped = ticks.group_by("message", "kind", "ingest_ts", maintain_order=True)
    columns = grouped.agg(pl.col("side", "price", "quantity"))
    for _, kind, at, *rows in columns.iter_rows():
        yield at, symbol, kind, list(zip(*rows, strict=True))


def _asked(path: str) -> set[str]:
    """The symbols whose streams a listener names, in small letters."""
    streams = parse_qs(urlsplit(path).query).get("streams", [""])[0]
    return {name.partition("@")[0] for name in streams.split("/") if name}


def _decimal(steps: int, size: float) -> str:
    return format(steps * Decimal(repr(size)), "f")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def answered(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """JSON as the answer to a request."""
    body = json.dumps(value).encode()
    about = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    headers = Headers(about)
    return Response(status.value, status.phrase, headers, body)
