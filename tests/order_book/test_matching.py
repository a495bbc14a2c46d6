"""Own orders in the book: cases worked out by hand, among them those that other engines get wrong."""

import pytest

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HALT,
    HIDDEN,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    SNAPSHOT,
    TRADE,
)
from components.order_book import matching
from components.order_book.desk import UNKNOWN, is_idle
from tests.order_book.moved_book import Moved


@pytest.fixture
def market() -> Moved:
    """Bids 5 at 100 and 7 at 99, asks 5 at 101, 4 at 102, 8 at 103."""
    moved = Moved()
    moved.depth({100: 5, 99: 7}, {101: 5, 102: 4, 103: 8})
    return moved


def test_parts_of_an_order_are_filled_until_it_is_whole():
    market = Moved()
    market.depth({99: 7}, {101: 5})
    market.submit(0, BUY, 100, 10, rests=True)
    filled = [market.message((TRADE, SELL, 100, lots)) for lots in (2, 2, 6, 5)]
    assert filled == [[(100, 2, 1)], [(100, 2, 1)], [(100, 6, 1)], []]
    assert market.left() == 0
    assert is_idle(market.desk)


def test_an_order_takes_level_by_level(market):
    assert market.submit(0, BUY, None, 12, rests=False) == 0
    assert market.fetched() == [(101, 5, 0), (102, 4, 0), (103, 3, 0)]


def test_what_is_not_there_is_not_filled(market):
    assert market.submit(0, SELL, None, 20, rests=False) == 8
    assert market.fetched() == [(100, 5, 0), (99, 7, 0)]
    assert market.left() == 0


def test_an_order_takes_up_to_its_limit_and_rests_with_what_is_left(market):
    assert market.submit(0, BUY, 102, 12, rests=True) == 0
    assert market.fetched() == [(101, 5, 0), (102, 4, 0)]
    assert market.left() == 3
    assert market.ahead() == 0


def test_a_fill_of_exactly_the_rest_ends_the_order():
    market = Moved()
    market.depth({99: 7}, {101: 5})
    market.submit(0, BUY, 100, 5, rests=True)
    assert market.message((TRADE, SELL, 100, 5)) == [(100, 5, 1)]
    assert matching.cancel(market.desk, 0) == 0


def test_a_trade_takes_what_is_before_the_order_first(market):
    market.submit(0, BUY, 100, 10, rests=True)
    assert market.ahead() == 5
    assert market.message((TRADE, SELL, 100, 7)) == [(100, 2, 1)]
    assert market.left() == 8
    assert market.message((TRADE, BUY, 101, 7)) == []


@pytest.mark.parametrize(("in_proportion", "ahead"), [(False, 5), (True, 3)])
def test_cancels_come_from_behind_or_in_proportion(in_proportion, ahead):
    market = Moved(in_proportion=in_proportion)
    market.depth({100: 5}, {101: 5})
    market.submit(0, BUY, 100, 10, rests=True)
    market.depth({100: 10}, {})
    market.depth({100: 6}, {})
    assert market.ahead() == ahead
    market.depth({100: 2}, {})
    assert market.ahead() == (2 if not in_proportion else 1)


@pytest.mark.parametrize("trade_first", [True, False])
@pytest.mark.parametrize("in_proportion", [True, False])
def test_trade_and_depth_count_once_in_either_order(trade_first, in_proportion):
    market = Moved(in_proportion=in_proportion)
    market.depth({100: 10}, {101: 5})
    market.submit(0, BUY, 100, 4, rests=True)
    rows = [(TRADE, SELL, 100, 7), (DEPTH, BUY, 100, 3)]
    for row in rows if trade_first else reversed(rows):
        assert market.message(row, after_ns=1_000) == []
    assert market.ahead() == 3
    assert market.message((TRADE, SELL, 100, 5)) == [(100, 2, 1)]


def test_a_trade_long_after_a_cancel_is_another_event():
    market = Moved()
    market.depth({100: 10}, {101: 5})
    market.submit(0, BUY, 100, 4, rests=True)
    market.depth({100: 3}, {})
    assert market.message((TRADE, SELL, 100, 5)) == [(100, 2, 1)]


