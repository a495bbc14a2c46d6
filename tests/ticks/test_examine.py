"""Every fault planted and found, and a clean stream that passes with nothing found."""

import numpy as np
import polars as pl
import pytest

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DEPTH,
    EXECUTE,
    HALT,
    QUOTE,
    RESUME,
    SELL,
    SNAPSHOT,
)
from components.ticks.chain import DAY_NS
from components.ticks.config import Settings
from components.ticks.examine import examine
from components.ticks.rules import QUARANTINED, RULES
from tests.ticks.made import FIRST, MS, START, clean, raw, row, snapshot

SETTINGS = Settings()
KEEP = Settings(checks={"after_broken_chain": "keep"})


def examined(rows, settings=SETTINGS):
    return examine(raw(rows), settings)


def reasons(found) -> dict[str, int]:
    counts = found.quarantine["reason"].value_counts().rows()
    return dict(counts)


def told(found) -> dict[str, int]:
    return dict(found.told["reason"].value_counts().rows())


def again(rows, message):
    """The rows with a message that comes a second time, 5 ms later."""
    second = [
        {**one, "ingest_ts": one["ingest_ts"] + 5 * MS, "message": 9_000}
        for one in rows
        if one["message"] == message
    ]
    return numbered(in_time([*rows, *second]))


def in_time(rows):
    return sorted(rows, key=lambda one: one["ingest_ts"])


def later(rows, message, by: int):
    """All from a message on, on both clocks."""
    since = at(rows, message)
    return [
        {**one, "ingest_ts": one["ingest_ts"] + by, "exchange_ts": one["exchange_ts"] + by}
        if one["ingest_ts"] >= since
        else one
        for one in rows
    ]


def without(rows, *messages):
    return [one for one in rows if one["message"] not in messages]


def numbered(rows):
    """The rows with messages counted anew, as a collector counts what it gets; rows of one time are one."""
    number, counted, last = -1, [], None
    for one in rows:
        number += (one["ingest_ts"], one["message"]) != last
        last = one["ingest_ts"], one["message"]
        counted.append({**one, "message": number})
    return counted


def changed(rows, message, **values):
    return [{**one, **values} if one["message"] == message else one for one in rows]


def at(rows, message) -> int:
    return next(one["ingest_ts"] for one in rows if one["message"] == message)


def moved(rows, message, to: int):
    """A message that arrives at another moment, between others."""
    own = [{**one, "ingest_ts": to} for one in rows if one["message"] == message]
    return in_time([*without(rows, message), *own])


def test_a_clean_stream_passes_with_nothing_found():
    rows = clean()
    found = examined(rows)
    assert not len(found.quarantine)
    assert not len(found.told)
    assert found.crossed_states == 0
    assert found.states == 61 + 60
    kept = ["ingest_ts", "exchange_ts", "kind", "side", "price", "quantity", "message", "sequence"]
    assert found.ticks.select(kept).equals(raw(rows).select(kept))


def wrong_price(rows):
    return changed(rows, 10, price=0)


def no_side(rows):
    return changed(rows, 10, side=0)


def below_nothing(rows):
    return changed(rows, 10, quantity=-1)


def a_trade_of_nothing(rows):
    return changed(rows, 9, quantity=0)


def a_trade_twice(rows):
    return again(rows, 9)


def a_depth_update_twice(rows):
    return again(rows, 10)


def a_message_in_the_file_twice(rows):
    place = next(i for i, one in enumerate(rows) if one["message"] == 10)
    return [*rows[: place + 1], rows[place], *rows[place + 1 :]]


def the_clock_goes_back(rows):
    return changed(rows, 12, ingest_ts=START + 1)


def the_exchange_a_day_off(rows):
    return changed(rows, 12, exchange_ts=START - DAY_NS)


def a_late_quote(rows):
    return numbered(moved(rows, 8, at(rows, 11) + MS))


def a_late_trade(rows):
    return numbered(moved(rows, 9, at(rows, 12) + MS))


def a_lost_update(rows):
    return numbered(without(rows, 10))


def a_crossed_touch(rows):
    return [{**one, "price": 1001} if one["message"] == 11 and one["side"] == BUY else one for one in rows]


def a_crossed_book(rows):
    return changed(rows, 13, side=BUY, price=1003, quantity=5)


def traded_while_halted(rows):
    halt = row(9_000, at(rows, 11) + MS, HALT, 0, 0, 0)
    resume = row(9_001, at(rows, 14) + MS, RESUME, 0, 0, 0)
    return numbered(in_time([*rows, halt, resume]))


def a_trade_ten_times_too_dear(rows):
    return changed(rows, 12, price=10_000)


