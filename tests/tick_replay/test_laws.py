"""Laws that every replay keeps, on random markets and decisions; and what the future may not change."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, TRADE
from components.tick_replay import arrays
from components.tick_replay.arrays import Rows
from components.tick_replay.day import rules_of
from components.tick_replay.kernel import run
from tests.tick_replay.small_market import (
    CENTS,
    MS,
    START,
    counts,
    decisions,
    delays,
    events,
    fills,
    replayed,
    settings,
    total,
)

POLICIES = ("taker", "passive", "passive_then_cross")
price, lots = st.integers(97, 103), st.integers(1, 9)
trade = st.tuples(st.just(TRADE), st.sampled_from((BUY, SELL)), price, lots)
level = st.tuples(st.just(DEPTH), st.sampled_from((BUY, SELL)), price, st.one_of(st.just(0), lots))
message = st.tuples(st.integers(1, 120), st.lists(st.one_of(trade, level), min_size=1, max_size=4))
wanted = st.dictionaries(
    st.integers(0, 60).map(lambda n: n * 25.0),
    st.sampled_from((-1.0, -0.4, 0.4, 1.0)),
    min_size=1,
    max_size=12,
)
late = st.tuples(*(st.lists(st.integers(0, 150), min_size=1, max_size=1) for _ in range(3)))


def market(messages: list[tuple[int, list[tuple[int, ...]]]]) -> Rows:
    at, found = 0.0, [(0.0, [(DEPTH, BUY, 99, 5), (DEPTH, SELL, 101, 5)])]
    for gap, rows in messages:
        at += gap
        found.append((at, rows))
    return events(*found)


def last_spread(rows: Rows) -> int:
    """Best ask less best bid at the end, 0 where it is not known or the book is crossed."""
    levels = {BUY: {}, SELL: {}}
    for kind, side, at, quantity in zip(rows.kind, rows.side, rows.price, rows.quantity, strict=True):
        if kind == DEPTH:
            levels[side][at] = quantity
    bids, asks = ([at for at, quantity in own.items() if quantity > 0] for own in levels.values())
    return max(min(asks) - max(bids), 0) if bids and asks else 0


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(message, min_size=1, max_size=40),
    wanted,
    late,
    st.sampled_from(POLICIES),
    st.booleans(),
    st.data(),
)
def test_orders_and_money_are_conserved(messages, shares, late, policy, at_once, data):
    rows, made = market(messages), decisions(shares, holds_ms=200)
    feed, order, cancel = (
        data.draw(st.lists(st.integers(0, 150), min_size=len(made.at), max_size=len(made.at))) for _ in late
    )
    more = {"maker_fee_bps": -0.5, "taker_fee_bps": 3.25, "patience_ms": 60}
    given_late = delays(made, feed_ms=feed, order_ms=order, cancel_ms=cancel)
    found = replayed(
        rows, made, policy, late=given_late, capital=9.0, trades_at_once=3 if at_once else 1, **more
    )
    own, told = fills(found, policy), counts(found, policy)
    assert told["sent_lots"] == told["filled_lots"] + told["cancelled_lots"] + told["open_lots"]
    assert told["filled_lots"] == sum(row[5] for row in own)
    assert told["failed_cancels"] <= told["cancels"]
    # Cash, position and fees follow from the fills alone.
    position = sum(row[2] * row[5] for row in own)
    cash = -sum(row[2] * row[4] * row[5] for row in own)
    fee = sum(row[4] * row[5] * (-50 if row[1] else 325) for row in own) / 1e6
    curve = found.curve.filter(pl.col("policy") == policy)
    mid = round(curve["mid"][-1] * 200)
    unit = CENTS.tick_size / 2
    assert curve["position"][-1] == position
    # What is open is closed at the last touch.
    spread, side = last_spread(rows), np.sign(position)
    left, closing = abs(position) * spread, abs(position) * (mid - side * spread) * 325 / 1e6
    assert total(found, policy, "gross") == pytest.approx((cash + position * mid - left) * unit, abs=1e-9)
    assert total(found, policy, "fees") == pytest.approx((fee + closing) * unit, abs=1e-9)
    # Within its limit, and not before an order could arrive.
    assert abs(position) <= 9.0 / 0.01 / 97
    rows_of_policy = found.fills.filter(pl.col("policy") == policy)
    early = rows_of_policy.filter(pl.col("filled_ts") < pl.col("sent_ts") + min(order) * MS)
    assert early.is_empty()
    late_decision = pl.col("sent_ts") < pl.col("decision_ts") + min(feed) * MS
    assert rows_of_policy.filter(late_decision).is_empty()
    entered = rows_of_policy.filter("entry").group_by("trade").agg(pl.col("lots").sum())
    left = rows_of_policy.filter(~pl.col("entry")).group_by("trade").agg(pl.col("lots").sum())
    both = entered.join(left, on="trade", how="full", coalesce=True)
    assert both.filter(pl.col("lots_right") > pl.col("lots").fill_null(0)).is_empty()


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(message, min_size=2, max_size=40), wanted, st.sampled_from(POLICIES), st.integers(0, 1_500))
def test_the_future_changes_nothing_before_it(messages, shares, policy, cut_ms):
    rows, made = market(messages), decisions(shares, holds_ms=200)
    late = delays(made, feed_ms=5, order_ms=20, cancel_ms=10)
    cut = START + cut_ms * MS
    after = rows.time > cut
    changed = rows._replace(
        price=np.where(after, rows.price + 1_000, rows.price), quantity=np.where(after, 7, rows.quantity)
    )
    shorter = Rows(*(column[~after] for column in rows))
    then = made._replace(wanted=np.where(made.at > cut, -made.wanted, made.wanted))
    whole, other, cut_off = (
        replayed(found, wants, policy, late=late, patience_ms=60, trades_at_once=2)
        for found, wants in ((rows, made), (changed, then), (shorter, made))
    )
    before = [row for row in fills(whole, policy) if row[3] <= cut_ms]
    assert [row for row in fills(other, policy) if row[3] <= cut_ms] == before
    last = (shorter.time[-1] - START) / MS
    assert fills(cut_off, policy) == [row for row in before if row[3] <= last][: len(fills(cut_off, policy))]


def test_a_full_log_is_emptied_and_changes_nothing(monkeypatch):
    rows = events(*((at, [(DEPTH, BUY, 99, 50), (DEPTH, SELL, 101, 50)]) for at in range(0, 3_000, 10)))
    made = decisions({25.0 * n: 1.0 if n % 2 else -1.0 for n in range(100)}, holds_ms=20)
    found = replayed(rows, made, "taker", capital=9.0)
    given_settings = settings("taker", capital=9.0)
    plan = np.array([[0, arrays.PAPER, 0], [0, arrays.POLICIES.index("taker"), 1]])
    scene = arrays.new_scene(
        rows, made, delays(made), rules_of(given_settings, CENTS), plan, np.zeros(0, np.int64)
    )
    scene.cursor[arrays.LOGGED] = arrays.LOG_ROOM - 20
    logged, over = 0, False
    while not over:
        over = run(scene)
        logged += scene.cursor[arrays.LOGGED] - (arrays.LOG_ROOM - 20)
        scene.cursor[arrays.LOGGED] = arrays.LOG_ROOM - 20
    assert logged == len(found.fills) > 100


def test_a_quote_that_is_repeated_brings_no_new_lots():
    rows = events(*((at, [(QUOTE, BUY, 99, 5), (QUOTE, SELL, 101, 5)]) for at in range(0, 3_000, 10)))
    made = decisions([{100.0: 1.0, 600.0: 1.0}], holds_ms=200)
    found = replayed(rows, made, "taker", capital=9.0)
    # Nine are wanted, five are there, and those are gone when the next decision comes.
    assert [row[5] for row in fills(found, "taker") if row[0]] == [5]
