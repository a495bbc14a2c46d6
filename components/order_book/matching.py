"""Own orders in a book that history moves, by price and time: what they take, when they are reached, what is
left. History does not answer to them, but what they took is gone.

For each message call `row_seen` with each of its rows and then `apply` it to the book, and at its end
`message_seen`; `submit` and `cancel` come between messages. Quantities are whole lots, prices whole ticks.

An order that rests joins behind what is shown at its price. Trades at the price take from what is before it,
and what is left of a trade fills it; trades beyond the price fill it, and so do orders of the other side that
come to rest at its price or beyond. No fill is larger than what traded or rested. What leaves a price
otherwise was cancelled: from behind, or in proportion from before and behind. Where orders have numbers,
which must rise in the order of arrival, an order is before ours if its number is not above the newest one
when ours arrived.

What we took of a level stays gone: of what leaves the level later, ours counts as the first.
"""

import numpy as np

from components.contracts.tick_schemas import ADD, BUY, DELETE, EXECUTE, HIDDEN, REDUCE, SELL, TRADE
from components.order_book.compiled import compiled
from components.order_book.desk import (
    AHEAD,
    DROPPED,
    DROPPED_AT,
    FROM_AHEAD,
    LEFT,
    NEWEST,
    PLACED,
    PLACED_SO_FAR,
    PRICE,
    RESTING,
    SHOWN,
    SIDE,
    TRADED,
    TRADED_AT,
    UNKNOWN,
    fill,
    follow_taken,
    has_room,
    shown,
    take,
)
from components.order_book.state import COMMON, KNOWN, QUOTED, WHOLE, behind, best, halted, side_index


@compiled
def submit(desk, book, slot, side, price, lots, rests, newest):
    """An order arrives: it takes what it can up to its price, and what is left rests where `rests`. Pass
    `side * NO_LIMIT` for any price. `newest`: the highest order number seen so far, 0 where there are none.

    Returns
    -------
    Lots that neither were filled nor rest. All of them where the symbol is halted or the book is crossed.
    """
    left = lots
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    if halted(book) or (bid_lots > 0 and ask_lots > 0 and bid > ask):
        return left
    at, quantity = (ask, ask_lots) if side == BUY else (bid, bid_lots)
    while left > 0 and quantity > 0 and at * side <= price * side:
        took = take(desk, -side, at, quantity, left)
        if took > 0:
            fill(desk, slot, at, took, 0)
            left -= took
        at, quantity = behind(book, -side, at)
    if left > 0 and rests:
        _rest(desk, book, slot, side, price, left, newest)
        return np.int64(0)
    return left


@compiled
def _rest(desk, book, slot, side, price, lots, newest):
    order, counts = desk.orders[slot], desk.counts
    order[SIDE], order[PRICE], order[LEFT] = side, price, lots
    order[SHOWN] = shown(book, side, price)
    touch, touch_lots = best(book, side)
    told = book.told[side_index(side), QUOTED] == 0 or book.told[COMMON, KNOWN] == WHOLE
    known = told or touch_lots == 0 or price * side >= touch * side
    order[AHEAD] = order[SHOWN] if known or order[SHOWN] > 0 else UNKNOWN
    order[NEWEST], order[PLACED] = newest, counts[PLACED_SO_FAR]
    order[DROPPED:] = 0
    counts[PLACED_SO_FAR] += 1
    counts[RESTING] += 1


@compiled
def cancel(desk, slot):
    """The cancel of an order arrives; the lots that no longer rest, 0 where it comes too late."""
    left = desk.orders[slot, LEFT]
    if left > 0:
        desk.orders[slot, LEFT] = 0
        desk.counts[RESTING] -= 1
    return left


@compiled
def _make(desk, slot, lots):
    """Fill an order that rests, at its price; the lots that it had left to fill, `lots` at most."""
    order = desk.orders[slot]
    filled = min(lots, order[LEFT])
    if filled <= 0 or not has_room(desk):
        return np.int64(0)
    fill(desk, slot, order[PRICE], filled, 1)
    order[LEFT] -= filled
    if order[LEFT] == 0:
        desk.counts[RESTING] -= 1
    return filled


@compiled
def row_seen(desk, kind, side, price, quantity, order_id, time, apart_ns):
    """What a row of a message does to resting orders; before it changes the book. A trade and the change of
    depth that it makes come in either order, at most `apart_ns` apart: 0 where they come in one message.
    """
    if desk.counts[RESTING] == 0:
        return
    if kind == TRADE:
        _traded(desk, -side, price, quantity, time, apart_ns)
    elif kind == ADD:
        _numbered(desk, side, price, quantity, order_id, True)
    elif kind == EXECUTE:
        _beyond(desk, side, price, quantity)
        _numbered(desk, side, price, -quantity, order_id, False)
    elif kind in (REDUCE, DELETE):
        _numbered(desk, side, price, -quantity, order_id, True)
    elif kind == HIDDEN:
        _beyond(desk, side, price, quantity)


@compiled
def _first(desk, side, after):
    """The slot of the order of a side that is next in price and time after that of slot `after`; -1: none."""
    found = -1
    orders = desk.orders
    for slot in range(len(orders)):
        if orders[slot, LEFT] == 0 or orders[slot, SIDE] != side:
            continue
        if after >= 0 and not _is_before(orders[after], orders[slot]):
            continue
        if found < 0 or _is_before(orders[slot], orders[found]):
            found = slot
    return found


