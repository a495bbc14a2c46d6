"""The market maker of `bench_tick_replay.py` in hftbacktest; runs in an environment of its own.

python hftbacktest_maker.py rows.npy looks.npy
"""

import json
import sys
import time

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTC,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit

LOOKS_NS = 100_000_000
TRADE = 3


def as_events(rows: np.ndarray) -> np.ndarray:
    """Rows of time, kind, side, price, quantity, message as hftbacktest's events."""
    found = np.zeros(len(rows), event_dtype)
    kind = np.where(rows[:, 1] == TRADE, TRADE_EVENT, DEPTH_EVENT)
    side = np.where(rows[:, 2] > 0, BUY_EVENT, SELL_EVENT)
    found["ev"] = (kind | side | EXCH_EVENT | LOCAL_EVENT).astype(np.uint64)
    found["exch_ts"] = found["local_ts"] = rows[:, 0]
    found["px"], found["qty"] = rows[:, 3], rows[:, 4]
    return found


@njit
def make_market(hbt, looks):
    count, number = 0, 1
    mine, prices = np.zeros(2, np.int64), np.zeros(2, np.int64)
    while hbt.elapse(LOOKS_NS) == 0:
        depth, orders = hbt.depth(0), hbt.orders(0)
        for slot in range(2):
            touch = depth.best_bid_tick if slot == 0 else depth.best_ask_tick
            order = orders.get(mine[slot])
            open_order = order is not None and order.cancellable
            if open_order and prices[slot] != touch:
                hbt.cancel(0, mine[slot], False)
                open_order = False
            if not open_order:
                mine[slot], prices[slot] = number, touch
                if slot == 0:
                    hbt.submit_buy_order(0, number, touch, 1.0, GTC, LIMIT, False)
                else:
                    hbt.submit_sell_order(0, number, touch, 1.0, GTC, LIMIT, False)
                number += 1
        hbt.clear_inactive_orders(0)
        looks[count, 0] = round(hbt.position(0))
        looks[count, 1] = hbt.state_values(0).num_trades
        count += 1
    return count


def maker(events: np.ndarray, looks: np.ndarray) -> tuple[float, int]:
    asset = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .constant_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(1.0)
        .lot_size(1.0)
        .last_trades_capacity(0)
    )
    hbt = HashMapMarketDepthBacktest([asset])
    begin = time.process_time()
    count = make_market(hbt, looks)
    seconds = time.process_time() - begin
    hbt.close()
    return seconds, count


def main() -> None:
    rows = np.load(sys.argv[1])
    looks = np.zeros(((rows[-1, 0] - rows[0, 0]) // LOOKS_NS + 10, 2), np.int64)
    seconds, count = 0.0, 0
    for part in (rows[:1_000], rows):
        seconds, count = maker(as_events(part), looks)
    np.save(sys.argv[2], looks[:count])
    print(json.dumps({"cpu_s": seconds}))


main()
