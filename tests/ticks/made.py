"""A small recording of two clocks: a snapshot, a chain of depth updates, quotes and trades; no fault."""

import numpy as np
import polars as pl

from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT, TICKS, TRADE

START = 1_700_000_000_000_000_000
MS = 1_000_000
# Ids of the chain: the snapshot has FIRST, the n-th depth update FIRST + 10 * n.
FIRST = 1_000


def row(message: int, at: int, kind: int, side: int, price: int, quantity: int, **more: int) -> dict:
    """One row; `at` is the collector's time in nanoseconds."""
    return {
        "symbol": "MADE",
        "session": "2023-11-14",
        "message": message,
        "exchange_ts": more.get("exchange_ts", at + 50 * MS),
        "ingest_ts": at,
        "kind": kind,
        "side": side,
        "price": price,
        "quantity": quantity,
        "order_id": more.get("order_id", 0),
        "update_id": more.get("update_id", 0),
        "previous_update_id": more.get("previous_update_id", 0),
    }


def raw(rows: list[dict]) -> pl.DataFrame:
    """RAW_TICKS of rows in the order of arrival."""
    frame = pl.DataFrame(rows).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("sequence"))
    return frame.select(pl.col(name).cast(kind) for name, kind in TICKS.columns.items())


def snapshot(message: int, at: int, update_id: int) -> list[dict]:
    """A whole book of five levels a side around 1000.5 ticks."""
    levels = [(BUY, 1000 - k) for k in range(5)] + [(SELL, 1001 + k) for k in range(5)]
    return [row(message, at, SNAPSHOT, side, price, 10, update_id=update_id) for side, price in levels]


def depth(message: int, at: int, number: int, side: int = BUY, price: int = 999, quantity: int = 5) -> dict:
    """The `number`-th update of the chain."""
    own = FIRST + 10 * number
    return row(message, at, DEPTH, side, price, quantity, update_id=own, previous_update_id=own - 10)


def quote(message: int, at: int, number: int, bid: int = 1000, ask: int = 1001, size: int = 10) -> list[dict]:
    """The touch, with the id `number`."""
    sides = ((BUY, bid), (SELL, ask))
    return [row(message, at, QUOTE, side, price, size, update_id=number) for side, price in sides]


def clean(updates: int = 60) -> list[dict]:
    """A snapshot, then a depth update, a touch and a trade in turn, 20 ms apart."""
    rows = snapshot(0, START, FIRST)
    for n in range(1, updates + 1):
        at = START + 60 * MS * n
        rows.append(depth(3 * n - 2, at, n, BUY if n % 2 else SELL, 999 if n % 2 else 1002, 1 + n % 7))
        rows += quote(3 * n - 1, at + 20 * MS, 5_000 + n, size=1 + n % 9)
        rows.append(row(3 * n, at + 40 * MS, TRADE, SELL, 1000, 1 + n % 3, update_id=70_000 + n))
    return rows


def late_and_heavy(messages: int, rate_hz: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps of exchange and collector, and the true offset: -1.27 s drifting 0.3 ms a minute, delays
    log-normal above 0.2 ms with a Pareto tail; in the order of arrival.
    """
    rng = np.random.default_rng(seed)
    sent = np.sort(rng.uniform(0, messages / rate_hz * 1e9, messages))
    tail = np.where(rng.random(messages) < 0.01, rng.pareto(1.5, messages) * 20 * MS, 0.0)
    delay = 0.2 * MS + rng.lognormal(np.log(2 * MS), 0.8, messages) + tail
    offset = -1_270.0 * MS - 0.3 * MS * sent / 60e9
    order = np.argsort(sent + delay, kind="stable")
    exchange = (START + sent).astype(np.int64)
    ingest = exchange + (delay + offset).astype(np.int64)
    return exchange[order], np.maximum.accumulate(ingest[order]), offset[order]
