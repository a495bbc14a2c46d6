"""Orders by number, and the queue of each price in the order in which they came.

An order has a slot; two hash tables with open addressing lead from its number, and from a price, to slots.
The slots of one price are chained, the first that came in front.
"""

from typing import NamedTuple

import numpy as np

from components.contracts.tick_schemas import BUY
from components.order_book import levels
from components.order_book.compiled import compiled

# Fields of a slot. The first order of a price carries the last one's slot and the lots of all of them.
NUMBER, SIDE, PRICE, LEFT, BEFORE, AFTER, LAST, TOGETHER = range(8)
# Fields of `counts`: slots ever used, the first of those given back (as slot + 1), orders without room.
USED, FREE, LOST = range(3)
# Rows of `index`: by number, by price; a slot + 1, 0 for none.
BY_NUMBER, BY_PRICE = range(2)
SPREADING = np.uint64(0x9E3779B97F4A7C15)


class Orders(NamedTuple):
    """Orders by number."""

    slots: np.ndarray  # (orders, 8) int64
    index: np.ndarray  # (2, 2 * orders) int64
    counts: np.ndarray  # (3,) int64


def empty(room: int) -> Orders:
    """No orders."""
    if room < 1 or room & (room - 1):
        raise ValueError(f"orders_at_once={room} is not a power of two; choose the next one.")
    return Orders(np.zeros((room, 8), np.int64), np.zeros((2, 2 * room), np.int64), np.zeros(3, np.int64))


@compiled
def clear(orders):
    """Forget all orders."""
    if orders.counts[USED] > 0:
        orders.index[:] = 0
        orders.counts[USED] = orders.counts[FREE] = 0


@compiled
def _key(slot, which):
    """What a slot is found by in an index."""
    return slot[NUMBER] if which == BY_NUMBER else slot[PRICE] * 2 + (slot[SIDE] == BUY)


@compiled
def _home(index, key):
    """Where a key is looked for first."""
    mixed = np.uint64(key) * SPREADING
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(index) - 1))


@compiled
def _look(orders, which, key):
    """The place of a key in an index, or the free place where it would stand."""
    index = orders.index[which]
    place = _home(index, key)
    while index[place] and _key(orders.slots[index[place] - 1], which) != key:
        place = (place + 1) & (len(index) - 1)
    return place


@compiled
def _forget(orders, which, place):
    """Free a place of an index, and close the gap so that those behind it are still found."""
    index = orders.index[which]
    last = len(index) - 1
    gap = place
    while True:
        index[gap] = 0
        while True:
            place = (place + 1) & last
            if index[place] == 0:
                return
            home = _home(index, _key(orders.slots[index[place] - 1], which))
            if ((place - home) & last) >= ((place - gap) & last):
                break
        index[gap] = index[place]
        gap = place


@compiled
def find(orders, number):
    """The slot of an order, -1 where it is unknown."""
    return orders.index[BY_NUMBER, _look(orders, BY_NUMBER, number)] - 1


@compiled
def _queue(orders, side, price):
    """The slot of the first order at a price, -1 for none."""
    return orders.index[BY_PRICE, _look(orders, BY_PRICE, price * 2 + (side == BUY))] - 1


@compiled
def _change_level(rests, side, price, change):
    """Let more or less rest at a price, never less than nothing."""
    row = 0 if side == BUY else 1
    levels.put(rests, row, price * side, max(levels.at(rests, row, price * side) + change, 0))


@compiled
def add(orders, rests, side, price, quantity, number):
    """An order came. One that has the number of another takes its place."""
    slot = find(orders, number)
    if slot >= 0:
        _leave(orders, rests, slot, orders.slots[slot, LEFT])
    if quantity <= 0:
        return
    _change_level(rests, side, price, quantity)
    slot = _take_slot(orders)
    if slot < 0:
        return
    order = orders.slots[slot]
    order[NUMBER], order[SIDE], order[PRICE], order[LEFT] = number, side, price, quantity
    order[AFTER] = -1
    orders.index[BY_NUMBER, _look(orders, BY_NUMBER, number)] = slot + 1
    place = _look(orders, BY_PRICE, price * 2 + (side == BUY))
    first = orders.index[BY_PRICE, place] - 1
    if first < 0:
        orders.index[BY_PRICE, place] = slot + 1
        order[BEFORE], order[LAST], order[TOGETHER] = -1, slot, quantity
    else:
        head = orders.slots[first]
        order[BEFORE] = head[LAST]
        orders.slots[head[LAST], AFTER] = slot
        head[LAST] = slot
        head[TOGETHER] += quantity


