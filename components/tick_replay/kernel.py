"""The loop over the events of one symbol's session, compiled: history moves the book, and what strategies do
happens between its messages, each at its own time.

The market is on the collector's clock, as if the collector stood at the exchange: an event happens when it
was received, a decision about a moment becomes known after the feed's delay, an order arrives after the
order's. Where times are equal, events come first, then moments are looked at, then strategies act, then
curves are read.
"""

import numpy as np

from components.contracts.tick_schemas import ADD, BUY, SELL
from components.order_book import desk as desks
from components.order_book import matching
from components.order_book.compiled import compiled
from components.order_book.state import apply, best, halted
from components.tick_replay import arrays
from components.tick_replay.arrays import BOUND, LOG_ROOM, LOGGED, MOMENT, NEVER, ROW, SOONEST
from components.tick_replay.trader import (
    arrives,
    cancel_arrives,
    decided,
    desk_of,
    double_mid,
    fetch,
    leave,
    noticed,
    out_of_patience,
    rested_and_filled,
)


@compiled
def run(scene):
    """Go on until the events are over, or the log is full; whether they are over."""
    rows, cursor = scene.rows, scene.cursor
    n_busy = _busy(scene)
    while cursor[LOGGED] < LOG_ROOM:
        if cursor[ROW] == len(rows.time):
            _look(scene, NEVER)
            _close(scene)
            _read_curves(scene, NEVER)
            return True
        event, moment, bound = rows.time[cursor[ROW]], _next_moment(scene), _next_bound(scene)
        soonest = cursor[SOONEST]
        if event <= moment and event <= soonest and event <= bound:
            _message(scene, n_busy)
        elif moment <= soonest and moment <= bound:
            _look(scene, moment)
        elif soonest <= bound:
            _act(scene, soonest)
            n_busy = _busy(scene)
        else:
            _read_curves(scene, bound)
    return False


@compiled
def touches(rows, book, at, touch):
    """The touch at moments (ns, rising) after all events by then: bid and ask in ticks, 0 for both where no
    order is taken or the book is crossed. `book` is empty at first, `touch` (moments, 2).
    """
    row = 0
    for n in range(len(at)):
        while row < len(rows.time) and rows.time[row] <= at[n]:
            kind, side, price = rows.kind[row], rows.side[row], rows.price[row]
            apply(book, kind, side, price, rows.quantity[row], rows.order_id[row], rows.message[row])
            row += 1
        bid, bid_lots = best(book, BUY)
        ask, ask_lots = best(book, SELL)
        if bid_lots > 0 and ask_lots > 0 and bid <= ask and not halted(book):
            touch[n, 0], touch[n, 1] = bid, ask


@compiled
def _next_moment(scene):
    at = scene.cursor[MOMENT]
    return scene.decisions.at[at] if at < len(scene.decisions.at) else NEVER


@compiled
def _next_bound(scene):
    at = scene.cursor[BOUND]
    return scene.bounds[at] if at < len(scene.bounds) else NEVER


@compiled
def _busy(scene):
    """Write the strategies that events matter to into `scene.busy`; how many there are."""
    busy, count = scene.busy, 0
    for strategy in range(len(scene.plan)):
        if not desks.is_idle(desk_of(scene, strategy)):
            busy[count] = strategy
            count += 1
    return count


@compiled
def _message(scene, n_busy):
    """Let one message change the book, and reach the orders that rest."""
    rows, cursor, busy, rules = scene.rows, scene.cursor, scene.busy, scene.rules
    row = cursor[ROW]
    message, time = rows.message[row], rows.time[row]
    while row < len(rows.time) and rows.message[row] == message and rows.time[row] == time:
        kind, side, price = rows.kind[row], rows.side[row], rows.price[row]
        quantity, order_id = rows.quantity[row], rows.order_id[row]
        for n in range(n_busy):
            matching.row_seen(
                desk_of(scene, busy[n]), kind, side, price, quantity, order_id, time, rules.apart_ns
            )
        apply(scene.book, kind, side, price, quantity, order_id, message)
        if kind == ADD:
            cursor[arrays.NEWEST] = max(cursor[arrays.NEWEST], order_id)
        row += 1
    cursor[ROW] = row
    for n in range(n_busy):
        strategy = busy[n]
        desk = desk_of(scene, strategy)
        matching.message_seen(desk, scene.book, time, rules.in_proportion, rules.apart_ns)
        if scene.desk.counts[strategy, desks.FILLS] > 0:
            fetch(scene, strategy, time)
            rested_and_filled(scene, strategy, time)
            _reckon(scene, strategy)
            cursor[SOONEST] = min(cursor[SOONEST], scene.due[strategy])


