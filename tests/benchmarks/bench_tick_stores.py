"""Appending to, reading from and taking bars from both stores of ticks, in batches as a collector writes them
and in one piece: a folder, and a ClickHouse server on this machine where one is installed.

`python -m tests.benchmarks.bench_tick_stores`: made-up rows, seed 7. CPU seconds are of this process and
of the server together, rows a second are of them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from components.contracts.tick_schemas import DEPTH, QUOTE, TICKS, TRADE
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.protocol import MINUTE_NS, SECOND_NS, TickStore
from tests.stores import Server, clickhouse_server
from tests.tick_stores.made_ticks import MIDNIGHT
from tests.tick_stores.stores import database, store_at

ROWS = 1_000_000
# A busy symbol's second, and so many of them.
BATCH_ROWS, BATCHES = 200, 100


def main() -> None:
    """Print one line a store and kind of work."""
    measure("folder", store_in_a_folder)
    try:
        measure("ClickHouse", store_at_a_server)
    except pytest.skip.Exception as reason:
        print(f"ClickHouse was not measured: {reason}")


def measure(name: str, opened: Callable) -> None:
    """Print what a kind of store takes."""
    with opened() as (store, server):
        session = made_up(ROWS, "whole")
        report(name, server, f"append {ROWS:,} rows at once", ROWS, lambda: store.append(session))
        parts = made_up(BATCH_ROWS * BATCHES, "parts").iter_slices(BATCH_ROWS)
        waits = report(
            name,
            server,
            f"append {BATCHES} batches of {BATCH_ROWS}",
            BATCH_ROWS * BATCHES,
            lambda: each(store, parts),
        )
        p50, p95 = np.quantile(waits, (0.5, 0.95))
        print(f"{name:12s} {'a batch, p50 and p95':36s} {p50:8.1f} and {p95:.1f} ms")
        report(name, server, "seal", ROWS, lambda: store.seal("X", "whole"))
        report(name, server, f"read {ROWS:,} rows", ROWS, lambda: store.read("X", "whole"))
        for step, what in ((SECOND_NS, "a second"), (MINUTE_NS, "a minute")):
            report(name, server, f"bars of {what}", ROWS, lambda step=step: store.bars("X", "whole", step))


def each(store: TickStore, parts: Iterator[pl.DataFrame]) -> list[float]:
    """Append batch by batch; the milliseconds of each."""
    waits = []
    for part in parts:
        start = time.perf_counter()
        store.append(part)
        waits.append(1e3 * (time.perf_counter() - start))
    return waits


def report(name: str, server: Server | None, what: str, rows: int, work: Callable):
    """Do it once and print rows a second; what it gave."""
    cpu, start = cpu_seconds(server), time.perf_counter()
    given = work()
    took, spent = time.perf_counter() - start, cpu_seconds(server) - cpu
    # CPU time comes in hundredths of a second: of less no rate can be told.
    rate = f"{rows / spent / 1e3:8,.0f} k rows/s" if spent >= 0.1 else ""
    print(f"{name:12s} {what:36s} {took:8.3f} s {spent:8.2f} s of CPU {rate}", flush=True)
    return given


def cpu_seconds(server: Server | None) -> float:
    """CPU seconds of this process, and of a server."""
    own = [psutil.Process()]
    if server is not None:
        own += psutil.Process(server.process.pid).children(recursive=True)
    return sum(sum(one.cpu_times()[:2]) for one in own)


def made_up(count: int, session: str) -> pl.DataFrame:
    """TICKS of 6.5 hours; a fifth are trades."""
    rng = np.random.default_rng(7)
    walk = 10_000 + np.cumsum(rng.integers(-1, 2, count))
    drawn = {
        "message": np.arange(count),
        "sequence": np.arange(count),
        "ingest_ts": MIDNIGHT + np.sort(rng.integers(0, 23_400 * SECOND_NS, count)),
        "kind": rng.choice([DEPTH, QUOTE, TRADE], count, p=[0.4, 0.4, 0.2]),
        "side": rng.choice([1, -1], count),
        "price": walk,
        "quantity": rng.integers(1, 1_000, count),
        "update_id": np.arange(count),
    }
    constant = {name: pl.lit(0) for name in TICKS.columns if name not in drawn}
    frame = pl.DataFrame(drawn).with_columns(
        **constant | {"symbol": pl.lit("X"), "session": pl.lit(session), "exchange_ts": pl.col("ingest_ts")}
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in TICKS.columns.items())


@contextmanager
def store_in_a_folder() -> Iterator[tuple[TickStore, None]]:
    """A store that goes with the measurement."""
    with tempfile.TemporaryDirectory() as folder:
        yield EmbeddedStore(Path(folder)), None


@contextmanager
def store_at_a_server() -> Iterator[tuple[TickStore, Server]]:
    """A store at a server that goes with the measurement."""
    pytest.importorskip("clickhouse_driver", reason="clickhouse-driver is missing: alphaloop[clickhouse]")
    with clickhouse_server() as server:
        yield store_at(server, database(server)), server


if __name__ == "__main__":
    main()
