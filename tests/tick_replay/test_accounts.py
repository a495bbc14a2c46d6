"""Fills, cash and fees of a replay to the cent, in cases worked out by hand."""

import polars as pl
import pytest

from components.contracts.tick_schemas import BUY, DEPTH, HALT, RESUME, SELL, TRADE
from tests.tick_replay.small_market import (
    counts,
    decisions,
    delays,
    depth,
    events,
    fills,
    quote,
    replayed,
    total,
)

# 100.00 to 100.02, then 100.10 to 100.12; the last event lets everything happen.
RISE = events(
    (0, quote(10_000, 50, 10_002, 50)),
    (500, quote(10_010, 50, 10_012, 50)),
    (3_000, quote(10_010, 50, 10_012, 50)),
)


def test_a_taker_pays_the_spread_and_fees():
    # 1,000 buys 9 shares at a mid of 100.01.
    found = replayed(RISE, decisions({100: 1.0}), "taker", taker_fee_bps=2.0)
    assert fills(found, "taker") == [(True, False, 1, 100, 20_004, 9), (False, False, -1, 1_100, 20_020, 9)]
    assert fills(found, "paper") == [(True, False, 1, 100, 20_002, 9), (False, False, -1, 1_100, 20_022, 9)]
    assert total(found, "paper") == pytest.approx(0.90, abs=1e-12)
    assert total(found, "taker", "at_mid") == pytest.approx(0.90, abs=1e-12)
    assert total(found, "taker", "gross") == pytest.approx(0.72, abs=1e-12)
    # 2 bps of 900.18 and of 900.90.
    assert total(found, "taker", "fees") == pytest.approx(0.180036 + 0.18018, abs=1e-8)


@pytest.mark.parametrize(("share", "gross", "value"), [(1.0, 0.72, 900.90), (-1.0, -1.08, 901.08)])
def test_what_is_open_at_the_end_pays_to_be_closed(share, gross, value):
    # Nine shares bought at 100.02 and closed at 100.10, or sold at 100.00 and closed at 100.12.
    found = replayed(RISE, decisions({100: share}, holds_ms=10_000), "taker", taker_fee_bps=2.0)
    assert [row[0] for row in fills(found, "taker")] == [True]
    assert total(found, "taker", "gross") == pytest.approx(gross, abs=1e-12)
    entered = 900.18 if share > 0 else 900.0
    assert total(found, "taker", "fees") == pytest.approx(2e-4 * (entered + value), abs=1e-8)
    assert total(found, "taker", "at_mid") == total(found, "paper") == pytest.approx(0.90 * share, abs=1e-12)
    assert total(found, "paper", "fees") == 0.0
    # It is done in the last step alone.
    steps = found.curve.filter(pl.col("policy") == "taker")
    assert steps["gross"][0] == pytest.approx((0.90 - 0.09) if share > 0 else -0.99, abs=1e-12)
    assert steps["position"].to_list() == [9.0 * share] * len(steps)


def test_an_order_that_comes_late_pays_the_price_of_then():
    made = decisions({100: 1.0})
    late = delays(made, feed_ms=300, order_ms=200)
    found = replayed(RISE, made, "taker", late=late)
    # It arrives with the event at 500, which comes first; the exit is late by as much.
    assert fills(found, "taker") == [(True, False, 1, 600, 20_024, 9), (False, False, -1, 1_600, 20_020, 9)]
    assert total(found, "taker", "gross") == pytest.approx(-0.18, abs=1e-12)
    assert total(found, "taker", "at_mid") == pytest.approx(0.0, abs=1e-12)


def test_an_order_walks_the_book_and_its_lots_are_used_once():
    rows = events((0, depth({99: 50}, {100: 5, 101: 4, 102: 8})), (3_000, [(DEPTH, BUY, 98, 1)]))
    made = decisions([{100: 1.0}, {100: 1.0}], holds_ms=1_000)
    found = replayed(rows, made, "taker", capital=11.95)
    # 12 lots at a mid of 0.995, at 5 x 1.00, 4 x 1.01, 3 x 1.02; the other expert has the same market.
    for expert in ("a", "b"):
        entry = [row[4:] for row in fills(found, "taker", expert) if row[0]]
        assert entry == [(200, 5), (202, 4), (204, 3)]
    assert total(found, "taker", "gross") == pytest.approx(2 * (12 * 0.99 - 12.10), abs=1e-12)


