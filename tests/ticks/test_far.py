"""Far prices: by hand, against a slow oracle, and what comes later changes nothing."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import QUOTE, TRADE
from components.ticks.config import Settings
from components.ticks.examine import examine
from components.ticks.far import FEWEST, PAST, far_prices
from tests.ticks.made import clean, raw


def places(price, *, levels=0, most=0.2):
    """Where far prices are; the first `levels` are of a snapshot."""
    first = np.arange(len(price)) < levels
    return np.flatnonzero(far_prices(np.array(price, np.int64), ~first, first, most)).tolist()


def test_by_hand():
    assert places([100, 101, 99, 100, 100, 121, 120, 80, 79, 100]) == [5, 8]
    assert places([1_000, *[100] * 8]) == [], "the first ones are not judged"
    assert places([99, 98, 97, 101, 102, 103, 1_000, 100], levels=6) == [6]


def test_a_market_that_jumps_is_believed_once_half_of_the_past_says_so():
    found = places([1_000] * PAST + [2_000] * PAST)
    assert found == list(range(PAST, PAST + PAST // 2 + 1))


def test_a_market_that_moves_far_by_small_steps_is_never_told():
    assert places(np.geomspace(1_000, 10_000, 5_000).round()) == []


def oracle(price, is_print, is_level, most):
    found, past, prints = [], [], 0
    for value, printed, level in zip(price, is_print, is_level, strict=True):
        held = past[-PAST:]
        judged = printed and value > 0 and len(held) >= FEWEST
        found.append(bool(judged and abs(value / np.median(held) - 1) > most))
        if value > 0 and (printed or (level and prints < FEWEST)):
            past.append(value)
            prints += printed
    return found


ROWS = st.lists(st.tuples(st.integers(-1, 40), st.sampled_from(["print", "level", "other"])), max_size=90)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 90), st.sampled_from([0.1, 0.5]))
def test_as_a_slow_oracle_and_whatever_comes_later(rows, cut, most):
    price = np.array([value for value, _ in rows], np.int64)
    kinds = [np.array([kind == name for _, kind in rows], bool) for name in ("print", "level")]
    found = far_prices(price, *kinds, most)
    assert found.tolist() == oracle(price, *kinds, most)
    assert far_prices(price[:cut], *(kind[:cut] for kind in kinds), most).tolist() == found[:cut].tolist()


def test_the_oldest_leave_the_past():
    rng = np.random.default_rng(5)
    price = rng.integers(80, 125, 3 * PAST)
    every, none = np.ones(len(price), bool), np.zeros(len(price), bool)
    assert far_prices(price, every, none, 0.15).tolist() == oracle(price, every, none, 0.15)


@pytest.mark.parametrize("kind", [QUOTE, TRADE])
def test_what_is_said_of_a_session_does_not_depend_on_its_end(kind):
    """In the second half the market is three times as dear: the first one was none the wiser."""
    rows = clean(300)
    later = [{**one, "price": 3 * one["price"]} if n > len(rows) // 2 else one for n, one in enumerate(rows)]
    whole, half = (examine(raw(part), Settings()) for part in (later, rows[: len(rows) // 2]))
    assert not len(half.quarantine)
    told = whole.quarantine.filter((pl.col("reason") == "far_price") & (pl.col("kind") == kind))
    assert len(told)
    assert told["sequence"].min() > len(rows) // 2
