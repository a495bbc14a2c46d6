"""The labels of ticks: numbers worked out by hand, a slow oracle on random events, what is left without a
label, and no look beyond the end of a label.
"""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contracts.documents.instruments import Instrument
from components.contracts.errors import ContractError
from components.contracts.tick_schemas import ADD, DEPTH, EXECUTE, HALT, RESUME, SNAPSHOT, TRADE
from components.tick_labels.build import require_order
from components.tick_labels.config import Settings
from components.tick_labels.moments import CROSSED, HALTED, KNOWN, ONE_SIDED, OUTSIDE, OVER, THIN
from tests.tick_labels.markets import (
    MS,
    START,
    book_rows,
    events_of,
    label_all,
    moments,
    quote_rows,
    ticks_of,
)

CENTS = Instrument(tick_size=0.01, lot_size=1.0)
SMALL = {"sample_ms": 50, "horizons_ms": (250,), "primary_horizon_ms": 250, "order_value": 1_000.0}
END = [(1_000, 9, TRADE, 1, 10_000, 1, 0)]
FLAT = book_rows(0, 0, [(9_999, 10), (9_998, 100)], [(10_001, 5), (10_002, 100)])
RISEN = book_rows(300, 2, [(10_099, 8), (10_098, 100)], [(10_101, 5), (10_102, 100)])


def labelled(rows, *at_ms, latency_ms=20, instrument=CENTS, **settings):
    made = Settings.model_validate({**SMALL, **settings})
    return label_all(ticks_of(rows), moments(*at_ms), instrument, latency_ms * MS, made)


def test_a_round_trip_by_hand():
    """Ten lots at 100 dollars: bought 5 at 100.01 and 5 at 100.02 when the order arrives, at 120 ms; sold at
    370 ms, 8 at 100.99 and 2 at 100.98; two basis points a side.
    """
    trades = [(200, 1, TRADE, 1, 10_001, 3, 0), (320, 3, TRADE, -1, 10_099, 1, 0)]
    labels, why = labelled([*FLAT, trades[0], *RISEN, trades[1], *END], 100)
    paid, got = (5 * 10_001 + 5 * 10_002) / 10, (8 * 10_099 + 2 * 10_098) / 10
    long = math.log(got * 0.9998 / (paid * 1.0002))
    moved = math.log(10_100 / 10_000)
    row = labels.row(0, named=True)
    assert row["log_return"] == pytest.approx(moved, abs=1e-12)
    assert row["vwap_return"] == pytest.approx(math.log((3 * 10_001 + 10_099) / 4 / 10_000), abs=1e-12)
    assert row["cost"] == pytest.approx(moved - long, abs=1e-12)
    assert (row["trade_class"], row["direction"], row["horizon"]) == (1, 1, 5)
    assert row["label_end"].timestamp() == pytest.approx(START / 1e9 + 0.370, abs=1e-9)
    assert why.tolist() == [[KNOWN]]


