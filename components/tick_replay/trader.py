"""What a strategy does when something reaches it, compiled: decisions open trades, a trade has one order out
at a time, and learns what became of it when the notice arrives.

A trade enters on a decision, and leaves when its horizon is over (as the trader's clock has it) or a decision
for the other side becomes known; one for the same side may hold it for longer. A cancel may arrive before the
order that it is for, or after its fill.
"""

import numpy as np

from components.contracts.tick_schemas import BUY, SELL
from components.order_book import desk as desks
from components.order_book import matching
from components.order_book.compiled import compiled
from components.order_book.desk import NO_LIMIT, Desk
from components.order_book.state import best, halted
from components.tick_replay import arrays
from components.tick_replay.arrays import (
    ARRIVES,
    CANCEL_ARRIVES,
    DECISION,
    ENTERED,
    ENTERING,
    EXIT_AT,
    EXITING,
    FREE,
    HELD,
    HOLDING,
    LATENCY,
    LEAVES,
    MESSAGES,
    NEVER,
    NO_ORDER,
    NOTICE_AT,
    ORDER,
    ORDER_LOTS,
    ORDER_PRICE,
    ORDER_RESTS,
    ORDER_SIDE,
    PAPER,
    PASSIVE,
    PASSIVE_THEN_CROSS,
    PATIENCE_AT,
    POLICY,
    POSITION,
    SENT,
    SENT_AT,
    SIDE,
    STATE,
    WANTED,
    WORKING,
)


@compiled
def desk_of(scene, strategy):
    """The desk of one strategy."""
    desk = scene.desk
    return Desk(desk.orders[strategy], desk.taken[strategy], desk.fills[strategy], desk.counts[strategy])


@compiled
def double_mid(scene):
    """Bid plus ask; where a side is empty, what it was when last looked at; 0 where it was never known."""
    bid, bid_lots = best(scene.book, BUY)
    ask, ask_lots = best(scene.book, SELL)
    if bid_lots > 0 and ask_lots > 0:
        scene.cursor[arrays.LAST_MID] = bid + ask
    return scene.cursor[arrays.LAST_MID]


@compiled
def _delay(scene, strategy, trade, delays):
    """The next delay of a trade's messages."""
    at = (trade[DECISION] + trade[MESSAGES]) % delays.shape[1]
    trade[MESSAGES] += 1
    return delays[scene.plan[strategy, LATENCY], at]


@compiled
def decided(scene, strategy, now, decision):
    """A decision becomes known to the trader; one that newer ones overtook is no news."""
    ledger, decisions = scene.ledger[strategy], scene.decisions
    if decision < ledger[arrays.SEEN]:
        return
    ledger[arrays.SEEN] = decision
    share = decisions.wanted[scene.plan[strategy, arrays.EXPERT], decision]
    policy, bid, ask = scene.plan[strategy, POLICY], scene.touch[decision, 0], scene.touch[decision, 1]
    if share == 0 or policy == arrays.NONE:
        return
    side = BUY if share > 0 else SELL
    trades, rules = scene.trades[strategy], scene.rules
    free, oldest, together, held = -1, -1, 0, 0
    for slot in range(len(trades)):
        trade = trades[slot]
        if trade[STATE] == FREE:
            free = slot if free < 0 else free
        elif trade[SIDE] != side:
            if not trade[LEAVES]:
                leave(scene, strategy, slot, now)
        else:
            if not trade[LEAVES]:
                together += 1
                oldest = slot if oldest < 0 or trade[EXIT_AT] < trades[oldest, EXIT_AT] else oldest
            held += trade[HELD] if trade[STATE] >= HOLDING else trade[WANTED]
    feed = scene.delays.feed[scene.plan[strategy, LATENCY], decision]
    exit_at = decisions.at[decision] + decisions.holds_ns[decision] + feed
    if together >= rules.trades_at_once:
        if rules.renews:
            trades[oldest, EXIT_AT] = max(trades[oldest, EXIT_AT], exit_at)
        return
    if free < 0 or bid == 0 or ask == 0:
        return
    # Price and size are those of the moment, which is what the trader knows of.
    room = np.int64(rules.most * rules.capital / (bid + ask)) - held
    lots = min(np.int64(abs(share) * rules.capital / (bid + ask)), room)
    if lots <= 0:
        return
    trade = trades[free]
    trade[:] = 0
    for field in arrays.TIMES:
        trade[field] = NEVER
    trade[STATE], trade[SIDE], trade[DECISION], trade[WANTED] = ENTERING, side, decision, lots
    trade[arrays.TRADE] = ledger[arrays.TRADES]
    ledger[arrays.TRADES] += 1
    trade[EXIT_AT] = exit_at
    _send(scene, strategy, trade, now, side, lots)


