"""Each feature equals a slow second writing of it on random streams, and numbers worked out by hand."""

import math
import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.contracts import REGIME_COLUMN, REGIMES
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL, SNAPSHOT, TRADE
from components.tick_features.catalog import scaled_column, wanted_features
from components.tick_features.config import Normalisation, Settings
from components.tick_features.library import RISK, TREND
from components.tick_features.regime import PERSIST_SAMPLES
from tests.tick_features.feeding import built, exact_features, moments_of, span_of
from tests.tick_features.oracle import past_of, raw_features, scaled
from tests.tick_features.streams import MILLISECOND, START, depth_stream, order_stream, ticks_of

PAST = Normalisation(values=10, every_samples=3, least_values=5)
SMALL = Settings(normalisation=PAST)
# A sample of Float32 against a number of Float64.
NEAR = {"rtol": 3e-7, "atol": 1e-9, "equal_nan": True}
streams = st.one_of(
    st.builds(
        depth_stream,
        st.integers(0, 10**6),
        st.integers(3, 150),
        quotes=st.booleans(),
        levels=st.sampled_from([3, 12]),
        gap_ms=st.sampled_from([2.0, 20.0, 90.0]),
    ),
    st.builds(order_stream, st.integers(0, 10**6), st.integers(3, 150)),
)


@hypothesis_settings(max_examples=25, deadline=None)
@given(ticks=streams)
def test_every_feature_equals_its_slow_writing(short_windows, ticks):
    samples = built(ticks, SMALL)
    if samples.is_empty():
        return
    moments = moments_of(samples)
    slow = raw_features(ticks, moments, short_windows)
    exact = exact_features(ticks, SMALL, moments[0], moments[-1])
    for moment, row in zip(moments, slow, strict=True):
        expected = np.array(list(row.values()))
        if not np.isnan(expected).all():
            np.testing.assert_allclose(
                exact[moment], expected, rtol=1e-12, atol=1e-12, err_msg=str(list(row)), equal_nan=True
            )
    for name in short_windows:
        handed = samples[name].fill_null(math.nan).to_numpy()
        np.testing.assert_allclose(handed, [row[name] for row in slow], err_msg=name, **NEAR)


@hypothesis_settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), gap_ms=st.sampled_from([20.0, 60.0]))
def test_scaled_columns_and_the_regime_equal_their_slow_writing(short_windows, seed, gap_ms):
    ticks = depth_stream(seed, 250, gap_ms=gap_ms)
    samples = built(ticks, SMALL).filter(
        pl.col("momentum_1").is_not_null() | pl.col("touch_depth").is_not_null()
    )
    moments = moments_of(built(ticks, SMALL))
    rows = raw_features(ticks, moments, short_windows)[len(moments) - len(samples) :]
    for feature in wanted_features(SMALL):
        if feature.normalisation != "none":
            column = scaled_column(feature)
            handed = samples[column].fill_null(math.nan).to_numpy()
            slow = np.array(scaled(rows, feature.name, feature.normalisation, SMALL))
            # A rank may be told from another order of two values that differ in their last bit.
            near = NEAR if feature.normalisation == "robust" else {"atol": 0.5 / 10 + 1e-6, "equal_nan": True}
            np.testing.assert_allclose(handed, slow, err_msg=column, **{**near, "rtol": 1e-5})
    np.testing.assert_array_equal(samples[REGIME_COLUMN].fill_null(math.nan).to_numpy(), slow_regimes(rows))


def slow_regimes(rows):
    own, result, held = [], [], math.nan
    for number, row in enumerate(rows):
        trends, risks = (past_of(rows, name, number, SMALL) for name in (TREND, RISK))
        state = None
        if min(len(trends), len(risks)) >= PAST.least_values and not math.isnan(row[TREND]):
            state = "neutral"
            usual = statistics.median(trends)
            if row[TREND] > max(0, usual):
                state = "bull"
            if row[TREND] < min(0, usual):
                state = "bear"
            if row[RISK] > np.quantile(risks, 0.8):
                state = "high_volatility"
        own.append(state)
        lasted = own[-PERSIST_SAMPLES:]
        if state and (math.isnan(held) or (len(lasted) == PERSIST_SAMPLES and set(lasted) == {state})):
            held = float(REGIMES.index(state))
        result.append(held)
    return result


def row(message, ms, kind, side, price, quantity, delay=0):
    return (message, START + int(ms * MILLISECOND), kind, side, price, quantity, 0, delay)


