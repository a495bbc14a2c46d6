"""What a message changes: the book, and the counts of what happened since the last sample.

The rows of a message apply together: the touch is looked at when a message is over, never within it.
"""

import numpy as np

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HIDDEN,
    REDUCE,
    SELL,
    SNAPSHOT,
    TRADE,
)
from components.order_book import levels
from components.order_book.compiled import compiled
from components.order_book.state import best, side_index
from components.tick_features.measured import (
    BOUGHT_LOTS,
    CANCELLED_LOTS,
    MESSAGES,
    NEW_LOTS,
    NOTIONAL,
    ORDER_FLOW,
    SNAPSHOTS,
    SOLD_LOTS,
    TOUCH_CHANGES,
    TRADED_LOTS,
    TRADES,
    TURNOVER,
)
from components.tick_features.state import (
    DEPTHS,
    EVERY,
    FULL,
    INGEST,
    MICROSECOND_NS,
    MID,
    NEXT,
    OPEN,
    RUN,
    SIGN,
    SINCE,
)

PRICE, LOTS = range(2)
# `at[OPEN]`: between messages, within one, within one that sends the whole book.
CLOSED, OPENED, WHOLE_BOOK = range(3)


@compiled
def count_row(book, at, counts, kind, side, price, quantity):
    """Count the lots that come and go with a row, before it changes the book.

    Who only tells depth does not say why it fell: what was traded comes off.
    """
    if at[OPEN] == CLOSED:
        at[OPEN] = OPENED
    if kind == SNAPSHOT:
        at[OPEN] = WHOLE_BOOK
    elif kind == DEPTH:
        at[DEPTHS] = 1
        more = quantity - levels.at(book.levels, side_index(side), price * side)
        counts[NEW_LOTS] += max(more, 0)
        counts[CANCELLED_LOTS] += max(-more, 0)
    elif kind == ADD:
        counts[NEW_LOTS] += quantity
    elif kind in (REDUCE, DELETE):
        counts[CANCELLED_LOTS] += quantity
    elif kind == TRADE:
        _count_trade(at, counts, side, price, quantity)
        if at[DEPTHS]:
            counts[CANCELLED_LOTS] -= quantity
    elif kind in (EXECUTE, HIDDEN):
        # These name the side of the order that rested.
        _count_trade(at, counts, -side, price, quantity)


@compiled
def _count_trade(at, counts, sign, price, quantity):
    counts[BOUGHT_LOTS if sign == BUY else SOLD_LOTS] += quantity
    counts[TRADED_LOTS] += quantity
    counts[NOTIONAL] += price * quantity
    counts[TRADES] += 1
    at[RUN] = at[RUN] + 1 if at[SIGN] == sign else 1
    at[SIGN] = sign


@compiled
def close_message(book, at, counts, touch, depth):
    """What the message that is open did to the touch; nothing where none is open."""
    if at[OPEN] == CLOSED:
        return
    told_whole = at[OPEN] == WHOLE_BOOK
    at[OPEN] = CLOSED
    counts[MESSAGES] += 1
    counts[SNAPSHOTS] += told_whole
    bid_moved = _take_touch(book, counts, touch, BUY, told_whole)
    ask_moved = _take_touch(book, counts, touch, SELL, told_whole)
    counts[TOUCH_CHANGES] += bid_moved or ask_moved
    if touch[0, LOTS] > 0 and touch[1, LOTS] > 0 and touch[0, PRICE] < touch[1, PRICE]:
        at[FULL] = 1
        at[MID] = touch[0, PRICE] + touch[1, PRICE]
        depth[0] = touch[0, LOTS] + touch[1, LOTS]
    if at[EVERY] > 0:
        at[SINCE] += 1
        if at[SINCE] >= at[EVERY]:
            at[SINCE] = 0
            # The first whole microsecond at which all of the message is known.
            at[NEXT] = min(at[NEXT], -(-at[INGEST] // MICROSECOND_NS) * MICROSECOND_NS)


@compiled
def _take_touch(book, counts, touch, side, told_whole):
    """Whether a side's touch is another one; its order flow, unless the book was sent anew."""
    at_side = side_index(side)
    old_price, old_lots = touch[at_side, PRICE], touch[at_side, LOTS]
    price, lots = best(book, side)
    if lots == old_lots and (price == old_price or lots == 0):
        return False
    touch[at_side, PRICE], touch[at_side, LOTS] = price, lots
    gained = lost = np.int64(0)
    if lots > 0 and (old_lots == 0 or price * side >= old_price * side):
        gained = lots
    if old_lots > 0 and (lots == 0 or price * side <= old_price * side):
        lost = old_lots
    if not told_whole:
        counts[ORDER_FLOW] += side * (gained - lost)
        counts[TURNOVER] += abs(gained - lost)
    return True
