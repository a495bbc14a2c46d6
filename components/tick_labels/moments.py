"""What a symbol's book says at many moments, in one pass over its events: the mid, and what an order of a
given value would pay and receive.
"""

from typing import NamedTuple

import numpy as np

from components.contracts.tick_schemas import BUY, EXECUTE, HIDDEN, SELL, TRADE
from components.order_book.compiled import compiled
from components.order_book.measures import walk
from components.order_book.state import apply, best, halted

# Why nothing can be said of a moment. OVER: the session had ended; OUTSIDE: it had not begun.
KNOWN, HALTED, CROSSED, ONE_SIDED, THIN, OVER, OUTSIDE = range(7)
REASONS = {
    HALTED: "in a halt",
    CROSSED: "a crossed book",
    ONE_SIDED: "a one-sided book",
    THIN: "a book too thin for the order",
    OVER: "past the session's end",
    OUTSIDE: "before the session",
}


class Events(NamedTuple):
    """Columns of a symbol's session, in their order, int64 but for `kind` and `side`."""

    ingest_ts: np.ndarray
    kind: np.ndarray
    side: np.ndarray
    price: np.ndarray
    quantity: np.ndarray
    order_id: np.ndarray
    message: np.ndarray


class Moments(NamedTuple):
    """Of each sample [S] at each of its moments [M], prices in ticks:

    `why` 0 where all is known, `mid`, `bought` and `sold` the average price of the order, and all trades up
    to then: `value` (price less that of the first event, times quantity) and `quantity`.
    """

    why: np.ndarray
    mid: np.ndarray
    bought: np.ndarray
    sold: np.ndarray
    value: np.ndarray
    quantity: np.ndarray


def no_moments(moments: int, samples: int) -> Moments:
    """Arrays for what `look` finds, nothing known so far."""
    shape = (moments, samples)
    numbers = [np.full(shape, np.nan) for _ in range(3)]
    return Moments(np.full(shape, OVER, np.int8), *numbers, *(np.zeros(shape, np.int64) for _ in range(2)))


def look(events, book, times, value_lots, trade_kinds, found):
    """Fill `found` from the book as it stands at each of `times`, after all that was known by then.

    Parameters
    ----------
    events : Events
    book : an empty book
    times : [M, S] ns, the first row the entries, each row ascending, each column too
    value_lots : the order's value in ticks times lots
    trade_kinds : whether trades are rows of TRADE (1), or executions of orders (0)
    found : Moments of that shape
    """
    moments, samples = times.shape
    at, lots = np.zeros(moments, np.int64), np.zeros(samples, np.int64)
    _look(events, book, times, value_lots, trade_kinds, found, at, lots)


@compiled
def _look(events, book, times, value_lots, trade_kinds, found, at, lots):
    """The same, with the place of each moment and the lots of each sample's order beside."""
    moments, samples = times.shape
    rows = len(events.ingest_ts)
    value, quantity = 0, 0
    for row in range(rows + 1):
        until = events.ingest_ts[row] if row < rows else events.ingest_ts[rows - 1] + 1
        for moment in range(moments):
            while at[moment] < samples and times[moment, at[moment]] < until:
                sample = at[moment]
                at[moment] += 1
                _measure(book, moment, sample, value_lots, lots, found)
                found.value[moment, sample] = value
                found.quantity[moment, sample] = quantity
        if row == rows:
            return
        kind, side, price, lot = events.kind[row], events.side[row], events.price[row], events.quantity[row]
        traded = kind == TRADE if trade_kinds else (kind in (EXECUTE, HIDDEN))
        if traded:
            value += (price - events.price[0]) * lot
            quantity += lot
        apply(book, kind, side, price, lot, events.order_id[row], events.message[row])


@compiled
def _measure(book, moment, sample, value_lots, lots, found):
    """What the book says now of one sample's moment; the entry also says how many lots the order has."""
    bid, bids = best(book, BUY)
    ask, asks = best(book, SELL)
    if halted(book):
        found.why[moment, sample] = HALTED
    elif bids == 0 or asks == 0:
        found.why[moment, sample] = ONE_SIDED
    elif bid >= ask:
        found.why[moment, sample] = CROSSED
    else:
        mid = 0.5 * (bid + ask)
        if moment == 0:
            lots[sample] = max(np.int64(np.round(value_lots / mid)), 1)
        bought, buys = walk(book, BUY, lots[sample])
        sold, sells = walk(book, SELL, lots[sample])
        found.mid[moment, sample] = mid
        found.bought[moment, sample] = bought
        found.sold[moment, sample] = sold
        whole = buys >= lots[sample] and sells >= lots[sample] and lots[sample] > 0
        found.why[moment, sample] = KNOWN if whole else THIN
