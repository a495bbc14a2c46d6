"""Recording an exchange, and playing one, for `alphaloop ticks collect` and `alphaloop ticks exchange`."""

import asyncio
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from components.contracts import AlphaloopError
from serving.processes.tick_collector import Collector, Found, Plan
from serving.processes.tick_exchange import Exchange

SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
# How long listeners have to take what was sent last.
LEAVE_S = 10.0
# What is told of a recording that goes on, and how often.
TOLD, TELL_S = ("messages", "rows", "lost"), 60.0


class BadArguments(AlphaloopError):
    """What a command was told can't be done."""


def record(
    folder: Path,
    symbols: Sequence[str],
    streams: str,
    answers: str | None,
    seconds: float | None,
    patience_s: float,
) -> str:
    """Record until told to stop, or for so many seconds; what was recorded, as text.

    Raises
    ------
    BadArguments
        If a symbol or an address can't be one.
    ExchangeError, OutputError, LockHeld
        As `Collector.run`.
    """
    bad = [symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)]
    if bad:
        raise BadArguments(f"--symbol {bad[0][:60]!r} is no symbol: letters, digits, '.', '_' and '-'.")
    plan = Plan(
        streams=_address("--streams", streams, ("ws", "wss")),
        answers=_address("--answers", answers, ("http", "https")) if answers else _same_by_http(streams),
        symbols=tuple(dict.fromkeys(symbols)),
        folder=folder.absolute(),
        patience_s=patience_s,
    )
    return _told(asyncio.run(_record(plan, seconds)), folder)


async def _record(plan: Plan, seconds: float | None) -> Found:
    stop, collector = _stopped_by_signals(), Collector(plan)
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    telling = asyncio.create_task(_tell_now_and_then(collector.found))
    try:
        return await collector.run(stop)
    finally:
        telling.cancel()


async def _tell_now_and_then(found: Found) -> None:
    counts = found.symbols.values()
    while True:
        await asyncio.sleep(TELL_S)
        messages, rows, lost = (sum(getattr(one, name) for one in counts) for name in TOLD)
        print(
            f"{messages:,} messages, {rows:,} rows, {lost} changes of depth lost", file=sys.stderr, flush=True
        )


def play(ticks: Path, port: int, speed: float, lose_every: int, say: Callable[[str], object]) -> None:
    """Play a folder of ticks until all was sent, or told to stop.

    Raises
    ------
    ContractError
        As `Exchange`.
    BadArguments
        If the port is taken.
    """
    asyncio.run(_play(Exchange(ticks, speed=speed, lose_every=lose_every), port, say))


async def _play(exchange: Exchange, port: int, say: Callable[[str], object]) -> None:
    stop = _stopped_by_signals()
    try:
        server = await exchange.serve(port=port)
    except OSError as error:
        raise BadArguments(f"--port {port} can't be listened on: {error.strerror or error}.") from error
    async with server:
        at = server.sockets[0].getsockname()[1]
        named = " ".join(f"--symbol {symbol}" for symbol in exchange.markets)
        say(f"Listen with: alphaloop ticks collect FOLDER --streams ws://127.0.0.1:{at} {named}")
        ends = [asyncio.create_task(one) for one in (stop.wait(), exchange.over.wait())]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if ends[0] not in done:
            say("All was sent.")
            await asyncio.wait([ends[0]], timeout=LEAVE_S)


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _address(option: str, text: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(text)
    if parts.scheme not in schemes or not parts.netloc or parts.username or parts.path.strip("/"):
        raise BadArguments(
            f"{option} {text[:100]!r} is no address like {schemes[0]}://host:port, without a path."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _same_by_http(streams: str) -> str:
    """Where whole books are asked for: Binance has them elsewhere."""
    parts = urlsplit(streams)
    host = parts.netloc.replace("fstream.binance.com", "fapi.binance.com")
    return f"{SCHEMES.get(parts.scheme, 'https')}://{host}"


def _told(found: Found, folder: Path) -> str:
    lines = [
        f"{symbol}: {one.messages:,} messages, {one.rows:,} rows, {one.books} whole books, {one.lost} changes"
        f" of depth lost, {one.left_out} messages left out, {one.unanswered} books not given"
        for symbol, one in found.symbols.items()
    ]
    waited = f"{np.quantile(found.kept_after_ms, 0.95):.0f} ms" if found.kept_after_ms else "none"
    lines.append(
        f"{found.unreadable} messages not understood, connected again {found.connections_again} times, waited"
        f" {found.waits_for_disk} times for the disk; kept after (95 % of batches): {waited}"
    )
    return "\n".join(
        [*lines, f"Recorded into {folder}: ticks.source=recorded, ticks.recorded.folder={folder}"]
    )