@compiled
def _take_slot(orders):
    """A free slot, -1 where there is none."""
    counts = orders.counts
    if counts[FREE] > 0:
        slot = counts[FREE] - 1
        counts[FREE] = orders.slots[slot, AFTER]
        return slot
    if counts[USED] == len(orders.slots):
        counts[LOST] += 1
        return np.int64(-1)
    counts[USED] += 1
    return counts[USED] - 1


@compiled
def reduce(orders, rests, side, price, quantity, number, whole):
    """An order lost a part, or was executed in part or whole; `whole` as in `_reduce_unknown`."""
    slot = find(orders, number)
    if slot < 0:
        _reduce_unknown(orders, rests, side, price, quantity, whole)
    else:
        _leave(orders, rests, slot, min(quantity, orders.slots[slot, LEFT]))


@compiled
def delete(orders, rests, side, price, quantity, number, whole):
    """An order was deleted: all that was left of it, whatever the row says; `whole` as in `reduce`."""
    slot = find(orders, number)
    if slot < 0:
        _reduce_unknown(orders, rests, side, price, quantity, whole)
    else:
        _leave(orders, rests, slot, orders.slots[slot, LEFT])


@compiled
def _reduce_unknown(orders, rests, side, price, quantity, whole):
    """Take from what rests at a price what left there without a number that is known.

    In a book of which all is known (`whole`) it is gone from there: its order has changed its number. In one
    with an unknown beginning it is taken from what rests without a number, for it may have been there before.
    """
    row = 0 if side == BUY else 1
    there = levels.at(rests, row, price * side)
    first = np.int64(-1) if whole else _queue(orders, side, price)
    numbered = orders.slots[first, TOGETHER] if first >= 0 else 0
    taken = min(quantity, there - numbered)
    if taken > 0:
        levels.put(rests, row, price * side, there - taken)


@compiled
def _leave(orders, rests, slot, quantity):
    """Take a quantity off an order, and the order out of its queue when nothing is left."""
    order = orders.slots[slot]
    side, price = order[SIDE], order[PRICE]
    first = _queue(orders, side, price)
    _change_level(rests, side, price, -quantity)
    order[LEFT] -= quantity
    orders.slots[first, TOGETHER] -= quantity
    if order[LEFT] == 0:
        _unchain(orders, slot, first)
        order[AFTER] = orders.counts[FREE]
        orders.counts[FREE] = slot + 1


@compiled
def _unchain(orders, slot, first):
    """Take an order out of its queue and of both indices."""
    order = orders.slots[slot]
    _forget(orders, BY_NUMBER, _look(orders, BY_NUMBER, order[NUMBER]))
    if slot != first:
        orders.slots[order[BEFORE], AFTER] = order[AFTER]
        if order[AFTER] >= 0:
            orders.slots[order[AFTER], BEFORE] = order[BEFORE]
        else:
            orders.slots[first, LAST] = order[BEFORE]
        return
    place = _look(orders, BY_PRICE, order[PRICE] * 2 + (order[SIDE] == BUY))
    following = order[AFTER]
    if following < 0:
        _forget(orders, BY_PRICE, place)
    else:
        orders.slots[following, BEFORE] = -1
        orders.slots[following, LAST], orders.slots[following, TOGETHER] = order[LAST], order[TOGETHER]
        orders.index[BY_PRICE, place] = following + 1


@compiled
def in_queue(orders, slot):
    """Lots of all numbered orders at an order's price, and of those before it."""
    order = orders.slots[slot]
    first = _queue(orders, order[SIDE], order[PRICE])
    before, other = np.int64(0), first
    while other != slot:
        before += orders.slots[other, LEFT]
        other = orders.slots[other, AFTER]
    return orders.slots[first, TOGETHER], before
