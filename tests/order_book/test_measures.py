"""What is read off a book: numbers worked out by hand."""

import math

import pytest

from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT
from components.order_book import measures, state


def book_of(*rows: tuple[int, int, int, int]) -> state.Book:
    """A book of rows (kind, side, price, quantity)."""
    book = state.new_book(4_096, 64, 64)
    for row in rows:
        state.apply(book, *row, 0)
    return book


@pytest.fixture
def whole() -> state.Book:
    """Bids 100 x 5, 99 x 7; asks 101 x 3, 104 x 30."""
    return book_of(
        (SNAPSHOT, BUY, 100, 5), (SNAPSHOT, BUY, 99, 7), (SNAPSHOT, SELL, 101, 3), (SNAPSHOT, SELL, 104, 30)
    )


def test_touch(whole):
    assert measures.mid(whole) == 100.5
    assert measures.spread(whole) == 1
    assert measures.microprice(whole) == (100 * 3 + 101 * 5) / 8


def test_imbalances(whole):
    assert measures.imbalance(whole, 1) == measures.queue_imbalance(whole, 1) == 2 / 8
    assert measures.imbalance(whole, 2) == pytest.approx((12 - 33) / 45)
    assert measures.queue_imbalance(whole, 2) == pytest.approx((2 / 8 - 23 / 37) / 2)
    assert math.isnan(measures.imbalance(whole, 3))
    assert math.isnan(measures.queue_imbalance(whole, 3))


def test_slope(whole):
    # Bids: 5 lots 0.5 ticks away, 12 lots 1.5 ticks away.
    assert measures.depth_slope(whole, BUY, 2) == pytest.approx((5 * 0.5 + 12 * 1.5) / (0.25 + 2.25))
    assert measures.depth_slope(whole, SELL, 2) == pytest.approx((3 * 0.5 + 33 * 3.5) / (0.25 + 12.25))
    assert math.isnan(measures.depth_slope(whole, SELL, 3))


def test_walk(whole):
    assert measures.walk(whole, BUY, 3) == (101, 3)
    assert measures.walk(whole, BUY, 5) == ((3 * 101 + 2 * 104) / 5, 5)
    assert measures.walk(whole, SELL, 12) == ((5 * 100 + 7 * 99) / 12, 12)


def test_a_book_too_thin_says_unknown_and_what_it_could_fill(whole):
    price, filled = measures.walk(whole, BUY, 34)
    assert math.isnan(price)
    assert filled == 33
    assert math.isnan(measures.walk(whole, BUY, 0)[0])


def test_an_empty_side_has_no_measures():
    book = book_of((SNAPSHOT, BUY, 100, 5))
    for measure in (measures.mid, measures.spread, measures.microprice):
        assert math.isnan(measure(book))
    assert math.isnan(measures.imbalance(book, 1))
    assert math.isnan(measures.depth_slope(book, BUY, 1))
    assert measures.walk(book, BUY, 1)[1] == 0


def test_the_walk_starts_at_the_quote_and_skips_depth_that_it_has_passed(whole):
    # The quote has seen 101 go; depth has not: 101 is stale, 102 is the quote's, 104 stands behind.
    state.apply(whole, QUOTE, SELL, 102, 4, 0)
    assert state.best(whole, SELL) == (102, 4)
    assert state.best_depth(whole, SELL) == (101, 3)
    assert measures.walk(whole, BUY, 6) == ((4 * 102 + 2 * 104) / 6, 6)
    state.apply(whole, QUOTE, SELL, 104, 2, 0)
    assert math.isnan(measures.walk(whole, BUY, 6)[0])


def test_changes_alone_tell_nothing_behind_a_quote():
    book = book_of((QUOTE, BUY, 100, 5), (DEPTH, BUY, 99, 7), (QUOTE, SELL, 101, 3))
    assert state.level(book, BUY, 0) == (100, 5)
    assert state.level(book, BUY, 1)[1] == 0
    assert math.isnan(measures.walk(book, SELL, 6)[0])
    state.apply(book, QUOTE, BUY, 100, 0, 0)
    assert state.best(book, BUY)[1] == 0
    assert math.isnan(measures.mid(book))


def test_after_a_snapshot_of_nothing_only_quotes_count_until_the_next_one(whole):
    for row in ((SNAPSHOT, SELL, 0, 0), (DEPTH, SELL, 103, 9), (DEPTH, BUY, 100, 9)):
        state.apply(whole, *row, 0, 2)
    assert state.best(whole, SELL)[1] == state.best(whole, BUY)[1] == 0
    state.apply(whole, QUOTE, SELL, 102, 4, 0)
    assert state.best(whole, SELL) == (102, 4)
    assert state.level(whole, SELL, 1)[1] == 0
    state.apply(whole, SNAPSHOT, SELL, 103, 2, 0)
    assert state.level(whole, SELL, 1) == (103, 2)
