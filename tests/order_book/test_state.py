"""The book of a symbol: hand-worked cases, and equality with a slow one on random rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from components.order_book import state
from tests.order_book.slow_book import SlowBook

KINDS = (SNAPSHOT, DEPTH, QUOTE, TRADE, ADD, REDUCE, DELETE, EXECUTE, HIDDEN, HALT, RESUME)


def small_book(far_levels: int = 512, orders_at_once: int = 64) -> state.Book:
    return state.new_book(4_096, far_levels, orders_at_once)


def apply_all(book: state.Book, rows: list[tuple[int, ...]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    state.apply_rows(book, *columns, 0, len(rows))


def all_levels(book: state.Book, side: int) -> list[tuple[int, int]]:
    found = [state.best(book, side)]
    while found[-1][1] > 0:
        found.append(state.behind(book, side, found[-1][0]))
    return found[:-1]


# Prices next to each other, and so far apart that the window of 4,096 ticks moves and levels stand outside.
prices = st.one_of(
    st.integers(990, 1_010), st.integers(0, 40_000), st.sampled_from((1, 4_000, 9_000, 400_000))
)
rows = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from((BUY, SELL)),
        prices,
        st.one_of(st.just(0), st.integers(1, 9)),
        st.integers(0, 12),
        st.integers(1, 3),
    ),
    max_size=120,
)


def same(book: state.Book, slow: SlowBook) -> None:
    for side in (BUY, SELL):
        levels, depth = slow.levels(side), slow.depth(side)
        assert all_levels(book, side) == levels
        assert state.best(book, side)[1] == (levels[0][1] if levels else 0)
        assert state.best_depth(book, side)[1] == (depth[0][1] if depth else 0)
        for n, wanted in enumerate(levels[:4]):
            assert state.level(book, side, n) == wanted
        assert state.level(book, side, len(levels))[1] == 0
    assert state.halted(book) == slow.halted
    assert [state.queue_ahead(book, number) for number in range(13)] == [
        slow.queue_ahead(number) for number in range(13)
    ]
    assert state.lost(book) == 0


@settings(max_examples=150, deadline=None)
@given(rows=rows)
def test_any_rows_make_the_book_of_dictionaries(rows):
    book, slow = small_book(), SlowBook()
    for start in range(0, len(rows), 7):
        apply_all(book, rows[start : start + 7])
        for row in rows[start : start + 7]:
            slow.apply(*row)
        same(book, slow)


@pytest.mark.parametrize("seed", range(4))
def test_a_touch_that_wanders_through_many_windows_loses_no_level(seed):
    rng = np.random.default_rng(seed)
    touch = 50_000 + np.cumsum(rng.integers(-300, 301, 3_000))
    book, slow = small_book(far_levels=8_192, orders_at_once=4_096), SlowBook()
    rows = [
        (
            DEPTH if rng.random() < 0.6 else ADD,
            side,
            int(price - side * rng.exponential(2_000)),
            int(lots),
            n,
            0,
        )
        for n, (price, side, lots) in enumerate(
            zip(touch, rng.choice((BUY, SELL), 3_000), rng.integers(0, 4, 3_000), strict=True)
        )
    ]
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        # Levels that the touch has passed are taken away, as a feed would.
        part += [(DEPTH, BUY, level, 0, 0, 0) for level in slow.lots[BUY] if level > touch[start]]
        part += [(DEPTH, SELL, level, 0, 0, 0) for level in slow.lots[SELL] if level < touch[start]]
        apply_all(book, part)
        for row in part:
            slow.apply(*row)
        for side in (BUY, SELL):
            assert all_levels(book, side) == slow.levels(side)
    assert state.lost(book) == 0
