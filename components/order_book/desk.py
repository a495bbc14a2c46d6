"""A desk: own orders as arrays, their fills, and what they took of a book."""

from typing import NamedTuple

import numpy as np

from components.order_book.compiled import compiled
from components.order_book.state import best, resting, side_index

# Fields of `orders[slot]`. LEFT is 0 where there is no order. AHEAD: lots before it, UNKNOWN where nobody
# knows. SHOWN: lots of others at its price, when last looked at. NEWEST: highest order number at its arrival.
# DROPPED: lots that left its price last and that no trade explained, of which FROM_AHEAD were taken off
# AHEAD, and when. TRADED: lots of trades that what is shown has not followed yet, and when.
SIDE, PRICE, LEFT, AHEAD, SHOWN, NEWEST, PLACED, DROPPED, FROM_AHEAD, DROPPED_AT, TRADED, TRADED_AT = range(
    12
)
UNKNOWN = -1
# Fields of `taken[side][n]`: a level of which we took lots, and what it showed when last looked at.
TAKEN_PRICE, TAKEN_LOTS, TAKEN_SHOWN = range(3)
# Fields of `fills[n]`.
FILL_SLOT, FILL_PRICE, FILL_LOTS, FILL_MAKER = range(4)
# Fields of `counts`: fills that nobody fetched yet, orders that rest, levels in `taken` of bids and (one
# further) of asks, orders placed so far.
FILLS, RESTING, TAKEN, PLACED_SO_FAR = 0, 1, 2, 4
NO_LIMIT = 1 << 62


class Desk(NamedTuple):
    """Own orders by slot, what they took, and their fills since somebody last set `counts[FILLS]` to 0."""

    orders: np.ndarray  # (slots, 12) int64
    taken: np.ndarray  # (2, levels, 3) int64
    fills: np.ndarray  # (most fills between two fetches, 4) int64
    counts: np.ndarray  # (5,) int64


def new_desk(slots: int, *, levels: int = 512, fills: int = 1024, desks: tuple[int, ...] = ()) -> Desk:
    """A desk without orders; with `desks` that many in arrays with these leading dimensions.

    levels : levels of a side of which lots may be taken and not replaced at one time; an order takes nothing
        of a level that finds no room
    fills : an order that would need more fills at once gets no more
    """
    return Desk(
        np.zeros((*desks, slots, 12), np.int64),
        np.zeros((*desks, 2, levels, 3), np.int64),
        np.zeros((*desks, fills, 4), np.int64),
        np.zeros((*desks, 5), np.int64),
    )


@compiled
def is_idle(desk):
    """Whether nothing of the desk depends on what happens next: no order rests, nothing is taken."""
    return desk.counts[RESTING] == 0 and desk.counts[TAKEN] == 0 and desk.counts[TAKEN + 1] == 0


@compiled
def shown(book, side, price):
    """Lots that are known to rest at a price; depth that is better than the touch is stale: none."""
    touch, lots = best(book, side)
    if lots > 0 and price * side > touch * side:
        return np.int64(0)
    return resting(book, side, price)


@compiled
def fill(desk, slot, price, lots, maker):
    """Write down a fill; there must be room for it."""
    row = desk.fills[desk.counts[FILLS]]
    row[FILL_SLOT], row[FILL_PRICE], row[FILL_LOTS], row[FILL_MAKER] = slot, price, lots, maker
    desk.counts[FILLS] += 1


@compiled
def has_room(desk):
    """Whether another fill can be written down."""
    return desk.counts[FILLS] < len(desk.fills)


@compiled
def take(desk, side, price, quantity, wanted):
    """Take lots of a level of this side; how many were there that we have not taken before."""
    levels, count = desk.taken[side_index(side)], desk.counts[TAKEN + side_index(side)]
    at = 0
    while at < count and levels[at, TAKEN_PRICE] != price:
        at += 1
    before = levels[at, TAKEN_LOTS] if at < count else np.int64(0)
    took = min(quantity - before, wanted)
    if took <= 0 or at == len(levels) or not has_room(desk):
        return np.int64(0)
    if at == count:
        desk.counts[TAKEN + side_index(side)] += 1
        levels[at, TAKEN_PRICE] = price
    levels[at, TAKEN_LOTS], levels[at, TAKEN_SHOWN] = before + took, quantity
    return took


@compiled
def follow_taken(desk, book, side):
    """What left a level since we took of it was ours first; a level of which nothing is missing is let go."""
    levels, at = desk.taken[side_index(side)], TAKEN + side_index(side)
    n = 0
    while n < desk.counts[at]:
        level = levels[n]
        now = shown(book, side, level[TAKEN_PRICE])
        gone = max(level[TAKEN_SHOWN] - now, 0)
        level[TAKEN_LOTS], level[TAKEN_SHOWN] = level[TAKEN_LOTS] - gone, now
        if level[TAKEN_LOTS] > 0:
            n += 1
            continue
        desk.counts[at] -= 1
        last = levels[desk.counts[at]]
        level[TAKEN_PRICE], level[TAKEN_LOTS] = last[TAKEN_PRICE], last[TAKEN_LOTS]
        level[TAKEN_SHOWN] = last[TAKEN_SHOWN]
