"""Made-up ticks of one symbol: by depth and quotes, or by orders."""

import numpy as np
import polars as pl

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HALT,
    HIDDEN,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    SNAPSHOT,
    TICKS,
    TRADE,
)

START = 1_720_000_000_000_000_000
MILLISECOND = 1_000_000


def ticks_of(rows: list[tuple], symbol: str = "A", session: str = "one") -> pl.DataFrame:
    """TICKS of rows (message, ingest_ts, kind, side, price, quantity, order_id, delay_ns)."""
    count = len(rows)
    message, ingest, kind, side, price, quantity, order, delay = zip(*rows, strict=True)
    ingest = np.array(ingest, np.int64)
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": [session] * count,
            "sequence": np.arange(count),
            "message": np.array(message, np.int64),
            "exchange_ts": ingest,
            "ingest_ts": ingest,
            "kind": np.array(kind, np.int8),
            "side": np.array(side, np.int8),
            "price": np.array(price, np.int64),
            "quantity": np.array(quantity, np.int64),
            "order_id": np.array(order, np.int64),
            "update_id": np.zeros(count, np.int64),
            "previous_update_id": np.zeros(count, np.int64),
            "delay_ns": pl.Series(delay, dtype=pl.Int64),
        }
    )
    return frame.cast({**TICKS.columns, "delay_ns": pl.Int64})


def depth_stream(
    seed: int, messages: int, *, quotes: bool = True, gap_ms: float = 20.0, levels: int = 12
) -> pl.DataFrame:
    """Snapshots, changes of depth, quotes, trades and halts around a mid that walks."""
    rng = np.random.default_rng(seed)
    rows, now, middle = [], START, 1_000
    for number in range(messages):
        now += int(rng.exponential(gap_ms) * MILLISECOND * (rng.random() < 0.8))
        middle += int(rng.integers(-1, 2)) * (rng.random() < 0.3)
        delay = None if rng.random() < 0.1 else int(rng.integers(0, 5 * MILLISECOND))
        about = (number + 1, now)
        draw = rng.random()
        if draw < 0.03 or (number == 2 and levels):
            rows += [(*about, SNAPSHOT, *one, 0, delay) for one in _whole(rng, middle, levels)]
        elif draw < 0.5:
            rows += [
                (*about, DEPTH, *_change(rng, middle, levels), 0, delay) for _ in range(rng.integers(1, 5))
            ]
        elif draw < 0.75 and quotes:
            rows += [
                (
                    *about,
                    QUOTE,
                    side,
                    middle - side * int(rng.integers(1, 3)),
                    int(rng.integers(0, 9)),
                    0,
                    delay,
                )
                for side in (BUY, SELL)
            ]
        elif draw < 0.97:
            side = int(rng.choice([BUY, SELL]))
            rows.append((*about, TRADE, side, middle + side, int(rng.integers(1, 9)), 0, delay))
        else:
            rows.append((*about, int(rng.choice([HALT, RESUME])), 0, 0, 0, 0, delay))
    return ticks_of(rows)


def _whole(rng, middle, levels):
    return [
        (side, middle - side * (level + 1), int(rng.integers(1, 30)))
        for side in (BUY, SELL)
        for level in range(levels)
    ]


def _change(rng, middle, levels):
    side = int(rng.choice([BUY, SELL]))
    quantity = int(rng.integers(1, 30)) if rng.random() < 0.7 else 0
    return side, middle - side * int(rng.integers(1, levels + 3)), quantity


def order_stream(seed: int, messages: int, gap_ms: float = 20.0) -> pl.DataFrame:
    """Orders by number that come, lose a part, are deleted and executed; some trades that nobody saw rest."""
    rng = np.random.default_rng(seed)
    rows, resting, now = [], {}, START
    for number in range(messages):
        now += int(rng.exponential(gap_ms) * MILLISECOND * (rng.random() < 0.8))
        about, draw = (number + 1, now), rng.random()
        if draw < 0.55 or len(resting) < 6:
            side = int(rng.choice([BUY, SELL]))
            price, lots = 1_000 - side * int(rng.integers(1, 16)), int(rng.integers(2, 30))
            resting[number + 1] = [side, price, lots]
            rows.append((*about, ADD, side, price, lots, number + 1, None))
            continue
        order = int(rng.choice(list(resting)))
        side, price, lots = resting[order]
        if draw < 0.6:
            rows.append((*about, HIDDEN, side, price, int(rng.integers(1, 9)), 0, None))
            continue
        kind = DELETE if draw < 0.75 or lots == 1 else int(rng.choice([REDUCE, EXECUTE]))
        part = lots if kind == DELETE else int(rng.integers(1, lots))
        resting[order][2] -= part
        if not resting[order][2]:
            del resting[order]
        rows.append((*about, kind, side, price, part, order, None))
    return ticks_of(rows)
