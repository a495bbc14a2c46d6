"""What stands before own orders, and what was taken of a level, while trades and depth tell of it in turn."""

import pytest

from components.contracts.tick_schemas import ADD, BUY, DEPTH, EXECUTE, HIDDEN, QUOTE, SELL, SNAPSHOT, TRADE
from components.order_book import matching, state
from tests.order_book.moved_book import Moved

SOON_NS = 1_000


@pytest.fixture
def market() -> Moved:
    """Bids 10 at 100, asks 5 at 101 and 4 at 102; cancels come from before and behind alike."""
    moved = Moved(in_proportion=True)
    moved.depth({100: 10}, {101: 5, 102: 4})
    return moved


def test_an_order_knows_nothing_of_the_one_that_was_in_its_place(market):
    market.submit(0, BUY, 100, 1, rests=True)
    market.depth({100: 2}, {}, after_ns=SOON_NS)
    matching.cancel(market.desk, 0)
    market.submit(0, BUY, 100, 1, rests=True)
    # As many lots as left before it came: they are taken off its queue nevertheless.
    assert market.message((TRADE, SELL, 100, 8), after_ns=SOON_NS) == [(100, 1, 1)]


def test_a_trade_of_as_many_lots_long_after_a_cancel_is_another_event(market):
    market.submit(0, BUY, 100, 4, rests=True)
    market.depth({100: 5}, {})
    assert market.ahead() == 5
    assert market.message((TRADE, SELL, 100, 5)) == []
    assert market.ahead() == 0


def test_depth_that_falls_long_after_a_trade_was_cancelled(market):
    market.submit(0, BUY, 100, 4, rests=True)
    market.message((TRADE, SELL, 100, 3))
    market.depth({100: 7}, {})
    # Seven were before it, of ten that were shown; three left: 3 * 7 // 10 of those before.
    assert market.ahead() == 5


def test_a_trade_explains_depth_once(market):
    market.submit(0, BUY, 100, 4, rests=True)
    market.depth({100: 14}, {})
    market.message((TRADE, SELL, 100, 3))
    market.depth({100: 11}, {}, after_ns=SOON_NS)
    assert market.ahead() == 7
    market.depth({100: 8}, {}, after_ns=SOON_NS)
    # 3 * 7 // 11 of those before it were cancelled.
    assert market.ahead() == 6


@pytest.mark.parametrize("hit", [(EXECUTE, BUY, 100, 3, 11), (HIDDEN, BUY, 101, 3, 0)])
def test_whoever_is_hit_at_a_worse_price_shows_that_ours_was_reached(hit):
    market = Moved()
    market.message((ADD, BUY, 100, 5, 11), (ADD, BUY, 102, 5, 12), (ADD, SELL, 104, 5, 13))
    market.submit(0, BUY, 102, 2, rests=True)
    market.submit(1, BUY, 102, 4, rests=True)
    market.message(hit)
    assert market.fills == [(0, 102, 2, 1), (1, 102, 1, 1)]
    assert market.ahead(1) == 0


@pytest.mark.parametrize("side", [BUY, SELL])
def test_what_leaves_a_level_on_either_side_was_ours_first(side):
    market = Moved()
    market.depth({100: 5}, {101: 5})
    price, levels = (101, ({}, {101: 2})) if side == BUY else (100, ({100: 2}, {}))
    market.submit(0, side, price, 3, rests=False)
    market.depth(*levels)
    assert market.submit(0, side, price, 9, rests=False) == 7


def test_levels_that_were_taken_are_followed_each_by_itself(market):
    assert market.submit(0, BUY, None, 7, rests=False) == 0
    market.depth({}, {101: 0, 102: 2})
    # Of 102 two were taken and two have left: the two that are there are others'.
    assert market.submit(0, BUY, 102, 9, rests=False) == 7


@pytest.mark.parametrize("between", [(QUOTE, SELL, 101, 3), (DEPTH, SELL, 101, 3)])
def test_any_row_between_ends_a_snapshot(between):
    market = Moved()
    market.message((SNAPSHOT, BUY, 100, 5))
    market.message(between)
    market.message((SNAPSHOT, BUY, 99, 4))
    assert state.best(market.book, BUY) == (99, 4)