@compiled
def _send(scene, strategy, trade, now, side, lots):
    """Send an order as the policy has it; the price of one that rests is the newest touch that is known. An
    order that would have to rest beside an empty side crosses.
    """
    policy, ledger = scene.plan[strategy, POLICY], scene.ledger[strategy]
    rests = policy == PASSIVE or (policy == PASSIVE_THEN_CROSS and not trade[arrays.CROSSES])
    price = side * NO_LIMIT
    if rests:
        price = scene.touch[ledger[arrays.SEEN], 0 if side == BUY else 1]
        rests = price > 0
        price = price if rests else side * NO_LIMIT
        trade[PATIENCE_AT] = now + scene.rules.patience_ns if rests else NEVER
    trade[ORDER], trade[ORDER_SIDE], trade[ORDER_PRICE] = SENT, side, price
    trade[ORDER_LOTS], trade[ORDER_RESTS], trade[SENT_AT] = lots, rests, now
    trade[ARRIVES] = now + _delay(scene, strategy, trade, scene.delays.order)
    ledger[arrays.ORDERS] += 1
    ledger[arrays.SENT_LOTS] += lots


@compiled
def arrives(scene, strategy, slot, now):
    """An order arrives at the exchange."""
    trade, ledger = scene.trades[strategy, slot], scene.ledger[strategy]
    trade[ARRIVES] = NEVER
    side, lots = trade[ORDER_SIDE], trade[ORDER_LOTS]
    if scene.plan[strategy, POLICY] == PAPER:
        gone = _paper(scene, strategy, slot, now)
    else:
        desk, newest = desk_of(scene, strategy), scene.cursor[arrays.NEWEST]
        gone = matching.submit(
            desk, scene.book, slot, side, trade[ORDER_PRICE], lots, trade[ORDER_RESTS] != 0, newest
        )
        trade[ORDER] = WORKING
        fetch(scene, strategy, now)
    ledger[arrays.CANCELLED_LOTS] += gone
    if scene.desk.orders[strategy, slot, desks.LEFT] == 0:
        _ended(scene, strategy, trade, now)


@compiled
def _paper(scene, strategy, slot, now):
    """Fill an order whole, at the mid or the touch; the lots that were not: all where no order is taken."""
    trade = scene.trades[strategy, slot]
    side, lots = trade[ORDER_SIDE], trade[ORDER_LOTS]
    bid, bid_lots = best(scene.book, BUY)
    ask, ask_lots = best(scene.book, SELL)
    if halted(scene.book) or bid_lots == 0 or ask_lots == 0 or bid > ask:
        return lots
    price = bid + ask
    if scene.rules.at_touch:
        price = 2 * ask if side == BUY else 2 * bid
    _filled(scene, strategy, trade, now, price, lots, 0, 0)
    return np.int64(0)


@compiled
def fetch(scene, strategy, now):
    """Book the fills of a strategy's desk."""
    counts, fills = scene.desk.counts[strategy], scene.desk.fills[strategy]
    rules = scene.rules
    for n in range(counts[desks.FILLS]):
        slot, maker = fills[n, desks.FILL_SLOT], fills[n, desks.FILL_MAKER]
        rate = rules.maker_millionths if maker else rules.taker_millionths
        price, lots = 2 * fills[n, desks.FILL_PRICE], fills[n, desks.FILL_LOTS]
        trade = scene.trades[strategy, slot]
        _filled(scene, strategy, trade, now, price, lots, maker, rate)
    counts[desks.FILLS] = 0


@compiled
def rested_and_filled(scene, strategy, now):
    """Orders that rested and were filled have ended; call after `fetch`."""
    for slot in range(scene.trades.shape[1]):
        trade = scene.trades[strategy, slot]
        if trade[ORDER] == WORKING and scene.desk.orders[strategy, slot, desks.LEFT] == 0:
            _ended(scene, strategy, trade, now)


@compiled
def _filled(scene, strategy, trade, now, price, lots, maker, rate):
    """Book a fill: `price` in half ticks, `rate` in millionths of the value."""
    ledger, side, middle = scene.ledger[strategy], trade[ORDER_SIDE], double_mid(scene)
    value = price * lots
    ledger[arrays.CASH] -= side * value
    ledger[arrays.CASH_AT_MID] -= side * (middle if middle > 0 else price) * lots
    ledger[POSITION] += side * lots
    fee = ledger[arrays.FEES_REST] + value * rate
    ledger[arrays.FEES] += fee // arrays.MILLION
    ledger[arrays.FEES_REST] = fee % arrays.MILLION
    ledger[arrays.TRADED] += value
    ledger[arrays.FILLED_LOTS] += lots
    ledger[arrays.MAKER_LOTS] += lots * maker
    entry = trade[STATE] == ENTERING
    trade[ENTERED] += lots * entry
    trade[HELD] += lots if entry else -lots
    row = scene.log[scene.cursor[arrays.LOGGED]]
    row[arrays.LOG_STRATEGY], row[arrays.LOG_TRADE], row[arrays.LOG_ENTRY] = (
        strategy,
        trade[arrays.TRADE],
        entry,
    )
    row[arrays.LOG_MAKER], row[arrays.LOG_SIDE], row[arrays.LOG_DECISION] = maker, side, trade[DECISION]
    row[arrays.LOG_SENT_AT], row[arrays.LOG_AT], row[arrays.LOG_PRICE] = trade[SENT_AT], now, price
    row[arrays.LOG_LOTS], row[arrays.LOG_MID] = lots, middle
    scene.cursor[arrays.LOGGED] += 1


