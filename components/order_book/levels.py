"""What rests at each price: a window of ticks near the touch, and sorted levels far from it.

A price is held as its key, `price * side`: the larger, the better, on both sides. The window of a side holds
the lots of each tick from `base` on, and a bit for each tick that has any, so that the next level is found
without looking at empty ticks. Levels worse than the window are sorted with the best at the end; none is
better than the window. The window moves when the touch comes near its border.
"""

from typing import NamedTuple

import numpy as np

from components.order_book.bits import WORD, clear_bit, first_from, last_before, mark, n_words, set_bit
from components.order_book.compiled import compiled, inlined

# Fields of `places[side]`: key of the window's first tick, the touch's place in it (-1 without levels), the
# number of far levels, and of those that found no room.
BASE, TOP, FAR, LOST = range(4)
# Rows of `far[side]`, both sorted by key.
KEY, LOTS = range(2)


class Levels(NamedTuple):
    """What rests at each price; the first row of each array is the bids', the second the asks'."""

    lots: np.ndarray  # (2, window) int64
    bits: np.ndarray  # (2, words) uint64
    far: np.ndarray  # (2, 2, far levels) int64: keys and lots
    places: np.ndarray  # (2, 4) int64


def empty(window: int, far: int) -> Levels:
    """No levels."""
    if window < WORD**2 or window & (window - 1):
        raise ValueError(
            f"window_ticks={window} is not a power of two from {WORD**2:,} on; choose the next one."
        )
    places = np.zeros((2, 4), np.int64)
    places[:, TOP] = -1
    return Levels(
        np.zeros((2, window), np.int64),
        np.zeros((2, n_words(window)), np.uint64),
        np.zeros((2, 2, max(far, 1)), np.int64),
        places,
    )


@compiled
def clear(levels):
    """Let nothing rest anywhere."""
    for side in range(2):
        places, bits, lots = levels.places[side], levels.bits[side], levels.lots[side]
        place = places[TOP]
        while place >= 0:
            lots[place] = 0
            place = last_before(bits, len(lots), place)
        bits[:] = 0
        places[TOP], places[FAR] = -1, 0


@inlined
def put(levels, side, key, quantity):
    """Let this quantity rest at a key, 0 for none."""
    lots, places = levels.lots, levels.places
    n = lots.shape[1]
    place = key - places[side, BASE]
    if np.uint64(place) >= np.uint64(n):
        _put_outside(levels, side, key, quantity)
        return
    lots[np.uint64(side), np.uint64(place)] = quantity
    mark(levels.bits[side], n, place, quantity > 0)
    top = places[side, TOP]
    if place >= top and (place > top) == (quantity > 0):
        _move_top(levels, side, place, quantity > 0)


