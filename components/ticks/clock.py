"""What the collector's clock is ahead of the exchange's, and the delay of each message: the least way of a
window's messages, followed by double exponential smoothing (Brown 1963), so that drift is followed too. The
second least is taken, so that one wrong stamp moves no clock.

Causal: what is said of a message depends on no later one. One-way stamps can't tell an offset of the clock
from the delay that even the fastest message has; the setting `floor_ms` names the latter.
"""

from dataclasses import dataclass

import numpy as np

from components.compiling import compiled
from components.ticks.config import Clock

MS = 1_000_000


@dataclass(frozen=True)
class Followed:
    """For each message: the clock's offset and the message's delay beyond the fastest, in nanoseconds, and
    the drift in nanoseconds a nanosecond as it was estimated then. All are 0 before the first stamp.
    """

    offset_ns: np.ndarray
    delay_ns: np.ndarray
    drift: np.ndarray


def follow(exchange_ts: np.ndarray, ingest_ts: np.ndarray, stamped: np.ndarray, settings: Clock) -> Followed:
    """Follow the clock over the messages of one symbol's session.

    Parameters
    ----------
    exchange_ts, ingest_ts : int64 nanoseconds; `ingest_ts` never falls
    stamped : whether a message's `exchange_ts` says how long it was under way; the others get the offset
        as it is known, and the delay of the last one that does
    """
    least, delay, drift = _follow(
        exchange_ts,
        ingest_ts,
        stamped,
        int(settings.window_ms * MS),
        settings.half_life_ms * MS,
    )
    known = np.maximum.accumulate(stamped)
    return Followed(np.where(known, least - int(settings.floor_ms * MS), 0), delay, drift)


@compiled()
def _follow(exchange_ts, ingest_ts, stamped, window_ns, half_life_ns):
    """The least way as known at each message, the excess over it, and the drift. The way of the first message
    is taken off before smoothing: floating point would not hold its nanoseconds.
    """
    count = len(ingest_ts)
    least, delay, drift = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count)
    started = False
    origin_way, origin_time, window_start = 0, 0, 0
    level, slope, level_time, points = 0.0, 0.0, 0.0, 0
    # The window's two messages that lie lowest above or below the line: how far, their way and their time.
    lowest, second = (np.inf, 0.0, 0.0), (np.inf, 0.0, 0.0)
    last_delay = 0
    for i in range(count):
        if stamped[i] and not started:
            started = True
            origin_way, origin_time = ingest_ts[i] - exchange_ts[i], ingest_ts[i]
            window_start = origin_time
        if not started:
            continue
        now = float(ingest_ts[i] - origin_time)
        if ingest_ts[i] - window_start >= window_ns:
            _, way, time = second if second[0] < np.inf else lowest
            if lowest[0] < np.inf:
                level, slope = _smoothed(level, slope, level_time, points, way, time, half_life_ns)
                level_time, points = time, points + 1
                lowest, second = (np.inf, 0.0, 0.0), (np.inf, 0.0, 0.0)
            window_start += (ingest_ts[i] - window_start) // window_ns * window_ns
        line = level + slope * (now - level_time)
        way = float(ingest_ts[i] - exchange_ts[i] - origin_way)
        if stamped[i] and way - line < lowest[0]:
            lowest, second = (way - line, way, now), lowest
        elif stamped[i] and way - line < second[0]:
            second = (way - line, way, now)
        # No message takes less than the least way: shorter ones lower it at once, one alone is not believed.
        expected = line + min(second[0], 0.0)
        if stamped[i]:
            last_delay = np.int64(max(way - expected, 0.0))
        least[i] = origin_way + np.int64(np.rint(expected))
        delay[i] = last_delay
        drift[i] = slope
    return least, delay, drift


@compiled()
def _smoothed(level, slope, level_time, points, way, time, half_life_ns):
    """Level and slope after one more point. While there are few, each counts as much as those before it."""
    step = time - level_time
    if points == 0 or step <= 0.0:
        return way, slope
    gain = max(1.0 - 2.0 ** (-step / half_life_ns), 1.0 / (points + 1.0))
    ahead = level + slope * step
    error = way - ahead
    return ahead + gain * (2.0 - gain) * error, slope + gain * gain * error / step