FAULTS = [
    (wrong_price, "impossible_value", 1),
    (no_side, "impossible_value", 1),
    (below_nothing, "impossible_value", 1),
    (a_trade_of_nothing, "impossible_value", 1),
    (a_trade_twice, "duplicate", 1),
    (a_depth_update_twice, "duplicate", 1),
    (a_message_in_the_file_twice, "duplicate", 1),
    (the_clock_goes_back, "time_back", 1),
    (the_exchange_a_day_off, "exchange_clock_off", 1),
    (a_late_quote, "late", 2),
    (a_late_trade, "late", 1),
    (a_lost_update, "after_broken_chain", 56),
    (a_crossed_touch, "crossed_quote", 2),
    (a_crossed_book, "crossed_book", 1),
    (traded_while_halted, "while_halted", 1),
    (a_trade_ten_times_too_dear, "far_price", 1),
]


@pytest.mark.parametrize(("plant", "reason", "count"), FAULTS, ids=[plant.__name__ for plant, *_ in FAULTS])
def test_a_planted_fault_is_set_aside_with_its_reason(plant, reason, count):
    found = examined(plant(clean()))
    # A depth message that goes breaks the chain for those after it.
    assert reasons(found).pop(reason) == count
    assert set(reasons(found)) <= {reason, "after_broken_chain"}
    assert (found.ticks["ingest_ts"].diff().drop_nulls() >= 0).all()


def test_every_reason_has_a_planted_fault():
    assert {reason for _, reason, _ in FAULTS} == set(QUARANTINED)


def collector_lost(rows):
    return without(rows, 11, 12)