def test_a_trade_beyond_the_price_fills_no_more_than_it_traded(market):
    market.submit(0, BUY, 100, 10, rests=True)
    assert market.message((TRADE, SELL, 99, 3)) == [(100, 3, 1)]
    assert market.message((TRADE, SELL, 99, 30)) == [(100, 7, 1)]


def test_a_trade_is_shared_by_price_and_time(market):
    market.submit(2, BUY, 99, 10, rests=True)
    market.submit(1, BUY, 100, 3, rests=True)
    market.submit(0, BUY, 100, 4, rests=True)
    market.message((TRADE, SELL, 100, 9))
    assert market.fills == [(1, 100, 3, 1), (0, 100, 1, 1)]
    market.message((TRADE, SELL, 99, 13))
    assert market.fills[2:] == [(0, 100, 3, 1), (2, 99, 3, 1)]


def test_orders_of_the_other_side_that_come_to_our_price_meet_ours(market):
    market.submit(0, BUY, 100, 10, rests=True)
    assert market.depth({100: 0}, {100: 4}) == [(100, 4, 1)]
    # The same four lots fill nothing twice; two more do.
    assert market.depth({}, {100: 4}) == []
    assert market.depth({}, {100: 6}) == [(100, 2, 1)]


def test_a_crossed_book_fills_nothing(market):
    market.submit(0, BUY, 100, 10, rests=True)
    assert market.depth({}, {99: 4}) == []
    assert market.submit(1, BUY, None, 3, rests=False) == 3


def test_what_was_taken_is_gone_until_others_bring_more(market):
    market.submit(0, BUY, 101, 3, rests=False)
    assert market.submit(0, BUY, 101, 9, rests=False) == 7
    assert market.submit(0, BUY, 101, 9, rests=False) == 9
    market.depth({}, {101: 7})
    assert market.submit(0, BUY, 101, 9, rests=False) == 7
    # Of what leaves, ours was the first: the other lots are still there.
    market.depth({}, {101: 2})
    assert market.submit(0, BUY, 101, 9, rests=False) == 9
    market.depth({}, {101: 0})
    market.depth({}, {101: 6})
    assert market.submit(0, BUY, 101, 9, rests=False) == 3


def test_a_late_cancel_cancels_nothing(market):
    market.submit(0, BUY, 101, 5, rests=True)
    assert matching.cancel(market.desk, 0) == 0
    market.submit(0, BUY, 100, 5, rests=True)
    market.message((TRADE, SELL, 100, 8))
    assert matching.cancel(market.desk, 0) == 2
    assert matching.cancel(market.desk, 0) == 0


def test_nothing_is_taken_while_the_symbol_is_halted(market):
    market.message((HALT, 0, 0, 0))
    assert market.submit(0, BUY, None, 3, rests=False) == 3
    assert market.submit(0, BUY, 100, 3, rests=True) == 3
    market.message((RESUME, 0, 0, 0))
    assert market.submit(0, BUY, None, 3, rests=False) == 0


def test_the_queue_of_numbered_orders_is_the_real_one():
    market = Moved()
    market.message((ADD, BUY, 100, 5, 11), (ADD, SELL, 101, 5, 12))
    market.submit(0, BUY, 100, 4, rests=True)
    market.message((ADD, BUY, 100, 6, 13))
    assert market.message((DELETE, BUY, 100, 6, 13)) == []
    assert market.ahead() == 5
    market.message((ADD, BUY, 100, 9, 14))
    assert market.message((REDUCE, BUY, 100, 2, 11)) == []
    assert market.ahead() == 3
    assert market.message((EXECUTE, BUY, 100, 3, 11)) == []
    # The next one came after ours: in its place ours is met.
    assert market.message((EXECUTE, BUY, 100, 3, 14)) == [(100, 3, 1)]
    assert market.message((EXECUTE, BUY, 100, 3, 14)) == [(100, 1, 1)]


