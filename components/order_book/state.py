"""The book of one symbol as arrays that compiled loops take and change, and what its rows make of it.

A row is one of `components/contracts/tick_schemas.py`: kind, side, price in whole ticks, quantity in whole
lots, number of an order. What rests at a price stands in `components/order_book/levels.py`, orders by number
in `components/order_book/orders.py`.

Two things tell the touch, and they disagree at a third of all moments: quotes, which are newer, and depth.
`best` and `level` see the quote's touch where a side has had a quote, behind it the depth at worse prices;
depth at the touch or before it is stale and skipped. Behind a quote nothing is told until a snapshot has said
what the whole book is: what only changes were heard of is no book. A side without quotes is its depth. After
a snapshot of nothing the levels are unknown, and what changes them is passed over, until the next one.
"""

from typing import NamedTuple

import numpy as np

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HALT,
    QUOTE,
    RESUME,
    SNAPSHOT,
)
from components.order_book import levels, orders
from components.order_book.compiled import compiled, inlined

# Fields of `told[side]`: whether there was a quote, its price and quantity.
QUOTED, PRICE, QUANTITY = range(3)
# Fields of `told[COMMON]`: what is known of the levels, whether the last row was a snapshot's and of which
# message, whether the symbol is halted.
KNOWN, IN_SNAPSHOT, MESSAGE, HALTED = range(4)
COMMON = 2
# What is known of the levels: what rows changed since an unknown beginning; all; nothing, until a snapshot.
CHANGES, WHOLE, NOT_KNOWN = range(3)


class Book(NamedTuple):
    """A book of one symbol."""

    levels: levels.Levels
    orders: orders.Orders
    told: np.ndarray  # (3, 4) int64: of bids, of asks, of both


def new_book(window_ticks: int = 262_144, far_levels: int = 65_536, orders_at_once: int = 65_536) -> Book:
    """An empty book.

    Parameters
    ----------
    window_ticks : ticks of a side near its touch that cost the same to change; a power of two from 4,096 on
    far_levels : levels of a side that may stand outside of them; the farthest are dropped, and counted by
        `lost`, when there are more
    orders_at_once : orders by number that may rest at once; a power of two. Orders beyond count in their
        level, without a place of their own in the queue, and in `lost`
    """
    told = np.zeros((3, 4), np.int64)
    told[COMMON, KNOWN] = CHANGES
    return Book(levels.empty(window_ticks, far_levels), orders.empty(orders_at_once), told)


@compiled
def side_index(side):
    """The row of a side in the arrays of a book."""
    return (BUY - side) >> 1


@inlined
def apply(book, kind, side, price, quantity, order_id, message=-1):
    """Let one row change the book. `message` tells two snapshots apart that follow each other at once."""
    # Short, so that it becomes part of the loop that calls it: rows of most feeds are of these two kinds.
    if kind == DEPTH and book.told[COMMON, KNOWN] != NOT_KNOWN:
        book.told[COMMON, IN_SNAPSHOT] = 0
        levels.put(book.levels, side_index(side), price * side, quantity)
    elif kind == QUOTE:
        book.told[COMMON, IN_SNAPSHOT] = 0
        told = book.told[side_index(side)]
        told[QUOTED], told[PRICE], told[QUANTITY] = 1, price, quantity
    else:
        _apply_other(book, np.int64(kind), np.int64(side), price, quantity, order_id, np.int64(message))


@compiled
def _apply_other(book, kind, side, price, quantity, order_id, message):
    """Rows of all other kinds."""
    common = book.told[COMMON]
    if kind == SNAPSHOT:
        _snapshot(book, side, price, quantity, message)
        return
    common[IN_SNAPSHOT] = 0
    if kind in (HALT, RESUME):
        common[HALTED] = kind == HALT
    elif ADD <= kind <= EXECUTE and common[KNOWN] != NOT_KNOWN:
        _order(book, kind, side, price, quantity, order_id)


@compiled
def _order(book, kind, side, price, quantity, order_id):
    """An order came, lost a part, was deleted or executed."""
    whole = book.told[COMMON, KNOWN] == WHOLE
    if kind == ADD:
        orders.add(book.orders, book.levels, side, price, quantity, order_id)
    elif kind == DELETE:
        orders.delete(book.orders, book.levels, side, price, quantity, order_id, whole)
    else:
        orders.reduce(book.orders, book.levels, side, price, quantity, order_id, whole)


@compiled
def _snapshot(book, side, price, quantity, message):
    """Clear levels and orders where a snapshot begins, and take in its levels; quotes are another stream."""
    common = book.told[COMMON]
    if not common[IN_SNAPSHOT] or common[MESSAGE] != message:
        common[KNOWN], common[IN_SNAPSHOT], common[MESSAGE] = NOT_KNOWN, 1, message
        levels.clear(book.levels)
        orders.clear(book.orders)
    if quantity > 0:
        common[KNOWN] = WHOLE
        levels.put(book.levels, side_index(side), price * side, quantity)


@compiled
def apply_rows(book, kinds, sides, prices, quantities, order_ids, messages, start, stop):
    """Let rows `start` to `stop` (excluded) of these arrays change the book."""
    for row in range(start, stop):
        apply(book, kinds[row], sides[row], prices[row], quantities[row], order_ids[row], messages[row])


@compiled
def halted(book):
    """Whether the symbol is halted."""
    return book.told[COMMON, HALTED] != 0


@compiled
def lost(book):
    """Levels and orders that found no room: 0 for a book that is all there."""
    return (
        book.levels.places[0, levels.LOST]
        + book.levels.places[1, levels.LOST]
        + book.orders.counts[orders.LOST]
    )


@inlined
def best(book, side):
    """The touch of a side: price in ticks and quantity in lots, quantity 0 where the side is empty."""
    told = book.told[side_index(side)]
    if told[QUOTED]:
        return told[PRICE], told[QUANTITY]
    return best_depth(book, side)


@inlined
def best_depth(book, side):
    """Price and quantity of the best level of depth, whatever quotes say; quantity 0 where there is none."""
    key, quantity = levels.top(book.levels, side_index(side))
    return key * side, quantity


@inlined
def behind(book, side, price):
    """Price and quantity of the next level worse than `price`; quantity 0 where none is known."""
    at = side_index(side)
    if book.told[at, QUOTED] and book.told[COMMON, KNOWN] != WHOLE:
        return price, np.int64(0)
    key, quantity = levels.below(book.levels, at, price * side)
    return key * side, quantity


@compiled
def level(book, side, n):
    """The n-th best level of a side, counted from 0: price and quantity, quantity 0 where none is known."""
    price, quantity = best(book, side)
    while n > 0 and quantity > 0:
        price, quantity = behind(book, side, price)
        n -= 1
    return price, quantity


@compiled
def resting(book, side, price):
    """Lots known to rest at a price of a side, by the quote where it is the touch's."""
    told = book.told[side_index(side)]
    if told[QUOTED] and told[PRICE] == price:
        return told[QUANTITY]
    return levels.at(book.levels, side_index(side), price * side)


@compiled
def queue_ahead(book, order_id):
    """Lots before an order in the queue of its price, -1 for an order that is unknown.

    What rests there without a number came before everything that was heard of. Orders that left unheard are
    no more than the rest of what is told to rest there.
    """
    slot = orders.find(book.orders, order_id)
    if slot < 0:
        return np.int64(-1)
    order = book.orders.slots[slot]
    rests = resting(book, order[orders.SIDE], order[orders.PRICE])
    numbered, before = orders.in_queue(book.orders, slot)
    return max(min(max(rests - numbered, 0) + before, rests - order[orders.LEFT]), 0)