def midnight(rows):
    """The collector's numbers and the ids of quotes start anew when its day does."""
    by_night = later(rows, 0, DAY_NS - START % DAY_NS - 30 * 60 * MS)
    day = by_night[0]["ingest_ts"] // DAY_NS
    first = min(one["message"] for one in by_night if one["ingest_ts"] // DAY_NS > day)

    def anew(one):
        ids = one["update_id"] - 5_000 if one["kind"] == QUOTE else one["update_id"]
        return {**one, "message": one["message"] - first, "update_id": ids}

    return [anew(one) if one["ingest_ts"] // DAY_NS > day else one for one in by_night]


def numbers_fall(rows):
    return [{**one, "message": one["message"] - 20} if one["message"] >= 30 else one for one in rows]


def exchange_back(rows):
    return changed(rows, 12, exchange_ts=at(rows, 9) + 49 * MS)


def quiet(rows):
    return later(rows, 30, 6_000 * MS)


def halted(rows):
    quiet_between = without(rows, 12)
    return traded_while_halted(quiet_between)


def overtaken(rows):
    return numbered(moved(rows, 10, at(rows, 13) + MS))


def too_early(rows):
    """The snapshot comes after the first updates; the second of them is newer than it."""
    early = [{**one, "ingest_ts": START - MS} if one["kind"] == SNAPSHOT else one for one in rows]
    late = [
        {**one, "ingest_ts": at(rows, 4) + MS, "update_id": FIRST + 15} if one["kind"] == SNAPSHOT else one
        for one in early
    ]
    return numbered(sorted(late, key=lambda one: one["ingest_ts"]))


TALES = [
    (collector_lost, "lost_messages"),
    (midnight, "numbering_reset"),
    (numbers_fall, "numbering_back"),
    (exchange_back, "exchange_time_back"),
    (quiet, "silence"),
    (halted, "halt"),
    (a_lost_update, "broken_chain"),
    (overtaken, "put_in_order"),
    (too_early, "replayed"),
    (too_early, "superseded"),
]


@pytest.mark.parametrize(
    ("plant", "reason"), TALES, ids=[f"{plant.__name__}-{reason}" for plant, reason in TALES]
)
def test_what_is_no_fault_of_a_row_is_told(plant, reason):
    found = examined(plant(clean()))
    assert told(found)[reason] >= 1
    if reason not in ("broken_chain",):
        assert not len(found.quarantine)


def test_a_clock_that_drifts_is_told():
    rows = clean(600)
    drifting = [
        {**one, "exchange_ts": one["exchange_ts"] + (one["ingest_ts"] - START) // 500} for one in rows
    ]
    found = examined(drifting, Settings(clock={"window_ms": 1_000.0}))
    assert told(found) == {"drift": 1}
    told_of = {rule.reason for rule in RULES if rule.severity == "told"}
    assert {reason for _, reason in TALES} | {"drift"} == told_of


def test_lost_messages_are_counted():
    found = examined(collector_lost(clean()))
    assert found.told.filter(pl.col("reason") == "lost_messages")["amount"].to_list() == [2]


def book_of(ticks) -> dict:
    """The levels that rest after all ticks, and nothing where the book is unknown."""
    levels, message = {}, None
    for one in ticks.iter_rows(named=True):
        if one["kind"] == SNAPSHOT and one["message"] != message:
            levels = {}
            message = one["message"]
        if one["kind"] in (SNAPSHOT, DEPTH):
            levels.pop((one["side"], one["price"]), None)
            if one["quantity"]:
                levels[one["side"], one["price"]] = one["quantity"]
    return levels


def test_a_book_is_empty_after_a_break_until_the_next_snapshot():
    rows = clean(30)
    broken = a_lost_update(rows)
    assert book_of(examined(broken).ticks) == {}
    resync = snapshot(10_000, at(rows, 46) - MS, FIRST + 10 * 15)
    mended = numbered(in_time([*without(rows, 10), *resync]))
    found = examined(mended)
    expected = dict(book_of(raw(numbered(in_time([*rows, *resync])))))
    assert book_of(found.ticks) == expected
    assert reasons(found)["after_broken_chain"] == 11


def test_levels_are_kept_after_a_break_where_the_settings_say_so():
    found = examined(a_lost_update(clean(30)), KEEP)
    assert not len(found.quarantine)
    assert told(found) == {"broken_chain": 1}


def test_the_book_is_the_same_where_updates_overtook_each_other_or_the_snapshot():
    whole = book_of(examined(clean()).ticks)
    assert book_of(examined(overtaken(clean())).ticks) == whole
    found = examined(too_early(clean())).ticks
    # The snapshot's levels stand for what the first update had set: only that one's may differ.
    assert {key: value for key, value in book_of(found).items() if key != (BUY, 999)}.items() <= whole.items()
    replayed = found.filter((pl.col("kind") == DEPTH) & (pl.col("update_id") == FIRST + 20))
    assert replayed["ingest_ts"].to_list() == [found.filter(pl.col("kind") == SNAPSHOT)["ingest_ts"][0]]


def test_an_update_that_waited_counts_from_the_arrival_of_its_forerunner():
    found = examined(overtaken(clean())).ticks.filter(pl.col("kind") == DEPTH)
    assert found["update_id"].is_sorted()
    own = found.filter(pl.col("update_id").is_in([FIRST + 40, FIRST + 50]))
    assert own["ingest_ts"].n_unique() == 1
    assert own["message"].n_unique() == 2


def test_orders_that_are_alike_are_no_duplicates_and_an_order_that_comes_twice_is():
    orders = [
        row(0, START, ADD, BUY, 1000, 5, order_id=7),
        row(1, START + 1, EXECUTE, BUY, 1000, 2, order_id=7),
        row(2, START + 1, EXECUTE, BUY, 1000, 2, order_id=7),
        row(3, START + 2, ADD, BUY, 1000, 5, order_id=8),
    ]
    assert not len(examined(orders).quarantine)
    again = [*orders, row(4, START + 3, ADD, BUY, 1000, 5, order_id=8)]
    assert reasons(examined(again)) == {"duplicate": 1}


def test_one_clock_has_no_delays():
    rows = [{**one, "exchange_ts": one["ingest_ts"]} for one in clean()]
    found = examined(rows)
    assert not found.stamped.any()
    assert found.ticks["delay_ns"].unique().to_list() == [0]


def test_the_future_changes_no_row_before_it():
    """The book, the clock and the order of what came stay as they are, whatever comes later."""
    rows = clean()
    now = at(rows, 90)
    later = [
        {**one, "exchange_ts": one["exchange_ts"] + 3 * MS, "quantity": one["quantity"] + 1}
        if one["ingest_ts"] > now
        else one
        for one in overtaken(rows)
    ]
    before, after = (
        examined(stream).ticks.filter(pl.col("ingest_ts") <= now) for stream in (overtaken(rows), later)
    )
    assert before.equals(after)


def test_nothing_is_lost_between_ticks_and_quarantine():
    for plant, _, _ in FAULTS:
        frame = raw(plant(clean()))
        found = examine(frame, SETTINGS)
        clears = (found.ticks["kind"] == SNAPSHOT) & (found.ticks["quantity"] == 0)
        assert len(found.ticks) - int(clears.sum()) + len(found.quarantine) == len(frame)
        assert np.isin(found.quarantine["sequence"].to_numpy(), frame["sequence"].to_numpy()).all()


def test_a_snapshot_that_is_crossed_as_a_whole_leaves_no_old_book_behind():
    rows = clean(3)
    after = rows[-1]["ingest_ts"] + MS
    bad = [row(50, after, SNAPSHOT, side, 1000, 4, update_id=FIRST + 30) for side in (BUY, SELL)]
    found = examined([*rows, *bad])
    assert reasons(found) == {"crossed_book": 2}
    assert book_of(found.ticks) == {}
