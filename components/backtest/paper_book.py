"""What each name brings into the long_short book, decision bar by decision bar: the positions that scores ask
for, every order filled, without drift and stops.

The engine's book is one sum of money; here it is taken apart by name, so that profit can be told by group.
"""

import numpy as np
import polars as pl

from components.backtest.prices import Prices
from components.backtest.sized_by import new_books
from components.backtest.terms import Terms


def paper_book(predictions: pl.DataFrame, prices: Prices, terms: Terms) -> pl.DataFrame:
    """Columns `timestamp` (the decision bar), `symbol`, and of the bar after it, as shares of the capital:
    `earned` before costs, `cost` by settings.cost_bps_per_side alone, `traded`. One row for each name that
    was held or traded.

    Parameters
    ----------
    predictions : as in `new_books`
    """
    held = _wanted(predictions, prices, terms)
    before = np.vstack([np.zeros_like(held[:1]), held[:-1]])
    overnight, intraday = prices.overnight[1:], prices.intraday[1:]
    now, last = held[:-1], before[:-1]
    earned = (
        last * overnight + now * intraday
        if terms.settings.entry == "next_open"
        else last * ((1 + overnight) * (1 + intraday) - 1)
    )
    traded = np.abs(now - last)
    bars, names = np.nonzero((now != 0) | (last != 0))
    return pl.DataFrame(
        {
            "timestamp": prices.calendar.gather(bars),
            "symbol": prices.symbols.gather(names),
            "earned": earned[bars, names],
            "cost": traded[bars, names] * terms.settings.cost_bps_per_side / 1e4,
            "traded": traded[bars, names],
        }
    )


def _wanted(predictions: pl.DataFrame, prices: Prices, terms: Terms) -> np.ndarray:
    """Positions after the decision of each bar, (bars, symbols): the mean of the staggered books' targets."""
    targets = new_books(predictions, prices, terms, "long_short")[0].weights
    books = terms.settings.holding_bars or terms.horizon
    held = np.zeros_like(targets)
    for age in range(min(books, len(targets))):
        held[age:] += targets[: len(targets) - age]
    return held / books