def test_parts_of_a_passive_order_are_filled_and_counted():
    rows = events(
        (0, quote(10_000, 5, 10_002, 50)),
        (200, [(TRADE, SELL, 10_000, 7)]),
        (210, [(TRADE, SELL, 10_000, 2)]),
        (220, [(TRADE, SELL, 10_000, 50)]),
        (3_000, quote(10_000, 5, 10_002, 50)),
    )
    found = replayed(rows, decisions({100: 1.0}), "passive", maker_fee_bps=-1.0, patience_ms=5_000)
    entries = [row for row in fills(found, "passive") if row[0]]
    assert entries == [
        (True, True, 1, 200, 20_000, 2),
        (True, True, 1, 210, 20_000, 2),
        (True, True, 1, 220, 20_000, 5),
    ]
    # The exit rests at 100.02 to the end: nine shares bought and closed at 100.00, a rebate of 1 bp of 900.
    assert total(found, "passive") == pytest.approx(0.09, abs=1e-9)
    found = counts(found, "passive")
    assert (found["sent_lots"], found["filled_lots"], found["open_lots"], found["open_trades"]) == (
        18,
        9,
        9,
        1,
    )


def test_a_passive_order_crosses_when_its_time_is_over():
    rows = events(
        (0, quote(10_000, 5, 10_002, 50)),
        (200, [(TRADE, SELL, 10_000, 7)]),
        (400, quote(10_000, 5, 10_002, 50)),
        (900, quote(10_004, 5, 10_006, 50)),
        (3_000, quote(10_004, 5, 10_006, 50)),
    )
    made = decisions({100: 1.0})
    late = delays(made, order_ms=10, cancel_ms=20, feed_ms=5)
    found = replayed(rows, made, "passive_then_cross", late=late, patience_ms=300)
    # Known at 105, sent then, there at 115. Cancelled at 405, which arrives at 425, is known at 430, and the
    # rest arrives at 900: not before the market has moved.
    assert fills(found, "passive_then_cross")[:2] == [
        (True, True, 1, 200, 20_000, 2),
        (True, False, 1, 900, 20_012, 7),
    ]
    assert counts(found, "passive_then_cross")["failed_cancels"] == 0


def test_a_cancel_that_comes_after_the_fill_fails():
    rows = events(
        (0, quote(10_000, 5, 10_002, 50)),
        (410, [(TRADE, SELL, 10_000, 20)]),
        (450, quote(10_000, 5, 10_002, 50)),
        (3_000, quote(10_000, 5, 10_002, 50)),
    )
    made = decisions({100: 1.0})
    late = delays(made, cancel_ms=20)
    found = replayed(rows, made, "passive_then_cross", late=late, patience_ms=300)
    # Cancelled at 400, filled at 410, and nothing crosses afterwards.
    entries = [row for row in fills(found, "passive_then_cross") if row[0]]
    assert entries == [(True, True, 1, 410, 20_000, 9)]
    assert counts(found, "passive_then_cross")["failed_cancels"] >= 1


def test_a_cancel_may_overtake_its_order():
    rows = events(*((at, quote(10_000, 5, 10_002, 50)) for at in (0, 500, 1_000, 2_000, 4_000)))
    made = decisions({100: 1.0, 200: -1.0}, holds_ms=10_000)
    late = delays(made, order_ms=[700, 100], cancel_ms=10)
    found = replayed(rows, made, "passive", late=late, patience_ms=50_000)
    assert counts(found, "passive")["failed_cancels"] == 1
    assert counts(found, "passive")["cancels"] == 2
    assert counts(found, "passive")["cancelled_lots"] == 9


