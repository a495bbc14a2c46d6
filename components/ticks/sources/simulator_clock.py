"""When simulated messages arrive: offset and drift of the collector's clock, delays with a heavy tail,
silences after which everything comes at once. One connection: nothing overtakes.
"""

import numpy as np

from components.ticks.sources.simulator_config import CollectorSettings

# Log-normal shape: a 99th percentile at ten times the median, as measured on recorded feeds.
BODY_SPREAD = 1.0
# Pareto tail beyond this many medians, with a finite mean and no finite variance.
TAIL_FROM = 6.0
TAIL_SHAPE = 1.8
LONGEST_DELAY_S = 5.0
# Least time between two messages, in nanoseconds.
BETWEEN_NS = 1_000


def arrivals(
    exchange_ns: np.ndarray,
    event: np.ndarray,
    collector: CollectorSettings,
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Nanoseconds on the collector's clock, since the session's start on the exchange's, strictly ascending.

    `exchange_ns` and `event` are of messages in the exchange's order; those of one event travel together.
    """
    delay = _delays(int(event[-1]) + 1, collector, rng)[event]
    drift = collector.drift_ms_a_minute / 60_000
    clock = (collector.offset_ms + collector.least_delay_ms) * 1e6 + drift * exchange_ns
    silent = _silences(collector, seconds, rng)
    arrived = _after_silence(exchange_ns + delay, silent)
    return _in_turn((arrived + clock).astype(np.int64))


def _delays(events: int, collector: CollectorSettings, rng: np.random.Generator) -> np.ndarray:
    """What each event takes beyond the least delay, in nanoseconds."""
    median = collector.median_delay_ms * 1e6
    body = median * np.exp(BODY_SPREAD * rng.standard_normal(events))
    tail = TAIL_FROM * median * (1 + rng.pareto(TAIL_SHAPE, events))
    chosen = np.where(rng.random(events) < collector.tail_share, tail, body)
    return np.minimum(chosen, LONGEST_DELAY_S * 1e9)


def _silences(collector: CollectorSettings, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Start and end of silences, rows in nanoseconds since the start, in order of time, never overlapping."""
    number = rng.poisson(collector.silences_an_hour * seconds / 3_600)
    starts = np.sort(rng.random(number)) * seconds
    ends = starts + rng.exponential(collector.silence_s, number)
    return np.column_stack([starts, np.minimum(ends, np.append(starts[1:], seconds))]) * 1e9


def _after_silence(arrived: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """What falls into a silence arrives at its end."""
    if not len(silent):
        return arrived
    number = np.searchsorted(silent[:, 0], arrived, side="right") - 1
    end = np.where(number >= 0, silent[number, 1], 0)
    return np.maximum(arrived, end)


def _in_turn(arrived: np.ndarray) -> np.ndarray:
    """No message before an earlier one, and none at the same moment."""
    steps = np.arange(len(arrived)) * BETWEEN_NS
    return np.maximum.accumulate(arrived - steps) + steps