@pytest.mark.parametrize(("latency_ns", "end_us"), [(20_000_000, 370_000), (20_000_001, 370_001)])
def test_a_label_ends_no_sooner_than_the_last_event_that_it_saw(latency_ns, end_us):
    """Times of labels are whole microseconds, those of events nanoseconds."""
    settings = Settings.model_validate(SMALL)
    labels, _ = label_all(ticks_of([*FLAT, *RISEN, *END]), moments(100), CENTS, latency_ns, settings)
    assert labels["label_end"].to_physical().to_list() == [START // 1_000 + end_us]


def test_selling_pays_where_the_mid_falls_and_nothing_where_it_stands():
    fallen = book_rows(300, 2, [(9_899, 100)], [(9_901, 100)])
    labels, _ = labelled([*FLAT, *fallen, *END], 0, 100)
    short = math.log(9_999 * 0.9998 / (9_901 * 1.0002))
    assert labels["trade_class"].to_list() == [0, -1]
    assert labels["vwap_return"].to_list() == [None, None]
    assert labels["cost"][1] == pytest.approx(-labels["log_return"][1] - short, abs=1e-12)


@pytest.mark.parametrize(("margin_bps", "expected"), [(90.0, 1), (93.0, 0)])
def test_a_margin_asks_for_more_than_the_costs(margin_bps, expected):
    """The round trip earns 92.98 basis points."""
    labels, _ = labelled([*FLAT, *RISEN, *END], 100, margin_bps=margin_bps)
    assert labels["trade_class"][0] == expected


def test_the_touch_is_the_quotes_and_the_walk_goes_on_in_the_depth():
    quotes = quote_rows(50, 1, (9_999, 10), (10_000, 4))
    labels, _ = labelled([*FLAT, *quotes, *END], 100)
    paid = (4 * 10_000 + 5 * 10_001 + 1 * 10_002) / 10
    long = math.log(9_999 * 0.9998 / (paid * 1.0002))
    assert labels["log_return"][0] == 0
    assert labels["cost"][0] == pytest.approx(-long, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(50, 1, HALT, 0, 0, 0, 0)], HALTED),
        ([(200, 1, HALT, 0, 0, 0, 0)], HALTED),
        ([(50, 1, HALT, 0, 0, 0, 0), (60, 2, RESUME, 0, 0, 0, 0)], KNOWN),
        ([(50, 1, DEPTH, 1, 10_005, 1, 0)], CROSSED),
        (book_rows(50, 1, [(9_999, 50)], []), ONE_SIDED),
        (book_rows(50, 1, [(9_999, 50)], [(10_001, 9)]), THIN),
        (book_rows(200, 1, [(9_999, 9)], [(10_001, 50)]), THIN),
        ([], KNOWN),
    ],
)
def test_no_label_where_a_trade_could_not_be_made(rows, reason):
    labels, why = labelled([*FLAT, *rows, *END], 40)
    assert why.tolist() == [[reason]]
    assert (labels["log_return"].null_count() == 1) == (reason != KNOWN)
    assert labels["label_end"].null_count() == labels["log_return"].null_count()


def test_nothing_crosses_the_ends_of_a_session():
    labels, why = labelled([*FLAT, *END], -10, 0, 730, 731, 990)
    assert why.ravel().tolist() == [OUTSIDE, KNOWN, KNOWN, OVER, OVER]
    assert labels["trade_class"].null_count() == 3


def test_executions_are_the_trades_of_a_source_without_trades():
    orders = [(0, 0, ADD, 1, 9_999, 50, 1), (0, 1, ADD, -1, 10_001, 50, 2)]
    rows = [*orders, (150, 2, EXECUTE, -1, 10_001, 4, 2), (1_000, 3, ADD, 1, 9_000, 1, 3)]
    labels, _ = labelled(rows, 100)
    assert labels["vwap_return"][0] == pytest.approx(math.log(10_001 / 10_000), abs=1e-12)


def test_ticks_out_of_order_are_refused():
    with pytest.raises(ContractError, match="A, session one: ingest_ts goes back at sequence 5"):
        require_order(events_of(ticks_of([*FLAT, *END, *RISEN])), "A, session one")


def test_horizons_are_counted_in_samples():
    with pytest.raises(ValueError, match="no multiple of sample_ms=100"):
        Settings(sample_ms=100)


EVENT = st.tuples(
    st.integers(1, 60),
    st.sampled_from([DEPTH, DEPTH, DEPTH, TRADE, HALT, RESUME, SNAPSHOT]),
    st.sampled_from([1, -1]),
    st.integers(0, 6),
    st.integers(0, 9),
)


def random_rows(events):
    rows, at = book_rows(0, 0, [(95, 20), (90, 20)], [(105, 20), (110, 20)]), 0
    for message, (wait, kind, side, step, lots) in enumerate(events, start=1):
        at += wait
        price = 100 - side * step
        if kind == SNAPSHOT:
            rows += book_rows(at, message, [(98 - step, lots + 1)], [(102, 15), (103 + step, 20)])
        else:
            rows.append((at, message, kind, side, price, lots + (kind == TRADE), 0))
    return rows


