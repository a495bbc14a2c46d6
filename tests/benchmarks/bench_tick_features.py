"""Measures the features of ticks: the pass over events alone, then the whole stage on a made-up day of four
symbols, with seconds and memory.

python -m tests.benchmarks.bench_tick_features --millions 20 --hours 24

Without arguments a fifth of a day: 4 M events in 4.8 hours, so that times are a fifth of the day's.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.tick_days import INSTRUMENTS, write_day
from components.contracts.tick_schemas import DEPTH, QUOTE, SNAPSHOT, TICKS, TRADE
from components.tick_features.config import Settings
from components.tick_features.run import Inputs, Outputs, run
from components.tick_features.streaming import StreamingFeatures, rows_of

START, HOUR_NS = 1_720_000_000_000_000_000, 3_600 * 10**9
SYMBOLS, LEVELS = ("A", "B", "C", "D"), 20
STEP_NS = 50_000_000


def made_up(rows: int, hours: float, symbol: str, seed: int) -> pl.DataFrame:
    """Ticks of a symbol: a whole book, then depth, quotes and trades around a mid that walks."""
    rng = np.random.default_rng(seed)
    middle = 100_000 + np.cumsum(rng.integers(-1, 2, rows) * (rng.random(rows) < 0.02))
    kind = rng.choice(np.array([DEPTH, QUOTE, TRADE], np.int8), rows, p=[0.55, 0.35, 0.1])
    side = rng.choice(np.array([-1, 1], np.int8), rows)
    away = np.where(kind == DEPTH, rng.integers(1, LEVELS + 1, rows), np.where(kind == QUOTE, 1, -1))
    price, quantity = middle - side * away, rng.integers(0, 50, rows) + (kind != DEPTH)
    first = 2 * LEVELS
    kind[:first], side[:first] = SNAPSHOT, np.repeat([1, -1], LEVELS)
    price[:first] = 100_000 - side[:first] * np.tile(np.arange(1, LEVELS + 1), 2)
    quantity[:first] = 20
    ingest = START + np.sort(rng.integers(0, int(hours * HOUR_NS), rows))
    ingest[:first] = ingest[first]
    message = np.maximum(np.arange(rows), first)
    columns = {
        "symbol": pl.repeat(symbol, rows, eager=True),
        "session": pl.repeat("day", rows, eager=True),
        "sequence": np.arange(rows),
        "message": message,
        "exchange_ts": ingest,
        "ingest_ts": ingest,
        "kind": kind,
        "side": side,
        "price": price,
        "quantity": quantity.astype(np.int64),
        **dict.fromkeys(("order_id", "update_id", "previous_update_id"), np.zeros(rows, np.int64)),
        "delay_ns": rng.integers(0, 10**7, rows),
    }
    return pl.DataFrame(columns).cast(dict(TICKS.columns))


def of_the_pass(ticks: pl.DataFrame) -> None:
    """Events and samples a second of one core, without files."""
    rows, settings = rows_of(ticks), Settings()
    for _ in range(2):
        features, start = StreamingFeatures(settings, START + STEP_NS), time.process_time()
        samples = sum(len(part.moments) for part in features.take(rows))
        spent = time.process_time() - start
    print(
        f"one pass: {len(ticks):,} events and {samples:,} samples in {spent:.1f} s CPU,"
        f" {len(ticks) / spent / 1e6:.2f} M events/s"
    )


def of_the_stage(folder: Path, events: int) -> None:
    start = time.monotonic()
    run(
        Inputs(folder / "ticks"),
        Outputs(folder / "features.parquet", folder / "catalog.json", folder / "work"),
        settings=Settings().model_dump_json(),
        code="benchmark",
    )
    wall = time.monotonic() - start
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    rows = pl.scan_parquet(folder / "features.parquet").select(pl.len()).collect().item()
    print(
        f"the stage: {events:,} events of {len(SYMBOLS)} symbols, {rows:,} samples, in {wall:.1f} s wall and"
        f" {others.ru_utime + others.ru_stime:.1f} s CPU of its pieces; at most"
        f" {own.ru_maxrss / 2**20:.2f} GiB here and {others.ru_maxrss / 2**20:.2f} GiB in a piece"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, default=4.0)
    parser.add_argument("--hours", type=float, default=4.8)
    asked = parser.parse_args()
    each = int(asked.millions * 1e6) // len(SYMBOLS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, symbol in enumerate(SYMBOLS):
            ticks = made_up(each, asked.hours, symbol, number)
            about = {"code_version": "benchmark", "config_hash": json.dumps(vars(asked))}
            write_day(ticks, folder / "ticks", symbol, "day", **about)
        one = Instrument(tick_size=0.1, lot_size=0.001)
        Instruments(symbols=dict.fromkeys(SYMBOLS, one)).write(folder / "ticks" / INSTRUMENTS)
        of_the_pass(ticks)
        del ticks
        of_the_stage(folder, each * len(SYMBOLS))


if __name__ == "__main__":
    main()
