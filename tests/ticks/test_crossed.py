"""Crossed touches and books."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT
from components.ticks.crossed import crossed


def table(rows) -> pl.DataFrame:
    """Rows of (message, kind, side, price, quantity)."""
    schema = {"message": pl.Int64, "kind": pl.Int8, "side": pl.Int8, "price": pl.Int64, "quantity": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_crossed_touch_goes_and_is_not_compared_with():
    rows = [
        (0, QUOTE, BUY, 10, 1),
        (0, QUOTE, SELL, 11, 1),
        (1, QUOTE, BUY, 11, 1),
        (2, QUOTE, SELL, 12, 1),
        (3, QUOTE, SELL, 12, 0),
        (4, QUOTE, BUY, 12, 1),
    ]
    found = crossed(table(rows))
    assert found.quotes.tolist() == [False, False, True, False, False, False]
    assert (found.states, found.crossed_states) == (5, 1)


def test_a_level_beyond_the_other_side_goes_unless_its_message_takes_that_side_away():
    book = [(0, SNAPSHOT, BUY, 10, 1), (0, SNAPSHOT, SELL, 11, 1), (0, SNAPSHOT, SELL, 12, 1)]
    moved = [(1, DEPTH, BUY, 11, 5), (1, DEPTH, SELL, 11, 0)]
    wrong = [(1, DEPTH, BUY, 9, 3), (1, DEPTH, BUY, 11, 5)]
    assert not crossed(table(book + moved)).levels.any()
    assert crossed(table(book + wrong)).levels.tolist() == [False, False, False, False, True]


def test_what_a_crossing_level_stood_at_before_stands_again_and_a_removal_stays():
    """The bid at 10 grows as an ask comes to it: both go, and the ask that comes anew meets the old bid."""
    book = [(0, SNAPSHOT, BUY, 10, 1), (0, SNAPSHOT, SELL, 11, 1), (0, SNAPSHOT, SELL, 12, 1)]
    found = crossed(table([*book, (1, DEPTH, BUY, 10, 5), (1, DEPTH, SELL, 10, 3), (2, DEPTH, SELL, 10, 3)]))
    assert found.levels.tolist() == [False] * 3 + [True] * 3
    assert (found.states, found.crossed_states) == (3, 2)
    removed = crossed(table([*book, (1, DEPTH, SELL, 11, 0), (1, DEPTH, BUY, 12, 5), (2, DEPTH, BUY, 11, 2)]))
    assert removed.levels.tolist() == [False] * 4 + [True, False]
    assert (removed.states, removed.crossed_states) == (3, 1)


def test_states_of_touch_and_book_are_counted_together():
    book = [(0, SNAPSHOT, BUY, 10, 1), (0, SNAPSHOT, SELL, 11, 1)]
    found = crossed(table([*book, (1, QUOTE, BUY, 11, 1), (1, QUOTE, SELL, 11, 1), (2, DEPTH, SELL, 10, 1)]))
    assert found.quotes.tolist() == [False, False, True, True, False]
    assert found.levels.tolist() == [False] * 4 + [True]
    assert (found.states, found.crossed_states) == (3, 2)


levels = st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 12), st.integers(0, 2))
messages = st.lists(st.tuples(st.booleans(), st.lists(levels, min_size=1, max_size=4)), max_size=30)


@settings(deadline=None)
@given(messages)
def test_the_book_that_is_left_is_never_crossed_and_what_is_not_crossed_stays(stream):
    rows = []
    for number, (whole, changes) in enumerate(stream):
        kind = SNAPSHOT if whole and number % 5 == 0 else DEPTH
        rows += [(number, kind, side, price, quantity) for side, price, quantity in changes]
    found = crossed(table(rows))
    # A snapshot of which nothing is left still clears.
    left = [
        row if not gone else (row[0], row[1], row[2], 0, 0)
        for row, gone in zip(rows, found.levels, strict=True)
    ]
    assert slow_crossed_states(left) == 0
    assert slow_crossed_states(rows) > 0 or not found.levels.any()


def slow_crossed_states(rows) -> int:
    """Crossed states of a book in dictionaries; a state is what stands after a message."""
    books, crossings = {BUY: {}, SELL: {}}, 0
    for number in sorted({row[0] for row in rows}):
        own = [row for row in rows if row[0] == number]
        if own[0][1] == SNAPSHOT:
            books = {BUY: {}, SELL: {}}
        for _, _, side, price, quantity in own:
            books[side].pop(price, None)
            if quantity:
                books[side][price] = quantity
        if books[BUY] and books[SELL]:
            crossings += max(books[BUY]) >= min(books[SELL])
    return crossings
