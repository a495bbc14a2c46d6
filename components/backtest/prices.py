"""The prices that a backtest trades and marks at, and where orders are filled."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import UNTRADABLE
from components.metrics import to_matrix


@dataclass(frozen=True)
class Prices:
    """Prices of a stretch of bars. Arrays are (bars, symbols).

    `overnight` is the return from the last known price before the bar to its open, `intraday` from there to
    its close, both 0 where a price is missing. `stale` counts the bars in a row, up to this one, that gave no
    price. `unbuyable` and `unsellable`: no such order could be filled in the bar.
    """

    calendar: pl.Series
    symbols: pl.Series
    overnight: np.ndarray
    intraday: np.ndarray
    open_known: np.ndarray
    close_known: np.ndarray
    stale: np.ndarray
    unbuyable: np.ndarray
    unsellable: np.ndarray


@dataclass(frozen=True)
class Orders:
    """Where orders of one bar are filled, (symbols,) each: where the price is `known`, and where a buy or a
    sell gets it.
    """

    known: np.ndarray
    buyable: np.ndarray
    sellable: np.ndarray

    @classmethod
    def of(cls, prices: Prices, bar: int, entry: str) -> "Orders":
        """At the bar's open or close, as `entry` says."""
        known = prices.open_known[bar] if entry == "next_open" else prices.close_known[bar]
        return cls(known, known & ~prices.unbuyable[bar], known & ~prices.unsellable[bar])

    def filled(self, held: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Which wanted positions are reached, the others stay as held; shape as `held`."""
        return np.where(wanted > held, self.buyable, np.where(wanted < held, self.sellable, self.known))


def market_prices(panel: pl.DataFrame) -> Prices:
    """Arrays of a panel (columns `timestamp`, `symbol`, `open`, `close`, optionally those of UNTRADABLE).

    A price that is not finite and positive counts as missing.
    """
    calendar, symbols = panel["timestamp"].unique().sort(), panel["symbol"].unique().sort()
    shape = (2 * len(calendar), len(symbols))
    steps = np.empty(shape)
    steps[0::2], steps[1::2] = (
        to_matrix(panel, "open", calendar, symbols),
        to_matrix(panel, "close", calendar, symbols),
    )
    known = np.isfinite(steps) & (steps > 0)
    last = np.maximum.accumulate(np.where(known, np.arange(shape[0])[:, None], -1), axis=0)
    filled = np.where(
        last >= 0, np.take_along_axis(np.where(known, steps, 1.0), np.maximum(last, 0), axis=0), np.nan
    )
    changes = np.zeros(shape)
    changes[1:] = np.nan_to_num(filled[1:] / filled[:-1] - 1, nan=0.0, posinf=0.0, neginf=0.0)
    open_known, close_known = known[0::2], known[1::2]
    bars = np.arange(len(calendar))[:, None]
    stale = bars - np.maximum.accumulate(np.where(open_known | close_known, bars, -1), axis=0)
    blocked = (
        to_matrix(panel, name, calendar, symbols) == 1
        if name in panel.columns
        else np.zeros(open_known.shape, dtype=bool)
        for name in UNTRADABLE
    )
    return Prices(calendar, symbols, changes[0::2], changes[1::2], open_known, close_known, stale, *blocked)
