"""The clock: offset and drift recovered, delays never negative, nothing known too early."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ticks.clock import follow
from components.ticks.config import Clock
from tests.ticks.made import MS, START, late_and_heavy

ALWAYS = Clock(window_ms=10.0, half_life_ms=10.0)


def by_hand(exchange, ingest, stamped, window_ns, half_life_ns):
    """The definition, written down slowly: windows of time, the second lowest message above the line in
    each, and double exponential smoothing of those.
    """
    first = next((i for i in range(len(ingest)) if stamped[i]), None)
    line, window, points, least, delay, last = (0.0, 0.0, 0.0), [], 0, [], [], 0
    for i in range(len(ingest)):
        if first is None or i < first:
            least.append(0)
            delay.append(0)
            continue
        now = ingest[i] - ingest[first]
        number = now // window_ns
        if window and window[0][0] < number:
            above = [(way - line[0] - line[1] * (at - line[2]), at, way) for _, way, at in window]
            _, at, lowest = sorted(above)[:2][-1]
            step = at - line[2]
            if points == 0 or step <= 0:
                line = (float(lowest), line[1], float(at))
            else:
                gain = max(1 - 2 ** (-step / half_life_ns), 1 / (points + 1))
                ahead = line[0] + line[1] * step
                error = lowest - ahead
                line = (ahead + gain * (2 - gain) * error, line[1] + gain**2 * error / step, float(at))
            window, points = [], points + 1
        here = line[0] + line[1] * (now - line[2])
        if stamped[i]:
            window.append((number, ingest[i] - exchange[i] - (ingest[first] - exchange[first]), now))
        below = sorted(way - (line[0] + line[1] * (at - line[2])) for _, way, at in window)[1:2] or [0.0]
        expected = here + min(below[0], 0.0)
        if stamped[i]:
            last = max(window[-1][1] - expected, 0.0)
        least.append(ingest[first] - exchange[first] + round(expected))
        delay.append(int(last))
    return np.array(least), np.array(delay)


@pytest.mark.parametrize("rate_hz", [60.0, 250.0])
def test_offset_and_drift_are_recovered_under_a_heavy_tail(rate_hz):
    exchange, ingest, offset = late_and_heavy(int(600 * rate_hz), rate_hz, seed=3)
    found = follow(exchange, ingest, np.ones(len(ingest), bool), Clock(floor_ms=0.35))
    settled = ingest > ingest[0] + 60 * 1000 * MS
    error_ms = (found.offset_ns - offset)[settled] / MS
    assert np.abs(np.median(error_ms)) < 0.1
    assert np.abs(error_ms).max() < 0.2
    assert found.drift[-1] * 60e9 / MS == pytest.approx(-0.3, abs=0.05)
    assert (found.delay_ns >= 0).all()


def test_an_average_of_the_raw_lag_would_not_do():
    """The trap: half of all delays come out negative that way."""
    exchange, ingest, _ = late_and_heavy(20_000, 200.0, seed=5)
    lag = (ingest - exchange).astype(float)
    average = np.empty_like(lag)
    average[0] = lag[0]
    for i in range(1, len(lag)):
        average[i] = 0.99 * average[i - 1] + 0.01 * lag[i]
    assert (lag < average).mean() > 0.5


def test_by_hand():
    """Ways of 5, 3, 9 and 2 ms: one shorter way is not believed, the second lowers the least way to 3 ms."""
    ingest = START + np.array([0, 1, 2, 3, 4]) * MS
    exchange = ingest - np.array([5, 3, 9, 2, 0]) * MS
    stamped = np.array([True, True, True, True, False])
    found = follow(exchange, ingest, stamped, ALWAYS)
    assert (found.offset_ns / MS).tolist() == [5, 5, 5, 3, 3]
    assert (found.delay_ns / MS).tolist() == [0, 0, 4, 0, 0]
    floored = follow(exchange, ingest, stamped, ALWAYS.model_copy(update={"floor_ms": 1.0}))
    assert (floored.offset_ns / MS).tolist() == [4, 4, 4, 2, 2]
    assert (floored.delay_ns / MS).tolist() == [0, 0, 4, 0, 0]


def test_one_wrong_stamp_moves_no_clock():
    exchange, ingest, offset = late_and_heavy(60_000, 100.0, seed=9)
    exchange[30_000] += 5_000 * MS
    found = follow(exchange, ingest, np.ones(len(ingest), bool), Clock(floor_ms=0.35))
    assert np.abs((found.offset_ns - offset)[10_000:]).max() < 0.25 * MS


steps = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.booleans()), min_size=1, max_size=60)


@given(steps)
@settings(deadline=None, max_examples=60)
def test_it_is_its_definition(stream):
    gaps, delays, stamped = (np.array(column) for column in zip(*stream, strict=True))
    ingest = START + np.cumsum(gaps) * MS
    exchange = ingest - delays * MS + 7 * MS
    found = follow(exchange, ingest, stamped.astype(bool), Clock(window_ms=50.0, half_life_ms=100.0))
    least, delay = by_hand(exchange.tolist(), ingest.tolist(), stamped, 50 * MS, 100 * MS)
    # Equal but for the last bit of a nanosecond's fraction.
    assert np.abs(found.offset_ns - least).max() <= 1
    assert np.abs(found.delay_ns - delay).max() <= 1


@given(steps, st.data())
@settings(deadline=None, max_examples=60)
def test_the_future_changes_nothing(stream, data):
    gaps, delays, stamped = (np.array(column) for column in zip(*stream, strict=True))
    ingest = START + np.cumsum(gaps) * MS
    exchange = ingest - delays * MS
    now = data.draw(st.integers(0, len(ingest) - 1))
    changed = exchange.copy()
    changed[now + 1 :] += 500 * MS
    before = follow(exchange, ingest, stamped.astype(bool), ALWAYS)
    after = follow(changed, ingest, stamped.astype(bool), ALWAYS)
    assert (before.offset_ns[: now + 1] == after.offset_ns[: now + 1]).all()
    assert (before.delay_ns[: now + 1] == after.delay_ns[: now + 1]).all()