@compiled
def _move_top(levels, side, place, came):
    """The touch has come to a place of the window, or left it."""
    places, n = levels.places[side], levels.lots.shape[1]
    before = places[TOP]
    places[TOP] = place if came else last_before(levels.bits[side], n, place)
    if came and before < 0:
        _move(levels, side, places[BASE] + place - n // 4 * 3)
    elif not came and places[TOP] < n // 4:
        _follow_down(levels, side)


@compiled
def _follow_down(levels, side):
    """Move the window after a touch that fell into its lowest quarter, or out of it."""
    places, n = levels.places[side], levels.lots.shape[1]
    if places[TOP] >= 0:
        _move(levels, side, places[BASE] + places[TOP] - n // 4 * 3)
    elif places[FAR] > 0:
        _move(levels, side, levels.far[side, KEY, places[FAR] - 1] - n // 4 * 3)


@compiled
def _put_outside(levels, side, key, quantity):
    """The same for a key that the window does not hold."""
    places, n = levels.places[side], levels.lots.shape[1]
    if key < places[BASE] and places[TOP] >= 0:
        _put_far(levels, side, key, quantity)
    elif quantity > 0:
        _move(levels, side, key - n // 4 * 3)
        place = n // 4 * 3
        levels.lots[side, place] = quantity
        set_bit(levels.bits[side], n, place)
        places[TOP] = place


@compiled
def _move(levels, side, base):
    """Let the window begin at another key; what leaves it becomes far, what it reaches comes back."""
    places, bits, lots = levels.places[side], levels.bits[side], levels.lots[side]
    n, shift = len(lots), base - places[BASE]
    places[BASE] = base
    if shift > 0:
        place = first_from(bits, n, 0)
        while place >= 0:
            quantity = lots[place]
            lots[place] = 0
            clear_bit(bits, n, place)
            if place >= shift:
                lots[place - shift] = quantity
                set_bit(bits, n, place - shift)
            else:
                _put_far(levels, side, base - shift + place, quantity)
            place = first_from(bits, n, place + 1)
    elif shift < 0:
        place = places[TOP]
        while place >= 0:
            quantity = lots[place]
            lots[place] = 0
            clear_bit(bits, n, place)
            lots[place - shift] = quantity
            set_bit(bits, n, place - shift)
            place = last_before(bits, n, place)
    far = levels.far[side]
    while places[FAR] > 0 and far[KEY, places[FAR] - 1] >= base:
        places[FAR] -= 1
        place = far[KEY, places[FAR]] - base
        lots[place] = far[LOTS, places[FAR]]
        set_bit(bits, n, place)
    places[TOP] = last_before(bits, n, n)


@compiled
def _far_place(keys, count, key):
    """How many of the first `count` sorted keys are below `key`."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _put_far(levels, side, key, quantity):
    """Change a level that is worse than the window."""
    places, far = levels.places[side], levels.far[side]
    count = places[FAR]
    at = _far_place(far[KEY], count, key)
    stands = at < count and far[KEY, at] == key
    if stands and quantity > 0:
        far[LOTS, at] = quantity
    elif stands:
        for n in range(at, count - 1):
            far[KEY, n], far[LOTS, n] = far[KEY, n + 1], far[LOTS, n + 1]
        places[FAR] -= 1
    elif quantity > 0:
        _insert_far(places, far, at, key, quantity)


@compiled
def _insert_far(places, far, at, key, quantity):
    """Put a new far level at its place; without room the worst of all goes."""
    count = places[FAR]
    if count == far.shape[1]:
        places[LOST] += 1
        if at > 0:
            for n in range(at - 1):
                far[KEY, n], far[LOTS, n] = far[KEY, n + 1], far[LOTS, n + 1]
            far[KEY, at - 1], far[LOTS, at - 1] = key, quantity
        return
    for n in range(count, at, -1):
        far[KEY, n], far[LOTS, n] = far[KEY, n - 1], far[LOTS, n - 1]
    far[KEY, at], far[LOTS, at] = key, quantity
    places[FAR] = count + 1


@inlined
def top(levels, side):
    """Key and lots of the best level, 0 lots where there is none."""
    place = levels.places[side, TOP]
    if place < 0:
        return np.int64(0), np.int64(0)
    return levels.places[side, BASE] + place, levels.lots[side, place]


@compiled
def at(levels, side, key):
    """Lots that rest at a key."""
    lots, far = levels.lots[side], levels.far[side]
    place = key - levels.places[side, BASE]
    if 0 <= place < len(lots):
        return lots[place]
    count = levels.places[side, FAR]
    stands = _far_place(far[KEY], count, key)
    return far[LOTS, stands] if stands < count and far[KEY, stands] == key else np.int64(0)


@inlined
def below(levels, side, key):
    """Key and lots of the best level that is worse than a key, 0 lots where there is none."""
    places, lots, far = levels.places[side], levels.lots[side], levels.far[side]
    place = min(key - places[BASE], places[TOP] + 1)
    if place > 0:
        place = last_before(levels.bits[side], len(lots), place)
        if place >= 0:
            return places[BASE] + place, lots[place]
    worse = _far_place(far[KEY], places[FAR], key)
    if worse > 0:
        return far[KEY, worse - 1], far[LOTS, worse - 1]
    return key, np.int64(0)