def test_numbers_worked_out_by_hand():
    """A book of 30 lots bid at 99 and 10 lots asked at 101; then the bid grows by 5, an ask of 4 is taken."""
    ticks = ticks_of(
        [
            row(1, 10, SNAPSHOT, BUY, 99, 30),
            row(1, 10, SNAPSHOT, SELL, 101, 10),
            row(2, 60, DEPTH, BUY, 99, 35, delay=3 * MILLISECOND),
            row(3, 70, TRADE, BUY, 101, 4, delay=1 * MILLISECOND),
            row(4, 70, DEPTH, SELL, 101, 6, delay=1 * MILLISECOND),
            row(5, 160, DEPTH, SELL, 101, 6),
        ]
    )
    first, second, third = built(ticks, Settings()).rows(named=True)
    assert first["imbalance_1"] == pytest.approx((30 - 10) / 40)
    assert first["spread"] == pytest.approx(200.0)
    # (99 * 10 + 101 * 30) / 40 = 100.5, half a tick above the mid.
    assert first["microprice_gap"] == pytest.approx(50.0)
    assert first["resynced"] == 1
    assert first["order_flow_imbalance_1"] is None
    # The bid gained 5, the ask lost 4: both press upwards. 41 lots stand at the touch.
    assert second["order_flow_imbalance_1"] == pytest.approx(9 / 41)
    assert second["trade_sign"] == 1
    assert second["trade_run"] == pytest.approx(math.log(2))
    assert second["traded"] == 1
    assert second["resynced"] == 0
    assert second["delay"] == pytest.approx(math.log(2))
    assert second["time_since_last_event"] == pytest.approx(math.log(1 + 30))
    assert second["momentum_1"] == 0
    assert (third["silent"], third["order_flow_imbalance_1"], third["imbalance_1"]) == (
        1,
        0,
        second["imbalance_1"],
    )


def test_what_left_and_was_traded_was_not_cancelled(short_windows):
    """10 lots left the asks, 4 of them traded: 6 were cancelled, and 3 came."""
    quiet = [row(10 + n, 60 + 50 * n, DEPTH, BUY, 98, 1) for n in range(5)]
    ticks = ticks_of(
        [
            row(1, 10, SNAPSHOT, BUY, 99, 30),
            row(1, 10, SNAPSHOT, BUY, 98, 1),
            row(1, 10, SNAPSHOT, SELL, 101, 10),
            row(2, 55, DEPTH, BUY, 97, 3),
            row(3, 56, TRADE, BUY, 101, 4),
            row(4, 57, DEPTH, SELL, 101, 0),
            *quiet,
        ]
    )
    last = built(ticks, SMALL).row(-1, named=True)
    assert last["cancel_to_new_20"] == pytest.approx(math.log((1 + 6) / (1 + 3)))
    # The asks are gone: what the book says is not known, what was paid is.
    assert last["imbalance_1"] is None
    assert last["spread"] is None
    assert last["trade_balance_20"] == 1


def test_quotes_tell_the_touch():
    ticks = ticks_of(
        [
            row(1, 10, SNAPSHOT, BUY, 99, 30),
            row(1, 10, SNAPSHOT, SELL, 101, 10),
            row(2, 20, QUOTE, BUY, 100, 2),
            row(2, 20, QUOTE, SELL, 101, 6),
            row(3, 60, DEPTH, BUY, 99, 31),
        ]
    )
    assert built(ticks, Settings())["imbalance_1"][0] == pytest.approx((2 - 6) / 8)


def test_volatility_of_a_mid_that_stood_still_is_half_a_tick_once(short_windows):
    rows = [row(1, 10, SNAPSHOT, BUY, 99, 30), row(1, 10, SNAPSHOT, SELL, 101, 10)]
    rows += [row(2 + n, 60 + 50 * n, DEPTH, BUY, 90, n + 1) for n in range(8)]
    last = built(ticks_of(rows), SMALL).row(-1, named=True)
    # A move of half a tick of 200 in one of 4 samples.
    assert last["volatility_20"] == pytest.approx(math.sqrt(1 / 4) / 200)
    assert last["realised_volatility_20"] == 0


def test_a_session_has_the_grid_of_all_its_symbols():
    ticks = depth_stream(3, 60)
    wide = span_of(ticks)
    wide = type(wide)(wide.first - 10**9, wide.last + 10**9)
    samples = built(ticks, Settings(), wide)
    moments = moments_of(samples)
    assert moments == list(range(moments[0], moments[-1] + 1, 50_000_000))
    assert wide.first <= moments[0] < wide.first + 50_000_000
    assert moments[0] % 50_000_000 == 0
    assert samples["known_time"][-1] < samples["timestamp"][-1]