@compiled
def _is_before(one, other):
    key, other_key = one[PRICE] * one[SIDE], other[PRICE] * other[SIDE]
    return key > other_key or (key == other_key and one[PLACED] < other[PLACED])


@compiled
def _traded(desk, side, price, quantity, time, apart_ns):
    """A trade hit this side: what is beyond the price of an order fills it, what is at its price takes from
    the queue first.
    """
    ours = np.int64(0)
    slot = _first(desk, side, -1)
    while slot >= 0 and ours < quantity:
        order = desk.orders[slot]
        after = _first(desk, side, slot)
        if order[PRICE] * side > price * side:
            order[AHEAD] = 0
            ours += _make(desk, slot, quantity - ours)
        elif order[PRICE] == price:
            ours += _reached(desk, slot, quantity - ours, time, apart_ns)
        slot = after


@compiled
def _reached(desk, slot, quantity, time, apart_ns):
    """A trade at an order's price: the lots of it that fill the order. A change of depth by as many lots has
    told of it already, which are not taken off twice.
    """
    order = desk.orders[slot]
    _forget(order, time, apart_ns)
    back = np.int64(0)
    if order[DROPPED] == quantity:
        back = order[FROM_AHEAD]
        order[DROPPED] = order[FROM_AHEAD] = 0
    else:
        order[TRADED] += quantity
        order[TRADED_AT] = time
    if order[AHEAD] == UNKNOWN:
        return np.int64(0)
    ahead = order[AHEAD] + back
    order[AHEAD] = max(ahead - quantity, 0)
    return _make(desk, slot, quantity - ahead)


@compiled
def _forget(order, time, apart_ns):
    """What trades or depth have told alone for too long, the other will not tell."""
    if order[DROPPED_AT] + apart_ns < time:
        order[DROPPED] = order[FROM_AHEAD] = 0
    if order[TRADED_AT] + apart_ns < time:
        order[TRADED] = 0


@compiled
def _numbered(desk, side, price, change, order_id, by_itself):
    """An order with a number came to or left a price of ours. One that was executed (not `by_itself`) behind
    ours would have met ours instead.
    """
    left = -change
    slot = _first(desk, side, -1)
    while slot >= 0:
        order = desk.orders[slot]
        after = _first(desk, side, slot)
        if order[PRICE] == price:
            order[SHOWN] = max(order[SHOWN] + change, 0)
            if change < 0 and order_id <= order[NEWEST]:
                order[AHEAD] = max(order[AHEAD] + change, 0) if order[AHEAD] != UNKNOWN else UNKNOWN
            elif not by_itself and left > 0:
                left -= _make(desk, slot, left)
        slot = after


@compiled
def _beyond(desk, side, price, quantity):
    """Something of this side was hit at a price: orders at better prices would have been hit first."""
    slot = _first(desk, side, -1)
    while slot >= 0 and quantity > 0:
        order = desk.orders[slot]
        after = _first(desk, side, slot)
        if order[PRICE] * side > price * side:
            order[AHEAD] = 0
            quantity -= _make(desk, slot, quantity)
        slot = after


@compiled
def message_seen(desk, book, time, in_proportion, apart_ns):
    """What a whole message, now in the book, means for resting orders and what was taken. `in_proportion`:
    cancels come from before and behind our orders alike, else from behind while there is anything; `apart_ns`
    as in `row_seen`.
    """
    follow_taken(desk, book, BUY)
    follow_taken(desk, book, SELL)
    if desk.counts[RESTING] == 0:
        return
    for slot in range(len(desk.orders)):
        if desk.orders[slot, LEFT] > 0:
            _follow_level(desk.orders[slot], book, time, in_proportion, apart_ns)
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    if bid_lots > 0 and ask_lots > 0 and bid >= ask:
        return
    if ask_lots > 0:
        _cross(desk, book, BUY, ask, ask_lots)
    if bid_lots > 0:
        _cross(desk, book, SELL, bid, bid_lots)


@compiled
def _follow_level(order, book, time, in_proportion, apart_ns):
    """What changed at an order's price without a trade: what came is behind it, what left was cancelled."""
    now = shown(book, order[SIDE], order[PRICE])
    before, order[SHOWN] = order[SHOWN], now
    if order[AHEAD] == UNKNOWN:
        order[AHEAD] = now if now > 0 else UNKNOWN
        return
    if now >= before:
        return
    _forget(order, time, apart_ns)
    traded = min(order[TRADED], before - now)
    order[TRADED] -= traded
    dropped, ahead = before - now - traded, order[AHEAD]
    off = max(dropped - (before - traded - ahead), 0)
    if in_proportion and dropped > 0:
        off = max(off, dropped * ahead // (before - traded))
    order[AHEAD] = min(max(ahead - off, 0), now)
    order[DROPPED], order[FROM_AHEAD] = dropped, ahead - order[AHEAD]
    order[DROPPED_AT] = time


@compiled
def _cross(desk, book, side, at, quantity):
    """Orders of the other side came to rest at the price of one of ours, or beyond: they would have met."""
    slot = _first(desk, side, -1)
    while slot >= 0:
        order = desk.orders[slot]
        after = _first(desk, side, slot)
        price, other = at, quantity
        while order[LEFT] > 0 and other > 0 and price * side <= order[PRICE] * side:
            _make(desk, slot, take(desk, -side, price, other, order[LEFT]))
            price, other = behind(book, -side, price)
        slot = after
