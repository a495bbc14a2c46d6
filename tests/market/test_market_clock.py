"""The offset of two clocks and the delay of each record are found again where they were planted, from the
past alone.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from components.contracts import TIME
from components.market.clock import bar_delays, estimate_clock_offset
from components.market.errors import MarketError

START = datetime(2024, 5, 6, 12, tzinfo=UTC)
LEAST_MS = 2.0


def stamps(milliseconds: np.ndarray) -> pl.Series:
    return (
        pl.Series((milliseconds * 1000).astype(np.int64) + int(START.timestamp() * 1e6))
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
        .cast(TIME)
    )


def records(
    seed: int,
    *,
    offset_ms: float,
    drift_ppm: float = 0.0,
    wild: float = 0.0,
    count: int = 40_000,
    seconds: float = 1200.0,
):
    """Records with a delay of 2 ms plus an exponential jitter of mean 8 ms, in the order in which they came
    in; the receiver's clock is off and drifts.
    """
    rng = np.random.default_rng(seed)
    sent = np.sort(rng.uniform(0, seconds * 1000, count))
    delay = LEAST_MS + rng.exponential(8.0, count)
    received = sent + delay
    order = np.argsort(received)
    sent, delay, received = sent[order], delay[order], received[order]
    offset = offset_ms + drift_ppm * 1e-6 * received
    read = received + offset
    broken = rng.random(count) < wild
    return (
        stamps(np.where(broken, sent + rng.uniform(0, 5000, count), sent)),
        stamps(read),
        offset,
        delay,
        ~broken,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset_ms", [-350.0, 0.0, 120.0])
@pytest.mark.parametrize("drift_ppm", [0.0, 50.0])
def test_a_planted_offset_is_found_under_jitter_and_drift(seed, offset_ms, drift_ppm):
    sent, read, offset, delay, _ = records(seed, offset_ms=offset_ms, drift_ppm=drift_ppm)
    found = estimate_clock_offset(sent, read, "10s", least_delay_ms=LEAST_MS)
    settled = slice(2_000, None)
    assert np.abs(found["offset_ms"].to_numpy() - offset)[settled].max() < 2.0
    assert abs(np.median(found["delay_ms"].to_numpy()[settled] - delay[settled])) < 1.5
    assert np.corrcoef(found["delay_ms"].to_numpy()[settled], delay[settled])[0, 1] > 0.99


def test_wild_stamps_do_not_move_it():
    sent, read, offset, delay, sound = records(1, offset_ms=40.0, wild=0.02)
    found = estimate_clock_offset(sent, read, "30s", least_delay_ms=LEAST_MS)
    settled = np.arange(len(delay)) > 2_000
    assert np.abs(found["offset_ms"].to_numpy() - offset)[settled].max() < 2.0
    mean = (read - sent).dt.total_microseconds().to_numpy() / 1000 - LEAST_MS
    assert abs(mean.mean() - 40.0) > 20.0, "the plain mean is what the wild stamps spoil"
    assert np.abs(found["delay_ms"].to_numpy() - delay)[settled & sound].max() < 2.0


def test_a_clock_that_is_set_anew_is_followed():
    sent, read, *_ = records(2, offset_ms=0.0, seconds=600.0)
    middle = START.timestamp() * 1e6 + 300e6
    stepped = (
        read.to_frame("read")
        .select(
            pl.when(pl.col("read").dt.epoch("us") > middle)
            .then(pl.col("read") + pl.duration(milliseconds=500))
            .otherwise("read")
        )
        .to_series()
        .cast(TIME)
    )
    offset = estimate_clock_offset(sent, stepped, "10s", least_delay_ms=LEAST_MS)["offset_ms"].to_numpy()
    assert abs(offset[len(offset) // 2 - 100]) < 2.0
    assert abs(offset[-1] - 500.0) < 3.0


def test_only_the_past_counts():
    sent, read, *_ = records(3, offset_ms=10.0, count=5_000)
    whole = estimate_clock_offset(sent, read, "30s")
    cut = estimate_clock_offset(sent[:3_000], read[:3_000], "30s")
    assert whole[:3_000].equals(cut)
    spoiled = estimate_clock_offset(
        pl.concat([sent[:3_000], sent[3_000:] - pl.Series([3_600_000_000]).cast(pl.Duration("us"))]).cast(
            TIME
        ),
        read,
        "30s",
    )
    assert spoiled[:3_000].equals(cut)


def test_what_is_no_pair_of_clocks_is_refused():
    sent, read, *_ = records(4, offset_ms=0.0, count=100)
    with pytest.raises(MarketError, match="runs backwards"):
        estimate_clock_offset(sent, read.reverse())
    with pytest.raises(MarketError, match="100 values, ingest_ts 99"):
        estimate_clock_offset(sent, read[:99])
    with pytest.raises(MarketError, match="has type Int64"):
        estimate_clock_offset(sent.dt.epoch("us"), read)
    holes = estimate_clock_offset(sent, read.set(pl.Series([True] + [False] * 99), None))
    assert holes["delay_ms"].null_count() == 1


def test_a_panel_gets_the_delay_of_each_bar_in_its_own_order():
    sent, read, _, delay, _ = records(5, offset_ms=75.0, count=4_000, seconds=4000.0)
    shuffled = np.random.default_rng(0).permutation(4_000)
    panel = pl.DataFrame({"timestamp": sent, "symbol": "S", "exchange_ts": sent, "ingest_ts": read})[shuffled]
    found = bar_delays(panel, "60s", least_delay_ms=LEAST_MS)
    assert found["timestamp"].equals(panel["timestamp"])
    assert np.median(np.abs(found["delay_ms"].to_numpy() - delay[shuffled])) < 1.0
    with pytest.raises(MarketError, match="no ingest_ts: the delay"):
        bar_delays(panel.drop("ingest_ts"), "60s")
