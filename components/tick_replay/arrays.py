"""What a replay of one symbol's session works on, as arrays: events, decisions, delays, and all strategies
side by side, so that history is gone through once for all of them.

Money is in half ticks times lots, so that a mid is a whole number; fees are in millionths of that, kept as a
whole part and a rest. All is int64, and exact.
"""

from typing import NamedTuple

import numpy as np

from components.order_book.desk import Desk, new_desk
from components.order_book.state import Book, new_book

NEVER = np.iinfo(np.int64).max
MILLION = 1_000_000
# Policies by their place in POLICIES; PAPER fills at once, at the mid or touch. What is none of these takes.
NONE, PASSIVE, PASSIVE_THEN_CROSS, PAPER = 0, 2, 3, 4
AT_ONCE_POLICY = "paper"
POLICIES = ("none", "taker", "passive", "passive_then_cross", AT_ONCE_POLICY)
# Fields of `plan[strategy]`.
EXPERT, POLICY, LATENCY = range(3)
# States of a trade, and of its one order: on its way, or resting.
FREE, ENTERING, HOLDING, EXITING = range(4)
NO_ORDER, SENT, WORKING = range(3)
# Fields of `trades[strategy, slot]`. SIDE is that of the entry; ENTERED and HELD are lots that came in and
# that are still there. The rest is about the order that is out: ARRIVES, CANCEL_ARRIVES, NOTICE_AT and
# PATIENCE_AT are when the next thing happens to it, NEVER where nothing will. MESSAGES counts what the trader
# sent, and says which delay comes next.
(
    STATE,
    SIDE,
    DECISION,
    WANTED,
    ENTERED,
    HELD,
    EXIT_AT,
    LEAVES,
    CROSSES,
    ORDER,
    ORDER_SIDE,
    ORDER_PRICE,
    ORDER_LOTS,
    ORDER_RESTS,
    SENT_AT,
    ARRIVES,
    CANCEL_ARRIVES,
    NOTICE_AT,
    PATIENCE_AT,
    MESSAGES,
    TRADE,
) = range(21)
TIMES = (EXIT_AT, ARRIVES, CANCEL_ARRIVES, NOTICE_AT, PATIENCE_AT)
# Fields of `ledger[strategy]`. CASH is what was received less what was paid, CASH_AT_MID the same had each
# fill been at the mid of its moment; FEES and FEES_REST. Then counts of orders and lots. SEEN is the newest
# decision that the trader knows, POINTER the next one in the order in which they become known.
(
    CASH,
    CASH_AT_MID,
    POSITION,
    FEES,
    FEES_REST,
    TRADED,
    ORDERS,
    SENT_LOTS,
    FILLED_LOTS,
    MAKER_LOTS,
    CANCELLED_LOTS,
    CANCELS,
    FAILED_CANCELS,
    MISSED,
    TRADES,
    SEEN,
    POINTER,
) = range(17)
# Fields of the curve at a bound, from CASH on.
CURVE_FIELDS = TRADED + 1
# Fields of `log[fill]`.
(
    LOG_STRATEGY,
    LOG_TRADE,
    LOG_ENTRY,
    LOG_MAKER,
    LOG_SIDE,
    LOG_DECISION,
    LOG_SENT_AT,
    LOG_AT,
    LOG_PRICE,
    LOG_LOTS,
    LOG_MID,
) = range(11)
# Fields of `cursor`: next row, next moment, next bound, fills in the log, newest order number, last known mid
# (0: none yet), when something happens to a strategy next.
ROW, MOMENT, BOUND, LOGGED, NEWEST, LAST_MID, SOONEST = range(7)
LOG_ROOM = 1 << 15
# No step logs more than this: what one desk fills between two looks, for each strategy.
FILLS_AT_ONCE = 128


class Rows(NamedTuple):
    """Events, columns of TICKS; `time` is `ingest_ts`."""

    time: np.ndarray
    kind: np.ndarray
    side: np.ndarray
    price: np.ndarray
    quantity: np.ndarray
    order_id: np.ndarray
    message: np.ndarray


class Decisions(NamedTuple):
    """Sample moments in order, and what experts want then: a share of the capital with the side as sign, 0
    for nothing.
    """

    at: np.ndarray  # (n,) ns
    holds_ns: np.ndarray  # (n,) from the moment to the end of its horizon
    wanted: np.ndarray  # (experts, n)


class Delays(NamedTuple):
    """By latency and decision, ns. `known` and `which` are when decisions become known, in that order, and
    which they are.
    """

    feed: np.ndarray  # (latencies, n)
    order: np.ndarray
    cancel: np.ndarray
    known: np.ndarray
    which: np.ndarray


class Rules(NamedTuple):
    """Settings of the loop. `capital` is in half ticks times lots, `most` the largest share of it that trades
    of one side may hold together.
    """

    capital: float
    most: float
    patience_ns: int
    trades_at_once: int  # on a side, not counting those that are to end
    renews: bool
    in_proportion: bool
    apart_ns: int
    at_touch: bool  # paper
    maker_millionths: int
    taker_millionths: int


class Scene(NamedTuple):
    """Everything; arrays of strategies lead with the strategy. `touch` is bid and ask at each moment so far,
    `bounds` are the ends of the steps of the curve, `curve_mid` twice the mid then.
    """

    book: Book
    desk: Desk
    rows: Rows
    decisions: Decisions
    delays: Delays
    rules: Rules
    plan: np.ndarray  # (strategies, 3)
    trades: np.ndarray  # (strategies, slots, 21)
    due: np.ndarray  # (strategies,)
    busy: np.ndarray  # (strategies,)
    ledger: np.ndarray  # (strategies, 17)
    touch: np.ndarray  # (n, 2)
    bounds: np.ndarray  # (steps,)
    curve: np.ndarray  # (steps, strategies, 6)
    curve_mid: np.ndarray  # (steps,)
    log: np.ndarray
    cursor: np.ndarray


def new_scene(
    rows: Rows,
    decisions: Decisions,
    delays: Delays,
    rules: Rules,
    plan: np.ndarray,
    bounds: np.ndarray,
) -> Scene:
    """A scene before its first event."""
    strategies, moments = len(plan), len(decisions.at)
    # Room for as many trades of both sides, and those that are to end.
    slots = 4 * rules.trades_at_once
    trades = np.zeros((strategies, slots, 21), np.int64)
    trades[:, :, list(TIMES)] = NEVER
    due = delays.known[plan[:, LATENCY], 0] if moments else np.full(strategies, NEVER)
    cursor = np.zeros(7, np.int64)
    cursor[SOONEST] = due.min(initial=NEVER)
    return Scene(
        new_book(),
        new_desk(slots, levels=256, fills=FILLS_AT_ONCE, desks=(strategies,)),
        rows,
        decisions,
        delays,
        rules,
        plan,
        trades,
        due.astype(np.int64),
        np.zeros(strategies, np.int64),
        np.zeros((strategies, 17), np.int64),
        np.zeros((moments, 2), np.int64),
        bounds,
        np.zeros((len(bounds), strategies, CURVE_FIELDS), np.int64),
        np.zeros(len(bounds), np.int64),
        np.zeros((LOG_ROOM + FILLS_AT_ONCE * strategies * 2, 11), np.int64),
        cursor,
    )
