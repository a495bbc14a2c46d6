"""The book on recordings: LOBSTER's touch after every message, an exchange's depth beside its quotes."""

import numpy as np
import pytest
from numba import njit

from components.contracts.tick_schemas import BUY, SELL, SNAPSHOT
from components.order_book import measures, state
from tests.order_book.recordings import (
    EVENTS,
    LEVELS,
    LOBSTER,
    depth_messages,
    lobster_orders,
    lobster_touch,
)

needs_lobster = pytest.mark.skipif(not LOBSTER.exists(), reason="ALPHALOOP_DATA has no LOBSTER messages")
needs_depth = pytest.mark.skipif(
    not (EVENTS.exists() and LEVELS.exists()), reason="ALPHALOOP_DATA has no recorded depth messages"
)
SAME, REVEALED, WRONG = range(3)


@njit
def _follow(book, rows, touches):
    """How often the touch of orders is the file's, is one that the file had not shown before, or is wrong."""
    found = np.zeros(3, np.int64)
    for n in range(rows.shape[1]):
        kind, side, price, quantity, order_id, message = rows[:, n]
        state.apply(book, kind, side, price, quantity, order_id, message)
        same, worse = True, n == 0
        for side, first in ((BUY, 0), (SELL, 2)):
            price, quantity = state.best_depth(book, side)
            same &= price == touches[first, n] and quantity == touches[first + 1, n]
            worse |= n > 0 and (touches[first, n] - touches[first, n - 1]) * side < 0
        found[SAME if same else REVEALED if worse else WRONG] += 1
        if not same:
            state.apply(book, SNAPSHOT, BUY, touches[0, n], touches[1, n], 0, n)
            state.apply(book, SNAPSHOT, SELL, touches[2, n], touches[3, n], 0, n)
    return found


@needs_lobster
def test_orders_lead_to_lobsters_touch_at_every_message():
    """A file of one level does not say what stands behind the touch: where the touch is used up, the level
    that shows is taken from the file. At every other message the book finds it alone.
    """
    rows, touches = lobster_orders(), np.ascontiguousarray(lobster_touch().to_numpy().T)
    same, revealed, wrong = _follow(state.new_book(), rows, touches)
    assert (same, revealed, wrong) == (48_389, 9_126, 0)
    # What the test must catch: one order's lots are off by one.
    rows[3, 1_000] += 1
    assert _follow(state.new_book(), rows, touches)[WRONG] > 0


STATES, CROSSED, QUOTES_CROSSED, DIFFER, UNKNOWN = range(5)


@njit
def _compare(book, rows):
    """Messages after which both touches of a whole book are there; those with crossed depth, crossed quotes,
    where both touches have other prices, and where a walk of 1,000 lots is unknown.
    """
    found = np.zeros(5, np.int64)
    for n in range(rows.shape[1]):
        kind, side, price, quantity, order_id, message = rows[:, n]
        state.apply(book, kind, side, price, quantity, order_id, message)
        if n + 1 < rows.shape[1] and rows[5, n + 1] == message:
            continue
        bid, ask = state.best_depth(book, BUY), state.best_depth(book, SELL)
        if book.told[state.COMMON, state.KNOWN] != state.WHOLE or bid[1] == 0 or ask[1] == 0:
            continue
        found[STATES] += 1
        found[CROSSED] += bid[0] >= ask[0]
        found[QUOTES_CROSSED] += measures.spread(book) <= 0
        found[DIFFER] += bid[0] != state.best(book, BUY)[0] or ask[0] != state.best(book, SELL)[0]
        found[UNKNOWN] += np.isnan(measures.walk(book, BUY, 1_000)[0])
    return found


@needs_depth
@pytest.mark.parametrize(
    ("symbol", "session", "share"),
    [("BTCUSDT.USDM", "2024-07-18", 0.303), ("BTCUSDT.SPOT", "2024-08-08", 0.451)],
)
def test_recorded_depth_is_never_crossed_and_often_behind_its_quotes(symbol, session, share):
    book = state.new_book()
    found = _compare(book, depth_messages(symbol, session))
    assert found[STATES] > 60_000
    assert found[CROSSED] == found[QUOTES_CROSSED] == found[UNKNOWN] == state.lost(book) == 0
    assert found[DIFFER] / found[STATES] == pytest.approx(share, abs=0.001)


@needs_depth
def test_a_snapshot_that_clears_newer_updates_leaves_the_book_crossed():
    rows = depth_messages("BTCUSDT.SPOT", "2024-08-08")
    # The snapshot's rows a message later, behind an update that is newer than it.
    rows[5, rows[0] == SNAPSHOT] += 2
    rows = np.ascontiguousarray(rows[:, np.argsort(rows[5], kind="stable")])
    found = _compare(state.new_book(), rows)
    assert found[CROSSED] / found[STATES] > 0.5
