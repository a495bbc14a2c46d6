"""Touches and books that could be traded with themselves: a best bid at or above the best ask."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.compiling import compiled
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT


@dataclass(frozen=True)
class Crossed:
    """`quotes`, `levels`: for each row whether it is to go; `states` are those of touch and book after
    messages, `crossed_states` those that were crossed before such rows were taken out.
    """

    quotes: np.ndarray
    levels: np.ndarray
    states: int
    crossed_states: int


SHOWN = ("message", "kind", "side", "price", "quantity")


def crossed(ticks: pl.DataFrame) -> Crossed:
    """Find crossed touches and books. `ticks` has the columns SHOWN, with `message` counted up.

    Where a book is crossed after a message, that message's own levels at or beyond the other side's best are
    the ones that go.
    """
    message, kind, side, price, quantity = (ticks[name].to_numpy() for name in SHOWN)
    quotes, touches, bad_touches = _quotes(message, kind, side, price, quantity)
    of_levels = (kind == SNAPSHOT) | (kind == DEPTH)
    levels = np.zeros(len(kind), bool)
    prices = np.unique(price[of_levels])
    found, books, bad_books = _books(
        message[of_levels],
        kind[of_levels] == SNAPSHOT,
        side[of_levels],
        np.searchsorted(prices, price[of_levels]),
        quantity[of_levels],
        len(prices),
    )
    levels[of_levels] = found
    return Crossed(quotes, levels, touches + books, bad_touches + bad_books)


@compiled()
def _quotes(message, kind, side, price, quantity):
    """Rows of crossed touches. A crossed message does not change what its successors are compared with."""
    count = len(kind)
    bad = np.zeros(count, np.bool_)
    bid, ask = np.int64(-1), np.int64(-1)
    states, bad_states, start = 0, 0, 0
    while start < count:
        end, new_bid, new_ask, quoted = start, bid, ask, False
        while end < count and message[end] == message[start]:
            if kind[end] == QUOTE:
                quoted = True
                shown = price[end] if quantity[end] > 0 else np.int64(-1)
                if side[end] == BUY:
                    new_bid = shown
                elif side[end] == SELL:
                    new_ask = shown
            end += 1
        if quoted:
            states += 1
            if new_bid >= 0 and new_ask >= 0 and new_bid >= new_ask:
                bad_states += 1
                for k in range(start, end):
                    bad[k] = kind[k] == QUOTE
            else:
                bid, ask = new_bid, new_ask
        start = end
    return bad, states, bad_states


@compiled()
def _books(message, is_snapshot, side, rank, quantity, ranks):
    """Rows of levels that cross the book. Prices are ranks, so that a book is two arrays."""
    count = len(rank)
    bad, before = np.zeros(count, np.bool_), np.zeros(count, np.int64)
    bids, asks = np.zeros(ranks, np.int64), np.zeros(ranks, np.int64)
    bid, ask = -1, ranks
    states, bad_states, start = 0, 0, 0
    while start < count:
        end = start
        if is_snapshot[start]:
            bids[:], asks[:] = 0, 0
            bid, ask = -1, ranks
        while end < count and message[end] == message[start]:
            levels = bids if side[end] == BUY else asks
            before[end] = levels[rank[end]]
            levels[rank[end]] = quantity[end]
            if quantity[end] > 0 and side[end] == BUY:
                bid = max(bid, rank[end])
            elif quantity[end] > 0:
                ask = min(ask, rank[end])
            end += 1
        while bid >= 0 and bids[bid] == 0:
            bid -= 1
        while ask < ranks and asks[ask] == 0:
            ask += 1
        states += 1
        if bid >= ask:
            bad_states += 1
            old_bid, old_ask = bid, ask
            for k in range(end - 1, start - 1, -1):
                beyond = rank[k] >= old_ask if side[k] == BUY else rank[k] <= old_bid
                if quantity[k] > 0 and beyond:
                    bad[k] = True
                    (bids if side[k] == BUY else asks)[rank[k]] = before[k]
            bid, ask = ranks - 1, 0
            while bid >= 0 and bids[bid] == 0:
                bid -= 1
            while ask < ranks and asks[ask] == 0:
                ask += 1
        start = end
    return bad, states, bad_states
