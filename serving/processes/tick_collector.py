"""Records what an exchange says of order books and trades, as it arrives, into an embedded store of ticks.

Messages are stamped when they arrive and kept in batches: those of some milliseconds, or, where the disk is
slower, all that came meanwhile. Where more wait than there is room for, nothing is read until they are kept:
the connection fills up, and the exchange waits or hangs up. A whole book is asked for at the beginning, after
each new connection, at midnight (UTC, when another session begins), and where a change of depth was lost.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

import httpx
import msgspec
import polars as pl
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from components.contracts.documents.instruments import Instruments
from components.contracts.files import OutputError
from components.contracts.tick_days import INSTRUMENTS
from components.processes.locks import take_lock
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from serving.live.exchange_messages import (
    Depth,
    ExchangeError,
    Rows,
    Said,
    WholeBook,
    decode_book,
    decode_frame,
    instruments_of,
)

BOOK_PATH, SYMBOLS_PATH, STREAM_PATH = "/fapi/v1/depth", "/fapi/v1/exchangeInfo", "/stream"
STREAMS = ("depth@100ms", "bookTicker", "aggTrade")
# A depth message of 1,000 levels a side has some 60 KiB; an answer with a whole book, or all symbols, more.
MOST_FRAME_BYTES, MOST_ANSWER_BYTES = 2**21, 2**25
ANSWER_S, OPEN_S, CLOSE_S = 10.0, 10.0, 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
BETWEEN_BOOKS_S = 0.25
DAY_NS = 86_400 * 10**9
# A symbol's session is a day, and no symbol begins with a dot, so that these are the names of none.
LOCK, STEPS_LOCK = "collector", ".instruments"
# Of so many batches it is told how long their first message waited.
BATCHES_TOLD = 100_000


class Arrived(NamedTuple):
    """What came at `at` (ns): an answer with the book of `symbol`, or a message of the stream (no symbol)."""

    at: int
    symbol: str
    body: bytes


@dataclass(frozen=True)
class Plan:
    """What is recorded, and how. `streams` and `answers` are addresses without a path (ws://, http://)."""

    streams: str
    answers: str
    symbols: tuple[str, ...]
    folder: Path
    batch_ms: float = 50.0
    room_bytes: int = 64 * 2**20
    patience_s: float = 60.0


@dataclass
class Counts:
    """What was recorded of a symbol. `lost`: how often a change of depth did not continue the one before;
    `left_out`: messages with a price or quantity that is none; `unanswered`: how often no whole book came for
    as long as the plan is patient.
    """

    messages: int = 0
    rows: int = 0
    books: int = 0
    lost: int = 0
    left_out: int = 0
    unanswered: int = 0


@dataclass
class Found:
    """What became of a recording: by symbol, frames that could not be read or were not asked for, connections
    after the first, how often the disk was waited for, and how long (ms) the first message of each batch
    waited until it was kept.
    """

    symbols: dict[str, Counts]
    heard: bool = False
    unreadable: int = 0
    connections_again: int = 0
    waits_for_disk: int = 0
    kept_after_ms: deque[float] = field(default_factory=lambda: deque(maxlen=BATCHES_TOLD))


@dataclass
class _Chain:
    """The changes of depth of a symbol since the last that did not continue the one before: the id that the
    first continues, that of the last one, and that of the last one with rows. `book`: that of the newest.
    """

    begun: int | None = None
    seen: int = 0
    kept: int = 0
    book: int | None = None

    def follow(self, depth: Depth) -> tuple[bool, int]:
        """Whether the change continues what came before, and the id that its rows continue."""
        if self.begun is None:
            whole = self.book is None or depth.pu <= self.book
        else:
            whole = depth.pu == self.seen
        if self.begun is None or not whole:
            self.begun, self.kept, self.book = depth.pu, depth.pu, self.book if whole else None
        previous, self.seen = self.kept, depth.u
        # One that changes no level has no rows: what continues it continues the one before.
        if depth.b or depth.a:
            self.kept = depth.u
        return whole, previous

    def meet(self, book: WholeBook) -> bool:
        """Whether the changes that came continue this book, or may still."""
        self.book = book.lastUpdateId
        return bool(book.bids or book.asks) and (self.begun is None or self.begun <= self.book)


@dataclass
class _Session:
    """Where the rows of a symbol's session go on."""

    sequence: int = 0
    message: int = 0


class Collector:
    """One recording. `now_ns` is its clock."""

    def __init__(self, plan: Plan, *, now_ns: Callable[[], int] = time.time_ns):
        self.found = Found({symbol: Counts() for symbol in plan.symbols})
        self._plan, self._now_ns = plan, now_ns
        self._store = EmbeddedStore(plan.folder)
        self._arrived: list[Arrived] = []
        self._waiting_bytes = 0
        self._room, self._ended = asyncio.Event(), asyncio.Event()
        self._chains = {symbol: _Chain() for symbol in plan.symbols}
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._day, self._midnight = dict.fromkeys(plan.symbols, ""), dict.fromkeys(plan.symbols, 0)
        self._wanted: set[str] = set()
        self._asking: dict[str, asyncio.Task] = {}
        self._closing, self._heard = False, time.monotonic()

    async def run(self, stop: asyncio.Event) -> Found:
        """Record until `stop` is set; what arrived by then is kept and sealed.

        Raises
        ------
        ExchangeError
            If the exchange says nothing for longer than the plan's patience, or nothing at all, or lacks a
            symbol, or its steps have changed since an earlier recording; what had arrived is kept.
        OutputError
            If the disk can't be written.
        LockHeld
            If another process records one of the symbols into the same folder.
        """
        with ExitStack() as locks:
            for symbol in self._plan.symbols:
                locks.enter_context(_alone(self._plan.folder / "locks" / symbol / LOCK))
            async with httpx.AsyncClient(base_url=self._plan.answers, timeout=ANSWER_S) as self._http:
                tasks = [asyncio.create_task(one) for one in (self._listen(), self._keep(), stop.wait())]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await self._end(*tasks)
        if not self.found.heard:
            raise ExchangeError(
                f"{self._plan.streams} and {self._plan.answers} said nothing before the recording was ended."
                " Check the address and the network."
            )
        return self.found

    async def _end(self, listening: asyncio.Task, keeping: asyncio.Task, stopping: asyncio.Task) -> None:
        self._closing = True
        others = (listening, stopping, *self._asking.values())
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._ended.set()
        await keeping
        await asyncio.to_thread(self._seal, lambda symbol, day: True)
        if not listening.cancelled():
            listening.result()

    async def _listen(self) -> None:
        """Read from the exchange, connecting again where that ends."""
        self._steps = instruments_of(await self._patiently(SYMBOLS_PATH), self._plan.symbols)
        await asyncio.to_thread(self._prepare)
        names = "/".join(f"{symbol.lower()}@{one}" for symbol in self._plan.symbols for one in STREAMS)
        address = f"{self._plan.streams}{STREAM_PATH}?streams={names}"
        limits = {"max_size": MOST_FRAME_BYTES, "open_timeout": OPEN_S, "close_timeout": CLOSE_S}
        pause, before = FIRST_PAUSE_S, 0
        while True:
            heard, opened = self._heard, time.monotonic()
            try:
                async with connect(address, compression=None, **limits) as socket:
                    opened = time.monotonic()
                    self.found.connections_again += before
                    before = 1
                    for symbol in self._plan.symbols:
                        self._chains[symbol] = _Chain()
                        self._ask_book(symbol)
                    while True:
                        await self._arrive("", await socket.recv(decode=False))
            except (OSError, TimeoutError, WebSocketException) as error:
                self._require_patience(time.monotonic() - opened, error)
            pause = FIRST_PAUSE_S if self._heard > heard else min(2 * pause, LONGEST_PAUSE_S)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def _prepare(self) -> None:
        """Write what ticks and lots are worth (ExchangeError where that has changed), seal what a recording
        that was killed left, and go on after what is kept of today.
        """
        path = self._plan.folder / INSTRUMENTS
        with take_lock(self._plan.folder / "locks" / STEPS_LOCK, wait=True):
            known = Instruments.read(path).symbols if path.exists() else {}
            for symbol, steps in self._steps.items():
                if known.setdefault(symbol, steps) != steps:
                    raise ExchangeError(
                        f"{path}: {symbol} was recorded in steps of {known[symbol].tick_size:g} and"
                        f" {known[symbol].lot_size:g}, and the exchange has {steps.tick_size:g} and"
                        f" {steps.lot_size:g} by now. Record it into another folder."
                    )
            Instruments(symbols=known).write(path)
        now = self._now_ns()
        for path in self._plan.folder.glob("log/*/*.arrows"):
            if path.stem != _day_of(now):
                self._store.seal(path.parent.name, path.stem)
        for symbol in self._plan.symbols:
            self._begin(symbol, now)

    async def _arrive(self, symbol: str, body: bytes) -> None:
        """Stamp what came: an answer with the book of `symbol`, or a message of the stream (no symbol)."""
        self.found.heard = True
        if not symbol:
            self._heard = time.monotonic()
        self._arrived.append(Arrived(self._now_ns(), symbol, body))
        self._waiting_bytes += len(body)
        while self._waiting_bytes > self._plan.room_bytes:
            self.found.waits_for_disk += 1
            self._room.clear()
            await self._room.wait()

    async def _keep(self) -> None:
        """Write batches until the end, and then the last one."""
        over = False
        while not over:
            over = self._ended.is_set()
            if not over:
                await asyncio.sleep(self._plan.batch_ms / 1e3)
            arrived, self._arrived = self._arrived, []
            if arrived:
                batches = self._understood(arrived)
                for symbol in await asyncio.to_thread(self._write, batches):
                    self._ask_book(symbol)
                self.found.kept_after_ms.append((self._now_ns() - arrived[0].at) / 1e6)
                self._waiting_bytes -= sum(len(one.body) for one in arrived)
            self._room.set()

    def _understood(self, arrived: Sequence[Arrived]) -> dict[tuple[str, str], Rows]:
        """The rows of a batch by symbol and session."""
        batches: dict[tuple[str, str], Rows] = {}
        for at, symbol, body in arrived:
            try:
                said = decode_book(body) if symbol else decode_frame(body).data
            except (msgspec.DecodeError, UnicodeDecodeError):
                said = None
            name = symbol or (said.s if said else "")
            if said is None or name not in self.found.symbols:
                self.found.unreadable += 1
                if symbol:
                    self._ask_book(symbol)
                continue
            self._add(batches, name, said, at)
        return batches

    def _add(self, batches: dict[tuple[str, str], Rows], symbol: str, said: Said, at: int) -> None:
        counts, previous = self.found.symbols[symbol], 0
        if at >= self._midnight[symbol]:
            self._begin(symbol, at)
            self._ask_book(symbol)
        if isinstance(said, Depth):
            whole, previous = self._chains[symbol].follow(said)
            if not whole:
                counts.lost += 1
                self._ask_book(symbol)
        elif isinstance(said, WholeBook):
            counts.books += 1
            if not self._chains[symbol].meet(said):
                self._ask_book(symbol)
        key = symbol, self._day[symbol]
        batches.setdefault(key, Rows()).add(said, self._sessions[key].message, at, previous)
        self._sessions[key].message += 1
        counts.messages += 1

    def _begin(self, symbol: str, at: int) -> None:
        """The session of the day of a moment (ns), after what is kept of it."""
        session, day = _Session(), _day_of(at)
        with suppress(TickStoreError):
            kept = self._store.read(symbol, day).select(pl.col("sequence", "message").max())
            session = _Session(*(newest + 1 for newest in kept.row(0)))
        self._sessions[symbol, day] = session
        self._day[symbol], self._midnight[symbol] = day, (at // DAY_NS + 1) * DAY_NS

    def _write(self, batches: Mapping[tuple[str, str], Rows]) -> set[str]:
        """Keep a batch; the symbols of which a message was left out."""
        damaged = set()
        for (symbol, day), rows in batches.items():
            counts, session = self.found.symbols[symbol], self._sessions[symbol, day]
            table, left_out = rows.table(symbol, day, session.sequence, self._steps[symbol])
            self._store.append(table)
            session.sequence += len(table)
            counts.rows += len(table)
            counts.left_out += left_out
            if left_out:
                damaged.add(symbol)
        self._seal(lambda symbol, day: day < self._day[symbol])
        return damaged

    def _seal(self, over: Callable[[str, str], bool]) -> None:
        """Pack the sessions that are over."""
        for symbol, day in [key for key in self._sessions if over(*key)]:
            if self._sessions.pop((symbol, day)).sequence:
                self._store.seal(symbol, day)

    def _ask_book(self, symbol: str) -> None:
        """Ask for a whole book, once more where one is asked for already: that may come too early."""
        self._wanted.add(symbol)
        if symbol not in self._asking and not self._closing:
            self._asking[symbol] = asyncio.create_task(self._books(symbol))

    async def _books(self, symbol: str) -> None:
        pause = BETWEEN_BOOKS_S
        try:
            while symbol in self._wanted:
                self._wanted.discard(symbol)
                try:
                    answer = await self._patiently(f"{BOOK_PATH}?symbol={symbol}&limit=1000")
                    await self._arrive(symbol, answer)
                except ExchangeError:
                    # The stream may go on without books; should it end as well, the recording does.
                    self.found.symbols[symbol].unanswered += 1
                    self._wanted.add(symbol)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            del self._asking[symbol]

    async def _patiently(self, path: str) -> bytes:
        """An answer of the exchange, asked for again while it gives none."""
        pause, begun = FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                async with asyncio.timeout(2 * ANSWER_S), self._http.stream("GET", path) as answer:
                    answer.raise_for_status()
                    return await _body(answer)
            except (httpx.HTTPError, OSError, TimeoutError) as error:
                if time.monotonic() - begun > self._plan.patience_s:
                    raise self._silent(f"{self._plan.answers}{path}", error) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _require_patience(self, stood_s: float, error: Exception) -> None:
        """Refuse to go on where no message came for too long, though not after a connection that stood for as
        long: the market was quiet.
        """
        if stood_s > self._plan.patience_s + OPEN_S:
            self._heard = time.monotonic()
        if time.monotonic() - self._heard > self._plan.patience_s:
            raise self._silent(self._plan.streams, error) from error

    def _silent(self, address: str, error: Exception) -> ExchangeError:
        return ExchangeError(
            f"{address} gave no answer for {self._plan.patience_s:g} s ({type(error).__name__}:"
            f" {str(error)[:200]}). What came before is kept in {self._plan.folder}. Check the address and"
            " the network, and start again: the recording goes on."
        )


def _alone(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return take_lock(path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}. Check the path and the disk, then run"
            " again."
        ) from error


async def _body(answer: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            raise httpx.DecodingError(f"the answer has more than {MOST_ANSWER_BYTES:,} bytes")
    return b"".join(parts)


def _day_of(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // 10**9, UTC):%Y-%m-%d}"
