"""How long data, orders and cancels are on their way: fixed, or drawn from what was measured, each by itself,
so that what was sent later may arrive earlier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import ContractError
from components.tick_replay.arrays import Delays
from components.tick_replay.config import Latency

NS_A_MS = 1_000_000
MEASURED = "measured"
AT_ONCE = "none"
# Whole minutes tell how steady the way of messages is.
JITTER_SPAN_NS = 60 * 1_000 * NS_A_MS


@dataclass(frozen=True)
class Quantiles:
    """The measured delays of one symbol and hour: `delay_ns` at `quantile`, both rising."""

    quantile: np.ndarray
    delay_ns: np.ndarray

    def at(self, shares: np.ndarray | float) -> np.ndarray:
        return np.interp(shares, self.quantile, self.delay_ns)


def quantiles_by_hour(delays: pl.DataFrame, symbol: str, *, needed: bool) -> dict[int, Quantiles]:
    """The DELAYS of a symbol by hour of the day (UTC).

    Raises
    ------
    ContractError
        If there are none, though they are `needed`.
    """
    own = delays.filter(pl.col("symbol") == symbol)
    if own.is_empty() and needed:
        there = ", ".join(delays["symbol"].unique().sort()) or "none"
        raise ContractError(
            f"The delays hold nothing of {symbol} (found: {there}). Validate its ticks, or set"
            " tick_replay.latency.measured to false."
        )
    return {
        int(hour): Quantiles(rows["quantile"].to_numpy(), rows["delay_ns"].to_numpy().astype(float))
        for (hour,), rows in own.sort("quantile").group_by("hour")
    }


def names(latency: Latency) -> list[str]:
    """The latencies in order, AT_ONCE first: that of paper."""
    fixed = [f"{milliseconds:g}ms" for milliseconds in sorted(set(latency.fixed_ms))]
    return [AT_ONCE, *fixed, *([MEASURED] if latency.measured else [])]


def draw(at: np.ndarray, latency: Latency, measured: Mapping[int, Quantiles], seed: Sequence[int]) -> Delays:
    """The delays of decisions at these moments (ns), one of each kind for each decision and latency; the
    messages of a trade take those of the decisions that follow.
    """
    generator = np.random.default_rng(seed)
    nothing = np.zeros(len(at), np.int64)
    kinds: list[tuple[np.ndarray, ...]] = [(nothing, nothing, nothing)]
    for milliseconds in sorted(set(latency.fixed_ms)):
        whole = round(milliseconds * NS_A_MS)
        feed = round(whole * latency.feed_share)
        kinds.append((nothing + feed, nothing + whole - feed, nothing + whole - feed))
    if latency.measured:
        least = round(latency.least_ms * NS_A_MS)
        kinds.append(tuple(least + _drawn(at, measured, generator) for _ in range(3)))
    feed, order, cancel = (np.array(part).reshape(len(kinds), len(at)) for part in zip(*kinds, strict=True))
    known = at + feed
    which = np.argsort(known, axis=1, kind="stable")
    return Delays(feed, order, cancel, np.take_along_axis(known, which, axis=1), which)


def _drawn(at: np.ndarray, measured: Mapping[int, Quantiles], generator: np.random.Generator) -> np.ndarray:
    """A delay for each moment, by the distribution of its hour, or of the nearest hour that has one."""
    shares, found = generator.random(len(at)), np.zeros(len(at), np.int64)
    hours = at // (3_600 * 1_000 * NS_A_MS) % 24
    for hour in np.unique(hours):
        here = hours == hour
        found[here] = np.rint(measured[_nearest(int(hour), measured)].at(shares[here]))
    return np.maximum(found, 0)


def _nearest(hour: int, measured: Mapping[int, Quantiles]) -> int:
    return min(sorted(measured), key=lambda other: min((other - hour) % 24, (hour - other) % 24))


def steadiness(
    times: np.ndarray, delay_ns: np.ndarray, at: np.ndarray, weight: float, holds_ns: float
) -> np.ndarray:
    """What sizes are multiplied by at moments: 1 less `weight` times the jitter, which is the 95th percentile
    less the median of the delays in the last JITTER_SPAN_NS that are over, as a share of the horizon; not
    below 0. 1 where none is known yet.

    Parameters
    ----------
    times, delay_ns : of events, in the order of time, ns
    at : moments, ns, rising
    """
    span = times // JITTER_SPAN_NS
    spans, first = np.unique(span, return_index=True)
    jitter = [np.diff(np.quantile(own, [0.5, 0.95]))[0] for own in np.split(delay_ns, first[1:]) if len(own)]
    last = np.searchsorted(spans, at // JITTER_SPAN_NS, side="left") - 1
    known = np.concatenate([jitter, [0.0]])[last]
    return np.maximum(0.0, 1.0 - weight * known / holds_ns)
