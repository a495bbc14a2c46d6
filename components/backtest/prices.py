"""The prices that a backtest trades and marks at, and where no order is filled."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.backtest.books import Charges
from components.backtest.compiled import compiled
from components.contracts import UNTRADABLE
from components.metrics import to_matrices
from components.sizing.known import NOTHING_KNOWN, Known


@dataclass(frozen=True)
class Prices:
    """Prices of a stretch of bars. Arrays are (bars, symbols).

    `overnight` is the return from the last known price before the bar to its open, `intraday` from there to
    its close, both 0 where a price is missing. `stale` counts the bars in a row, up to this one, that gave no
    price. `unbuyable` and `unsellable`: no such order could be filled in the bar. `charges`: what trading
    costs by name; None: the linear costs of the settings alone. `names`: what books are sized by beside
    scores.
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
    charges: Charges | None = None
    names: Known = NOTHING_KNOWN


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


def _steps(opened: np.ndarray, closed: np.ndarray) -> tuple[np.ndarray, ...]:
    """`overnight`, `intraday`, `open_known`, `close_known` and `stale` of Prices."""
    changes, known = np.zeros((2, *opened.shape)), np.zeros((2, *opened.shape), dtype=bool)
    stale = np.zeros(opened.shape, dtype=np.int64)
    names = opened.shape[1]
    _follow((opened, closed), changes, known, stale, np.zeros(names), np.full(names, -1))
    return (*changes, *known, stale)


@compiled
def _follow(prices, changes, known, stale, last, newest):
    """Fill in the changes from each symbol's `last` known price, and the bars since its `newest`."""
    for bar in range(len(stale)):
        for step in range(2):
            for n in range(len(last)):
                price = prices[step][bar, n]
                if price > 0 and price < np.inf:
                    change = price / last[n] - 1
                    if last[n] > 0 and abs(change) < np.inf:
                        changes[step, bar, n] = change
                    known[step, bar, n] = True
                    last[n], newest[n] = price, bar
        for n in range(len(last)):
            stale[bar, n] = bar - newest[n]