def test_hidden_orders_at_worse_prices_show_that_ours_was_reached():
    market = Moved()
    market.message((ADD, BUY, 100, 5, 11), (ADD, SELL, 103, 5, 12))
    market.submit(0, BUY, 102, 4, rests=True)
    assert market.message((HIDDEN, BUY, 102, 3)) == []
    assert market.message((HIDDEN, BUY, 101, 3)) == [(102, 3, 1)]


def test_quotes_tell_the_touch_before_depth_does(market):
    market.message((SNAPSHOT, BUY, 100, 5), (SNAPSHOT, SELL, 101, 5), (SNAPSHOT, SELL, 102, 4))
    market.message((QUOTE, BUY, 100, 2), (QUOTE, SELL, 102, 3))
    market.submit(0, BUY, 100, 1, rests=True)
    assert market.ahead() == 2
    market.submit(1, BUY, None, 9, rests=False)
    assert market.fetched() == [(102, 3, 0)]
    # The touch fell below ours: whoever stood there is gone, whatever depth says.
    market.message((QUOTE, BUY, 99, 7))
    assert market.ahead() == 0
    assert market.message((TRADE, SELL, 100, 1)) == [(100, 1, 1)]


def test_a_queue_that_nobody_told_is_unknown_until_it_is_shown():
    market = Moved()
    market.message((QUOTE, BUY, 100, 2), (QUOTE, SELL, 102, 3))
    market.submit(0, BUY, 99, 4, rests=True)
    assert market.ahead() == UNKNOWN
    assert market.message((TRADE, SELL, 99, 1)) == []
    market.message((QUOTE, BUY, 99, 6))
    assert market.ahead() == 6
    assert market.message((TRADE, SELL, 99, 7)) == [(99, 1, 1)]


def test_a_price_at_which_a_whole_book_has_nothing_has_no_queue():
    market = Moved()
    market.message((SNAPSHOT, BUY, 100, 5), (SNAPSHOT, BUY, 98, 3), (SNAPSHOT, SELL, 102, 5))
    market.message((QUOTE, BUY, 100, 5), (QUOTE, SELL, 102, 5))
    market.submit(0, BUY, 99, 4, rests=True)
    assert market.ahead() == 0
    assert market.message((TRADE, SELL, 99, 3)) == [(99, 3, 1)]
    # After a snapshot of nothing nobody knows what rests there.
    market.message((SNAPSHOT, BUY, 0, 0))
    market.submit(1, BUY, 98, 4, rests=True)
    assert market.ahead(1) == UNKNOWN


def test_a_book_whose_sides_meet_gives_what_it_shows_and_reaches_nothing():
    market = Moved()
    market.message((QUOTE, BUY, 100, 5), (QUOTE, SELL, 101, 5))
    market.submit(0, BUY, 100, 2, rests=True)
    assert market.message((QUOTE, SELL, 100, 5)) == []
    assert market.submit(1, BUY, None, 3, rests=False) == 0
    assert market.fetched() == [(100, 3, 0)]


def test_a_snapshot_gives_nothing_twice(market):
    market.submit(0, BUY, 101, 4, rests=False)
    market.message((SNAPSHOT, BUY, 100, 5), (SNAPSHOT, SELL, 101, 5), (SNAPSHOT, SELL, 102, 4))
    assert market.submit(0, BUY, 101, 4, rests=False) == 3


def test_a_cancel_of_other_size_is_not_taken_for_a_trade_that_follows():
    market = Moved()
    market.depth({100: 5}, {101: 5})
    market.submit(0, BUY, 100, 1, rests=True)
    market.depth({100: 1}, {}, after_ns=1_000)
    assert market.message((TRADE, SELL, 100, 1), (DEPTH, BUY, 100, 0), after_ns=1_000) == []
    market.depth({100: 4}, {}, after_ns=1_000)
    # The four came later: ours is the first of the queue.
    assert market.message((TRADE, SELL, 100, 4), after_ns=1_000) == [(100, 1, 1)]