class Oracle:
    """The same labels from dictionaries, sample by sample."""

    def __init__(self, rows, settings, latency_ms):
        self.rows, self.settings, self.latency_ms = rows, settings, latency_ms

    def at(self, ms):
        """Bids, asks and halt after all that was known by then."""
        books, halted, message = {1: {}, -1: {}}, False, None
        for at, number, kind, side, price, lots, _ in self.rows:
            if at > ms:
                break
            if kind == SNAPSHOT and message != number:
                books, message = {1: {}, -1: {}}, number
            if kind in (SNAPSHOT, DEPTH):
                books[side][price] = lots
            if kind in (HALT, RESUME):
                halted = kind == HALT
        bids, asks = ({p: q for p, q in books[side].items() if q} for side in (1, -1))
        return bids, asks, halted

    def price(self, levels, lots, rising):
        paid = 0
        for price in sorted(levels, reverse=not rising):
            taken = min(lots, levels[price])
            paid, lots = paid + taken * price, lots - taken
        return None if lots else paid

    def moment(self, ms, lots=None):
        if ms > self.rows[-1][0]:
            return None
        bids, asks, halted = self.at(ms)
        if halted or not bids or not asks or max(bids) >= min(asks):
            return None
        mid = (max(bids) + min(asks)) / 2
        lots = lots or max(round(self.settings.order_value / mid), 1)
        bought, sold = self.price(asks, lots, True), self.price(bids, lots, False)
        return None if bought is None or sold is None else (mid, bought / lots, sold / lots, lots)

    def label(self, ms, horizon_ms):
        fee = self.settings.fee_bps / 1e4
        start = ms + self.latency_ms
        entry = self.moment(start)
        leave = entry and self.moment(start + horizon_ms, entry[3])
        if not leave:
            return None
        moved = math.log(leave[0] / entry[0])
        long = math.log(leave[2] * (1 - fee) / (entry[1] * (1 + fee)))
        short = math.log(entry[2] * (1 - fee) / (leave[1] * (1 + fee)))
        traded = [
            (price, lots)
            for at, _, kind, _, price, lots, _ in self.rows
            if kind == TRADE and start < at <= start + horizon_ms
        ]
        total = sum(lots for _, lots in traded)
        vwap = math.log(sum(p * q for p, q in traded) / total / entry[0]) if total else None
        best = 1 if long > 0 else -1 if short > 0 else 0
        return moved, vwap, moved - long if moved >= 0 else -moved - short, best


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(EVENT, min_size=3, max_size=40), st.integers(0, 70), st.sampled_from([0.0, 5.0, 200.0]))
def test_labels_agree_with_a_slow_oracle(events, latency_ms, fee_bps):
    rows = random_rows(events)
    settings = Settings(
        sample_ms=50, horizons_ms=(50, 250), primary_horizon_ms=50, order_value=1_500.0, fee_bps=fee_bps
    )
    oracle = Oracle(rows, settings, latency_ms)
    at = range(0, rows[-1][0] + 1, 50)
    labels, _ = label_all(
        ticks_of(rows), moments(*at), Instrument(tick_size=1.0, lot_size=1.0), latency_ms * MS, settings
    )
    wanted = [oracle.label(ms, horizon) for ms in at for horizon in (50, 250)]
    found = labels.select("log_return", "vwap_return", "cost", "trade_class").rows()
    for expected, row in zip(wanted, found, strict=True):
        if expected is None:
            assert row == (None, None, None, None)
        else:
            # A return of nothing may be a rounding of either sign: on both sides of it no trade pays or all.
            assert row[:3] == pytest.approx(expected[:3], abs=1e-9)
            assert row[3] == expected[3]


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(EVENT, min_size=10, max_size=40), st.integers(0, 29))
def test_what_comes_after_the_end_of_a_label_changes_nothing(events, place):
    rows = random_rows(events)
    at = range(0, rows[-1][0] + 1, 50)
    before, _ = labelled(rows, *at)
    known = before.filter(pl.col("label_end").is_not_null())
    if known.is_empty():
        return
    end = known["label_end"].sort()[place % len(known)]
    cut = (end.timestamp() * 1e9 - START) / MS
    changed = [
        row if row[0] <= cut + 1e-3 else (*row[:4], row[4] + 7_000, row[5] + 50, row[6]) for row in rows
    ]
    after, _ = labelled(changed, *at)
    same = pl.col("label_end") <= end
    assert before.filter(same).equals(after.filter(same.fill_null(False)).head(len(before.filter(same))))


def test_samples_of_any_number_are_labelled_at_every_horizon_at_once():
    labels, why = labelled([*FLAT, *RISEN, *END], *range(0, 1_000, 50), horizons_ms=(250, 50, 500))
    assert labels["horizon"].to_list()[:3] == [1, 5, 10]
    assert why.shape == (20, 3)
    one, _ = labelled([*FLAT, *RISEN, *END], *range(0, 1_000, 50))
    assert labels.filter(pl.col("horizon") == 5).equals(one)
    assert np.count_nonzero(why == KNOWN) == labels["log_return"].count()