def test_an_order_may_overtake_another():
    rows = events(
        (0, quote(10_000, 50, 10_002, 50)),
        (600, quote(9_990, 50, 9_992, 50)),
        (5_000, quote(9_990, 50, 9_992, 50)),
    )
    made = decisions({100: 1.0, 200: -1.0}, holds_ms=2_000)
    # Messages take delays in turn: the buy 10 ms; its exit, sent at 200 with the sell, 600; the sell 600.
    late = delays(made, order_ms=[10, 600])
    found = replayed(rows, made, "taker", late=late)
    at = [(row[0], row[2], row[3]) for row in fills(found, "taker")]
    assert at[0] == (True, 1, 110)
    assert (True, -1, 800) in at


def test_a_trade_ends_on_a_decision_for_the_other_side():
    found = replayed(RISE, decisions({100: 1.0, 400: -1.0}, holds_ms=1_000), "taker")
    assert [(row[2], row[3]) for row in fills(found, "taker")] == [(1, 100), (-1, 400), (-1, 400), (1, 1_400)]


def test_positions_stay_within_their_limit():
    rows = events(*((at, quote(10_000, 500, 10_002, 500)) for at in range(0, 3_000, 10)))
    made = decisions({float(at): 1.0 for at in range(100, 1_000, 50)}, holds_ms=5_000)
    found = replayed(rows, made, "taker", trades_at_once=10, max_position=2.5)
    entered = [row[5] for row in fills(found, "taker") if row[0]]
    assert entered == [9, 9, 6]


def test_nothing_is_done_where_the_policy_is_none():
    found = replayed(RISE, decisions({100: 1.0}), "none")
    assert fills(found, "none") == []
    assert total(found, "none") == 0
    assert total(found, "paper") > 0


def test_paper_at_the_touch_pays_the_spread():
    found = replayed(RISE, decisions({100: 1.0}), "taker", paper_price="touch")
    assert [row[4] for row in fills(found, "paper")] == [20_004, 20_020]


@pytest.mark.parametrize(
    ("closed", "opened"),
    [([(HALT, 0, 0, 0)], [(RESUME, 0, 0, 0)]), (quote(10_005, 50, 10_002, 50), [])],
    ids=["halted", "crossed"],
)
def test_paper_fills_nothing_where_no_order_is_taken(closed, opened):
    """Else it would earn the jump at the end of a halt, which nobody can have."""
    rows = events(
        (0, quote(10_000, 50, 10_002, 50)),
        (50, closed),
        (500, [*opened, *quote(10_010, 50, 10_012, 50)]),
        (3_000, quote(10_010, 50, 10_012, 50)),
    )
    assert fills(replayed(rows, decisions({100: 1.0}), "taker"), "paper") == []
    # A decision after it is filled.
    assert len(fills(replayed(rows, decisions({600: 1.0}), "taker"), "paper")) == 2


def test_an_exit_that_finds_too_little_goes_on_with_the_next_event():
    rows = events(
        (0, quote(10_000, 4, 10_002, 50)),
        (1_500, quote(10_000, 8, 10_002, 50)),
        (1_600, quote(10_000, 8, 10_002, 9)),
    )
    found = replayed(rows, decisions({100: 1.0}), "taker")
    assert fills(found, "taker")[1:] == [
        (False, False, -1, 1_100, 20_000, 4),
        (False, False, -1, 1_500, 20_000, 4),
    ]
    assert counts(found, "taker")["open_trades"] == 1


def test_a_decision_for_the_same_side_holds_a_trade_or_does_nothing():
    rows = events(*((at, quote(10_000, 50, 10_002, 50)) for at in range(0, 6_000, 100)))
    made = decisions({100: 1.0, 600: 1.0, 1_600: 1.0}, holds_ms=1_000)
    late = delays(made, feed_ms=10)
    renewed = replayed(rows, made, "taker", late=late)
    assert [(row[2], row[3]) for row in fills(renewed, "taker")] == [(1, 110), (-1, 2_610)]
    ignored = replayed(rows, made, "taker", late=late, same_side="ignore")
    assert [(row[2], row[3]) for row in fills(ignored, "taker")] == [
        (1, 110),
        (-1, 1_110),
        (1, 1_610),
        (-1, 2_610),
    ]
