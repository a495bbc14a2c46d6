"""hftbacktest's own book of an array of events, for `bench_order_book.py`: runs in an interpreter that has
hftbacktest 2.4.2 and imports nothing of this project.

`python hftbacktest_book.py ROWS OUT` reads `rows` (int64, (6, rows): kind 0 snapshot, 1 depth; side; price;
quantity; number; message) from the NumPy file ROWS and writes OUT, JSON: for each of its two kinds of depth
the seconds of CPU (the least of five) in which it goes to the end of the data, and the touch it has then.
"""

import json
import sys
import time

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
    event_dtype,
)
from numba import njit

RUNS = 5
STEP_NS = 1_000
FOREVER_NS = 10**18


def events(rows: np.ndarray) -> np.ndarray:
    """The rows as its events, all for the local side alone, so that one book is built and not two."""
    kind, side, price, quantity, _, message = rows
    first = int(np.argmax(kind == 0)) if (kind == 0).any() else None
    table = np.zeros(rows.shape[1] + 2 * (first is not None), event_dtype)
    flags = np.where(kind == 0, DEPTH_SNAPSHOT_EVENT, DEPTH_EVENT) | LOCAL_EVENT
    flags = flags | np.where(side > 0, BUY_EVENT, SELL_EVENT)
    columns = {"ev": flags, "px": price, "qty": quantity, "local_ts": (message + 1) * STEP_NS}
    for name, values in columns.items():
        table[name] = values if first is None else np.insert(values, first, [values[first]] * 2)
    if first is not None:
        for at, (of, sign) in enumerate(((BUY_EVENT, -1), (SELL_EVENT, 1)), start=first):
            table["ev"][at] = DEPTH_CLEAR_EVENT | LOCAL_EVENT | of
            # A side is cleared up to a price: one beyond all.
            table["px"][at] = 0 if sign < 0 else price.max() + 1
    table["exch_ts"] = table["local_ts"]
    return table


@njit
def go_to_the_end(engine):
    """Let all events pass; the touch after them."""
    engine.elapse(FOREVER_NS)
    depth = engine.depth(0)
    return depth.best_bid_tick, depth.best_ask_tick


def main(rows_path: str, out: str) -> None:
    """Write the figures of both kinds of depth."""
    rows = np.load(rows_path)
    table = events(rows)
    price = rows[2]
    low, high = np.quantile(price, [0.001, 0.999]).astype(int)
    figures = {}
    for name, build in (("hash map", HashMapMarketDepthBacktest), ("vector", ROIVectorMarketDepthBacktest)):
        spent = []
        for _ in range(RUNS + 1):
            asset = (
                BacktestAsset()
                .data(table)
                .linear_asset(1.0)
                .constant_order_latency(0, 0)
                .risk_adverse_queue_model()
                .no_partial_fill_exchange()
                .trading_value_fee_model(0.0, 0.0)
                .tick_size(1.0)
                .lot_size(1.0)
                .roi_lb(float(low))
                .roi_ub(float(high))
            )
            engine = build([asset])
            start = time.process_time()
            touch = go_to_the_end(engine)
            spent.append(time.process_time() - start)
            engine.close()
        figures[name] = {"cpu_s": min(spent[1:]), "touch": [int(tick) for tick in touch]}
    with open(out, "w") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
