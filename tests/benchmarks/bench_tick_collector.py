"""Recording an exchange: messages a second, processor time a message, and how long a message waits until it
is on the disk; beside a loop with the same connection that parses with json and writes a CSV file, which
neither syncs nor follows ids.

    python -m tests.benchmarks.bench_tick_collector --rate 20000 --seconds 10

Eight symbols; of a hundred messages seven are changes of depth at 20 prices, seventy are best bids and asks,
the others trades, as busy symbols have them. They come from a process of its own, so many a second.
"""

import argparse
import asyncio
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from serving.processes.tick_collector import BOOK_PATH, STREAM_PATH, Collector, Plan
from serving.processes.tick_exchange import answered

SYMBOLS = tuple(f"S{number}" for number in range(8))
PRICES, BURST_S = 20, 0.005
STEPS = [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}]
BOOK = {"lastUpdateId": 1, "bids": [["9990.0", "1.000"]], "asks": [["10010.0", "1.000"]]}


def frames(count: int, seed: int) -> list[str]:
    """So many messages of all symbols."""
    generator = np.random.default_rng(seed)
    symbols, draws = generator.integers(0, len(SYMBOLS), count), generator.random(count)
    ids, said = dict.fromkeys(SYMBOLS, 1), []
    for number, draw in zip(symbols, draws, strict=True):
        symbol = SYMBOLS[number]
        about = {"E": 1_700_000_000_000, "s": symbol}
        if draw < 0.07:
            levels = [[f"{9_990 - n / 10:.1f}", f"{n / 100:.3f}"] for n in range(PRICES // 2)]
            chain = {"U": ids[symbol] + 1, "u": ids[symbol] + 1, "pu": ids[symbol]}
            ids[symbol] += 1
            one = {"e": "depthUpdate", **about, **chain, "b": levels, "a": levels}
        elif draw < 0.77:
            one = {"e": "bookTicker", **about, "b": "9999.9", "B": "1.250", "a": "10000.1", "A": "0.750"}
        else:
            one = {"e": "aggTrade", **about, "p": "10000.0", "q": "0.125", "m": bool(draw < 0.9)}
        said.append(json.dumps({"stream": symbol.lower(), "data": one}))
    return said


async def send(rate: int, seconds: float) -> None:
    """Print a port, and say so many messages a second to the first listener, in bursts."""
    messages, heard = frames(int(rate * seconds), 7), asyncio.Event()

    async def say(connection) -> None:
        begun, sent = time.monotonic(), 0
        while sent < len(messages):
            due = min(int((time.monotonic() - begun) * rate) + 1, len(messages))
            for message in messages[sent:due]:
                await connection.send(message)
            sent = due
            await asyncio.sleep(BURST_S)
        heard.set()
        await connection.wait_closed()

    def answer(_connection, request):
        path = request.path.partition("?")[0]
        listed = {"symbols": [{"symbol": symbol, "filters": STEPS} for symbol in SYMBOLS]}
        return None if path == STREAM_PATH else answered(BOOK if path == BOOK_PATH else listed)

    async with serve(say, "127.0.0.1", 0, process_request=answer, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await heard.wait()
        await asyncio.sleep(60)


async def ours(port: int, count: int, folder: Path) -> float:
    """Record so many messages; CPU seconds."""
    address, stop = f"127.0.0.1:{port}", asyncio.Event()
    collector = Collector(Plan(f"ws://{address}", f"http://{address}", SYMBOLS, folder))
    begun = time.process_time()
    task = asyncio.create_task(collector.run(stop))
    counts = collector.found.symbols.values()
    while sum(one.messages - one.books for one in counts) < count:
        await asyncio.sleep(0.01)
    cpu, waited = time.process_time() - begun, np.array(collector.found.kept_after_ms)
    stop.set()
    await task
    lost = sum(one.lost + one.left_out for one in counts)
    p50, p95 = np.quantile(waited, (0.5, 0.95))
    print(f"kept after p50 {p50:.1f}, p95 {p95:.1f} ms (first message of a batch); lost or left out: {lost}")
    return cpu


async def theirs(port: int, count: int, folder: Path) -> float:
    """The same by json and CSV."""
    begun, seen = time.process_time(), 0
    with (folder / "rows.csv").open("w") as file:
        out = csv.writer(file)
        async with connect(f"ws://127.0.0.1:{port}{STREAM_PATH}", compression=None) as socket:
            async for text in socket:
                at, said = time.time_ns(), json.loads(text)["data"]
                about = (at, said["E"], said["s"], said["e"])
                if said["e"] == "depthUpdate":
                    out.writerows((*about, "b", *level, said["u"], said["pu"]) for level in said["b"])
                    out.writerows((*about, "a", *level, said["u"], said["pu"]) for level in said["a"])
                elif said["e"] == "bookTicker":
                    out.writerow((*about, "b", said["b"], said["B"]))
                    out.writerow((*about, "a", said["a"], said["A"]))
                else:
                    out.writerow((*about, said["m"], said["p"], said["q"]))
                seen += 1
                if seen == count:
                    return time.process_time() - begun
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=20_000, help="messages a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--send", action="store_true", help="be the other process")
    given = parser.parse_args()
    if given.send:
        asyncio.run(send(given.rate, given.seconds))
        return
    words = [sys.executable, "-m", "tests.benchmarks.bench_tick_collector", "--send"]
    words += ["--rate", str(given.rate), "--seconds", str(given.seconds)]
    count, cpu = int(given.rate * given.seconds), {}
    for name, record in (("json and CSV", theirs), ("alphaloop ticks collect", ours)):
        with (
            tempfile.TemporaryDirectory() as folder,
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other,
        ):
            port, begun = int(other.stdout.readline()), time.monotonic()
            cpu[name] = asyncio.run(record(port, count, Path(folder)))
            wall = time.monotonic() - begun
            other.kill()
        print(f"{name}: {count / wall:,.0f} messages/s, {cpu[name] / count * 1e6:.1f} us of CPU a message")


if __name__ == "__main__":
    main()
