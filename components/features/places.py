"""Where the rows of a panel stand in time, and how much of its end gives the windows of its newest bars."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.features.errors import FeatureError
from components.features.raw_values import codes

# A window over one symbol's bars may stand on a window over timestamps and that on another symbol's: each can
# be stretched by missing bars.
CHAINED_WINDOWS = 3
# So many more timestamps than needed are looked at first, for bars that symbols miss.
SPARE_BARS = 32


class TailTooShort(FeatureError):
    """The panel's tail does not hold all bars that the new rows need."""


@dataclass(frozen=True)
class Places:
    """Where the rows of a panel stand: number of their timestamp and of their symbol, (rows,), and each
    symbol's first timestamp, below 0 if before the panel.

    `complete` where nothing was stored before the panel's first bar.
    """

    time: np.ndarray
    symbol: np.ndarray
    first: np.ndarray
    complete: bool


def places_of(panel: pl.DataFrame, known_before: pl.Series) -> Places:
    """Where the rows of a panel, sorted by time and symbol, stand; `known_before` are the symbols with bars
    before its first timestamp.
    """
    time = panel["timestamp"].rle_id().to_numpy().astype(np.int64)
    names = panel["symbol"].unique().sort()
    symbol = codes(panel["symbol"]).astype(np.int64) - 1
    first = np.full(len(names), int(time[-1]) + 1)
    np.minimum.at(first, symbol, time)
    return Places(
        time,
        symbol,
        np.where(names.is_in(known_before.implode()).to_numpy(), -1, first),
        known_before.is_empty(),
    )


def tail_start(places: Places, old_times: int, bars: int) -> int:
    """The timestamp from which on the panel gives every window of `bars` bars that ends at the newest old
    timestamp or later.
    """
    start = old_times - bars
    while start > 0:
        row = int(np.searchsorted(places.time, start))
        time, symbol = places.time[row:], places.symbol[row:]
        rows = np.bincount(symbol, minlength=len(places.first))
        last = np.zeros(len(places.first), dtype=np.int64)
        last[symbol] = time
        missed = int(np.max(np.where(rows > 0, last - np.maximum(places.first, start) + 1 - rows, 0)))
        wanted = old_times - bars - CHAINED_WINDOWS * missed
        if wanted >= start:
            return start
        start = wanted
    if start < 0 and not places.complete:
        raise TailTooShort(
            f"The panel's tail begins {old_times} bars before the first new one; {old_times - start} are"
            " needed, because a factor looks back that far and symbols miss bars. Give a longer tail, or the"
            " whole panel."
        )
    return 0