@compiled
def _look(scene, now):
    """Keep the touch at the moments up to now."""
    cursor, at = scene.cursor, scene.decisions.at
    while cursor[MOMENT] < len(at) and at[cursor[MOMENT]] <= now:
        bid, bid_lots = best(scene.book, BUY)
        ask, ask_lots = best(scene.book, SELL)
        scene.touch[cursor[MOMENT], 0] = bid if bid_lots > 0 else 0
        scene.touch[cursor[MOMENT], 1] = ask if ask_lots > 0 else 0
        cursor[MOMENT] += 1


@compiled
def _reckon(scene, strategy):
    """When something happens to a strategy next."""
    known, soonest = scene.delays.known[scene.plan[strategy, arrays.LATENCY]], NEVER
    pointer, trades = scene.ledger[strategy, arrays.POINTER], scene.trades[strategy]
    if pointer < len(known):
        soonest = known[pointer]
    for slot in range(len(trades)):
        for field in arrays.TIMES:
            soonest = min(soonest, trades[slot, field])
    scene.due[strategy] = soonest


@compiled
def _act(scene, now):
    """Let every strategy do one thing that is due."""
    soonest = NEVER
    for strategy in range(len(scene.plan)):
        if scene.due[strategy] <= now:
            _one_thing(scene, strategy, now)
            _reckon(scene, strategy)
        soonest = min(soonest, scene.due[strategy])
    scene.cursor[SOONEST] = soonest


@compiled
def _one_thing(scene, strategy, now):
    """What comes first of what is due: at the exchange, then notices, decisions, and clocks of the trader. A
    decision comes before the end of a horizon where it may renew it, else after.
    """
    trades = scene.trades[strategy]
    for field in (arrays.ARRIVES, arrays.CANCEL_ARRIVES, arrays.NOTICE_AT):
        for slot in range(len(trades)):
            if trades[slot, field] <= now:
                if field == arrays.ARRIVES:
                    arrives(scene, strategy, slot, now)
                elif field == arrays.CANCEL_ARRIVES:
                    cancel_arrives(scene, strategy, slot, now)
                else:
                    noticed(scene, strategy, slot, now)
                return
    if not scene.rules.renews and _leave_one(scene, strategy, now):
        return
    latency, pointer = scene.plan[strategy, arrays.LATENCY], scene.ledger[strategy, arrays.POINTER]
    known = scene.delays.known[latency]
    if pointer < len(known) and known[pointer] <= now:
        scene.ledger[strategy, arrays.POINTER] += 1
        decided(scene, strategy, now, scene.delays.which[latency, pointer])
        return
    if _leave_one(scene, strategy, now):
        return
    for slot in range(len(trades)):
        if trades[slot, arrays.PATIENCE_AT] <= now:
            out_of_patience(scene, strategy, slot, now)
            return


@compiled
def _leave_one(scene, strategy, now):
    """End one trade whose horizon is over; whether there was one."""
    trades = scene.trades[strategy]
    for slot in range(len(trades)):
        if trades[slot, arrays.EXIT_AT] <= now:
            leave(scene, strategy, slot, now)
            return True
    return False


@compiled
def _close(scene):
    """Take off what closing at the last touch would cost where a position is open: half the spread, as far as
    it is known, and the taker's fee. Paper pays neither.
    """
    bid, bid_lots = best(scene.book, BUY)
    ask, ask_lots = best(scene.book, SELL)
    spread = max(ask - bid, 0) if bid_lots > 0 and ask_lots > 0 else 0
    for strategy in range(len(scene.plan)):
        if scene.plan[strategy, arrays.POLICY] == arrays.PAPER:
            continue
        ledger = scene.ledger[strategy]
        position = ledger[arrays.POSITION]
        lots = abs(position)
        ledger[arrays.CASH] -= lots * spread
        side = np.sign(position)
        fee = (
            ledger[arrays.FEES_REST]
            + lots * (double_mid(scene) - side * spread) * scene.rules.taker_millionths
        )
        ledger[arrays.FEES] += fee // arrays.MILLION
        ledger[arrays.FEES_REST] = fee % arrays.MILLION


@compiled
def _read_curves(scene, now):
    """Keep what every strategy has at the bounds up to now."""
    cursor = scene.cursor
    while cursor[BOUND] < len(scene.bounds) and scene.bounds[cursor[BOUND]] <= now:
        at = cursor[BOUND]
        scene.curve_mid[at] = double_mid(scene)
        for strategy in range(len(scene.plan)):
            for field in range(arrays.CURVE_FIELDS):
                scene.curve[at, strategy, field] = scene.ledger[strategy, field]
        cursor[BOUND] += 1