@compiled
def _ended(scene, strategy, trade, now):
    """Nothing is left of an order at the exchange; the trader hears of it later."""
    trade[ORDER], trade[PATIENCE_AT] = NO_ORDER, NEVER
    trade[NOTICE_AT] = now + _delay(scene, strategy, trade, scene.delays.feed)


@compiled
def _cancel(scene, strategy, trade, now):
    """Send a cancel, unless one is on its way or the order has ended."""
    trade[PATIENCE_AT] = NEVER
    if trade[ORDER] != NO_ORDER and trade[CANCEL_ARRIVES] == NEVER:
        trade[CANCEL_ARRIVES] = now + _delay(scene, strategy, trade, scene.delays.cancel)
        scene.ledger[strategy, arrays.CANCELS] += 1


@compiled
def cancel_arrives(scene, strategy, slot, now):
    """A cancel arrives: it ends an order that rests, and fails before its order came or after it ended."""
    trade, ledger = scene.trades[strategy, slot], scene.ledger[strategy]
    trade[CANCEL_ARRIVES] = NEVER
    if trade[ORDER] == WORKING:
        ledger[arrays.CANCELLED_LOTS] += matching.cancel(desk_of(scene, strategy), slot)
        _ended(scene, strategy, trade, now)
        return
    ledger[arrays.FAILED_CANCELS] += 1
    if trade[ORDER] == SENT:
        # The trader hears that there is no such order yet, and sends another cancel.
        heard = now + _delay(scene, strategy, trade, scene.delays.feed)
        _cancel(scene, strategy, trade, max(heard, trade[ARRIVES]))


@compiled
def out_of_patience(scene, strategy, slot, now):
    """An order has rested for long enough: it stays while it is at the touch and never crosses, else goes."""
    trade = scene.trades[strategy, slot]
    side = trade[ORDER_SIDE]
    touch = scene.touch[scene.ledger[strategy, arrays.SEEN], 0 if side == BUY else 1]
    if scene.plan[strategy, POLICY] == PASSIVE and touch == trade[ORDER_PRICE]:
        trade[PATIENCE_AT] = now + scene.rules.patience_ns
        return
    trade[arrays.CROSSES] = scene.plan[strategy, POLICY] == PASSIVE_THEN_CROSS
    _cancel(scene, strategy, trade, now)


@compiled
def leave(scene, strategy, slot, now):
    """A trade is to end, as fast as what is out allows."""
    trade = scene.trades[strategy, slot]
    trade[EXIT_AT], trade[LEAVES] = NEVER, 1
    if trade[STATE] == HOLDING:
        _send_exit(scene, strategy, trade, now)
    elif trade[STATE] == ENTERING and trade[ORDER_RESTS] and trade[NOTICE_AT] == NEVER:
        _cancel(scene, strategy, trade, now)


@compiled
def _send_exit(scene, strategy, trade, now):
    trade[STATE], trade[arrays.CROSSES] = EXITING, 0
    _send(scene, strategy, trade, now, -trade[SIDE], trade[HELD])


@compiled
def noticed(scene, strategy, slot, now):
    """The trader hears that an order has ended, and what it filled."""
    trade = scene.trades[strategy, slot]
    trade[NOTICE_AT] = NEVER
    if trade[CANCEL_ARRIVES] != NEVER:
        # A cancel is still on its way, and will find nothing: the trader waits for the answer.
        trade[NOTICE_AT] = trade[CANCEL_ARRIVES] + _delay(scene, strategy, trade, scene.delays.feed)
        return
    if trade[STATE] == EXITING:
        if trade[HELD] > 0:
            _send_again(scene, strategy, trade, now, -trade[SIDE], trade[HELD])
        else:
            trade[STATE] = FREE
        return
    left = trade[WANTED] - trade[ENTERED]
    if left > 0 and trade[ORDER_RESTS] and not trade[LEAVES]:
        _send_again(scene, strategy, trade, now, trade[SIDE], left)
    elif trade[HELD] > 0:
        trade[STATE] = HOLDING
        if trade[LEAVES]:
            _send_exit(scene, strategy, trade, now)
    else:
        scene.ledger[strategy, arrays.MISSED] += 1
        trade[STATE], trade[EXIT_AT] = FREE, NEVER


@compiled
def _send_again(scene, strategy, trade, now, side, lots):
    """What is left of an order goes out again; it arrives once the market has moved, not before."""
    _send(scene, strategy, trade, now, side, lots)
    row = scene.cursor[arrays.ROW]
    if row < len(scene.rows.time):
        trade[ARRIVES] = max(trade[ARRIVES], scene.rows.time[row])
