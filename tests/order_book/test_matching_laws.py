"""Laws of matching on random events, and equality with an explicit queue of orders."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import ADD, BUY, DELETE, DEPTH, EXECUTE, REDUCE, SELL, TRADE
from components.order_book import matching
from tests.order_book.moved_book import Moved

side = st.sampled_from((BUY, SELL))
price = st.integers(98, 103)
lots = st.integers(1, 9)
depth_row = st.tuples(st.just(DEPTH), side, price, st.one_of(st.just(0), lots))
trade_row = st.tuples(st.just(TRADE), side, price, lots)
message = st.tuples(st.just("message"), st.lists(st.one_of(depth_row, trade_row), min_size=1, max_size=3))
order = st.tuples(st.just("order"), st.integers(0, 2), side, price, lots, st.booleans())
cancel = st.tuples(st.just("cancel"), st.integers(0, 2))
steps = st.lists(st.one_of(message, message, order, cancel), max_size=60)


@settings(max_examples=200, deadline=None)
@given(steps, st.booleans())
def test_lots_are_filled_cancelled_or_still_there(steps, in_proportion):
    market = Moved(in_proportion=in_proportion)
    sent, gone = Counter(), Counter()
    for step in steps:
        if step[0] == "message":
            market.message(*step[1], after_ns=10_000_000)
        elif step[0] == "cancel":
            gone[step[1]] += matching.cancel(market.desk, step[1])
        elif market.left(step[1]) == 0:
            _, slot, *terms, rests = step
            gone[slot] += market.submit(slot, *terms, rests=rests)
            sent[slot] += terms[-1]
            market.fetched()
        for slot in range(3):
            filled = sum(fill[2] for fill in market.fills if fill[0] == slot)
            assert sent[slot] == filled + gone[slot] + market.left(slot)
            assert market.left(slot) == 0 or market.ahead(slot) >= 0


@settings(max_examples=200, deadline=None)
@given(steps)
def test_no_more_is_taken_from_a_level_than_ever_rested_there(steps):
    market = Moved()
    shown, came, taken = Counter(), Counter(), Counter()
    traded = Counter()
    for step in steps:
        before = len(market.fills)
        if step[0] == "message":
            market.message(*step[1], after_ns=10_000_000)
            now = {(row[1], row[2]): row[3] for row in step[1] if row[0] == DEPTH}
            for level, quantity in now.items():
                came[level] += max(quantity - shown[level], 0)
                shown[level] = quantity
            for row in step[1]:
                traded[-row[1]] += row[3] if row[0] == TRADE else 0
        elif step[0] == "order" and market.left(step[1]) == 0:
            _, slot, own_side, limit, quantity, rests = step
            market.submit(slot, own_side, limit, quantity, rests=rests)
            for at, filled, maker in market.fetched():
                assert not maker
                assert at * own_side <= limit * own_side
                taken[-own_side, at] += filled
        for slot, _, filled, maker in market.fills[before:]:
            if maker:
                traded[int(market.desk.orders[slot, 0])] -= filled
    assert all(quantity <= came[level] for level, quantity in taken.items())
    # What rested of ours was filled by trades of the other side, or by lots that came to rest beyond.
    for own_side in (BUY, SELL):
        rested = sum(quantity for (other, _), quantity in came.items() if other == -own_side)
        assert traded[own_side] + rested >= 0


class Queue:
    """The queue of one price as a list of (number, lots), with one order of ours in it, number 0."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []

    def find(self, number: int) -> int:
        return next((n for n, order in enumerate(self.orders) if order[0] == number), -1)

    def take(self, number: int, quantity: int) -> None:
        at = self.find(number)
        self.orders[at][1] -= quantity
        if self.orders[at][1] == 0:
            del self.orders[at]

    def execute(self, number: int, quantity: int) -> int:
        """Ours is met first where it stands before; the other one goes all the same, as in the record."""
        ours, at = self.find(0), self.find(number)
        filled = min(quantity, self.orders[ours][1]) if 0 <= ours < at else 0
        self.take(number, quantity)
        if filled:
            self.take(0, filled)
        return filled


change = st.tuples(st.sampled_from((ADD, REDUCE, DELETE, EXECUTE)), st.integers(0, 30), lots)


@settings(max_examples=200, deadline=None)
@given(st.lists(change, max_size=15), lots, st.lists(change, max_size=40))
def test_the_queue_of_numbered_orders_equals_an_explicit_one(before, own_lots, after):
    market, queue = Moved(), Queue()
    market.message((ADD, SELL, 101, 5, 1))
    newest = 1

    def move(kind: int, pick: int, quantity: int) -> None:
        nonlocal newest
        others = [one for one in queue.orders if one[0] != 0]
        if kind == ADD or not others:
            newest += 1
            queue.orders.append([newest, quantity])
            assert market.message((ADD, BUY, 100, quantity, newest)) == []
            return
        # Executions meet the front of the queue, cancels any order.
        number, rest = others[0] if kind == EXECUTE else others[pick % len(others)]
        quantity = rest if kind == DELETE else min(quantity, rest)
        filled = queue.execute(number, quantity) if kind == EXECUTE else queue.take(number, quantity) or 0
        expected = [(100, filled, 1)] if filled else []
        assert market.message((kind, BUY, 100, quantity, number)) == expected

    for step in before:
        move(*step)
    market.submit(0, BUY, 100, own_lots, rests=True)
    queue.orders.append([0, own_lots])
    for step in after:
        move(*step)
        ours = queue.find(0)
        assert market.left() == (queue.orders[ours][1] if ours >= 0 else 0)
        if ours >= 0:
            assert market.ahead() == sum(quantity for _, quantity in queue.orders[:ours])
