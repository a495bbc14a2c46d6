"""The prices that a backtest trades and marks at, and where no order is filled."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.backtest.compiled import compiled
from components.contracts import UNTRADABLE
from components.metrics import to_matrices


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


def market_prices(panel: pl.DataFrame) -> Prices:
    """Arrays of a panel (columns `timestamp`, `symbol`, `open`, `close`, optionally those of UNTRADABLE).

    A price that is not finite and positive counts as missing.
    """
    calendar, symbols = panel["timestamp"].unique().sort(), panel["symbol"].unique().sort()
    marks = [name for name in UNTRADABLE if name in panel.columns]
    opened, closed, *marked = to_matrices(panel, ("open", "close", *marks), calendar, symbols)
    blocked = dict(zip(marks, marked, strict=True))
    return Prices(
        calendar,
        symbols,
        *_steps(opened, closed),
        *(
            blocked[name] == 1 if name in blocked else np.zeros(opened.shape, dtype=bool)
            for name in UNTRADABLE
        ),
    )


@compiled
def _steps(opened, closed):
    """`overnight`, `intraday`, `open_known`, `close_known` and `stale` of Prices."""
    shape = opened.shape
    overnight, intraday = np.zeros(shape), np.zeros(shape)
    open_known, close_known = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    stale = np.zeros(shape, dtype=np.int64)
    last, newest = np.zeros(shape[1]), np.full(shape[1], -1)
    for bar in range(shape[0]):
        for prices, changes, known in (
            (opened, overnight, open_known),
            (closed, intraday, close_known),
        ):
            for n in range(shape[1]):
                price = prices[bar, n]
                if not (price > 0 and price < np.inf):
                    continue
                known[bar, n] = True
                newest[n] = bar
                change = price / last[n] - 1
                changes[bar, n] = change if last[n] > 0 and abs(change) < np.inf else 0.0
                last[n] = price
        for n in range(shape[1]):
            stale[bar, n] = bar - newest[n]
    return overnight, intraday, open_known, close_known, stale
