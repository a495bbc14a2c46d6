"""Live use gives the bits of offline use, and a sample knows the messages up to its moment, whole."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contracts.tick_schemas import BUY, DEPTH, HALT, SELL, SNAPSHOT
from components.tick_features.config import Normalisation, Settings
from components.tick_features.day import Span
from components.tick_features.errors import TickFeatureError
from tests.tick_features.feeding import built, moments_of, span_of
from tests.tick_features.streams import MILLISECOND, START, depth_stream, order_stream, ticks_of

SMALL = Settings(normalisation=Normalisation(values=10, every_samples=3, least_values=5))
BY_EVENT = SMALL.model_copy(update={"sampling": "event", "every_messages": 3})


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    settings=st.sampled_from([SMALL, BY_EVENT, SMALL.model_copy(update={"sample": "250ms"})]),
    orders=st.booleans(),
)
def test_any_chunks_give_the_same_bits(short_windows, seed, cuts, settings, orders):
    """Chunks may end within a message."""
    ticks = order_stream(seed, 150) if orders else depth_stream(seed, 150)
    edges = [0, *sorted(min(cut, len(ticks)) for cut in cuts), len(ticks)]
    parts = [ticks[a:b] for a, b in itertools.pairwise(edges)]
    assert built(ticks, settings).equals(built(ticks, settings, span_of(ticks), parts))


@hypothesis_settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), settings=st.sampled_from([SMALL, BY_EVENT]))
def test_another_future_and_none_leave_the_past_as_it_was(short_windows, seed, settings):
    ticks = depth_stream(seed, 200)
    whole, span = built(ticks, settings), span_of(ticks)
    if len(whole) < 4:
        return
    cut = moments_of(whole)[len(whole) // 2]
    after = pl.col("ingest_ts") > cut
    changed = ticks.with_columns(
        pl.when(after).then(pl.col("price") * 37).otherwise("price").alias("price"),
        pl.when(after).then(pl.col("quantity") * 1_000 + 7).otherwise("quantity").alias("quantity"),
        pl.when(after).then(pl.lit(10**12)).otherwise("delay_ns").alias("delay_ns"),
    )
    upto = pl.col("timestamp").cast(pl.Int64) * 1_000 <= cut
    ended = built(ticks.filter(~after), settings, Span(span.first, cut))
    for other in (built(changed, settings, span), ended):
        assert whole.filter(upto).equals(other.filter(upto))


def row(message, ms, kind, side, price, quantity):
    return (message, START + int(ms * MILLISECOND), kind, side, price, quantity, 0, 0)


BOOK = [row(1, 10, SNAPSHOT, BUY, 99, 30), row(1, 10, SNAPSHOT, SELL, 101, 10)]


def test_a_message_at_the_moment_is_known_and_one_a_nanosecond_later_is_not():
    at, later = row(2, 100, DEPTH, BUY, 99, 50), list(row(3, 100, DEPTH, BUY, 99, 70))
    later[1] += 1
    samples = built(ticks_of([*BOOK, at, tuple(later), row(4, 160, DEPTH, SELL, 101, 10)]), Settings())
    imbalances = samples["imbalance_1"].to_list()
    assert imbalances == pytest.approx([20 / 40, 40 / 60, 60 / 80], abs=1e-6)
    assert samples["known_time"][1] == samples["timestamp"][1]


def test_before_the_first_whole_book_nothing_is_known():
    ticks = ticks_of(
        [row(1, 10, DEPTH, BUY, 99, 5), row(2, 120, DEPTH, SELL, 101, 5), row(3, 160, DEPTH, BUY, 99, 6)]
    )
    samples = built(ticks, Settings()).drop("timestamp", "known_time")
    assert all(value is None for value in samples.row(0) + samples.row(1))
    assert samples["imbalance_1"][2] == 0


def test_a_silent_and_halted_symbol_keeps_what_is_known():
    rows = [*BOOK, row(2, 60, HALT, 0, 0, 0), row(3, 5_010, DEPTH, BUY, 98, 1)]
    samples = built(ticks_of(rows), Settings())
    during = samples[5:90]
    assert set(during["imbalance_1"]) == {0.5}
    assert set(during["halted"]) == {1.0} == set(during["silent"])
    waited = np.expm1(during["time_since_last_event"].to_numpy())
    np.testing.assert_allclose(np.diff(waited), 50, rtol=1e-3)


def test_by_event_a_sample_comes_after_every_so_many_messages():
    settings = Settings(sampling="event", every_messages=2)
    rows = [*BOOK, *(row(2 + n, 20 + 10 * n, DEPTH, BUY, 99, 31 + n) for n in range(5))]
    samples = built(ticks_of(rows), settings)
    assert moments_of(samples) == [START + ms * MILLISECOND for ms in (20, 40, 60)]
    assert samples["imbalance_1"].to_list() == pytest.approx([21 / 41, 23 / 43, 25 / 45], abs=1e-6)


def test_by_event_two_samples_of_one_microsecond_are_one_that_knows_all_of_it():
    settings = Settings(sampling="event", every_messages=1)
    rows = [list(row(2 + n, 20, DEPTH, BUY, 99, 31 + n)) for n in range(4)]
    for n, one in enumerate(rows):
        one[1] += 1 + 400 * n
    samples = built(ticks_of([*BOOK, *map(tuple, rows)]), settings)
    # At 1, 401 and 801 ns, then at 1,201.
    assert [moment - START - 20 * MILLISECOND for moment in moments_of(samples)[1:]] == [1_000, 2_000]
    assert samples["imbalance_1"].to_list() == pytest.approx([20 / 40, 23 / 43, 24 / 44], abs=1e-6)


def test_ticks_out_of_order_are_refused():
    with pytest.raises(TickFeatureError, match="validate them first"):
        built(ticks_of([*BOOK, row(2, 5, DEPTH, BUY, 99, 5)]), Settings(), span_of(ticks_of(BOOK)))
