"""The new book that scores ask for at each bar, and what it is sized by beside them: as known at the bar,
from the context columns of the training set, which the service finds beside its live rows.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from components.backtest.config import Settings
from components.backtest.prices import Prices
from components.backtest.terms import Terms
from components.contracts import (
    BETA_COLUMN,
    PAST_RETURN_BARS,
    RETURN_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
)
from components.metrics import to_matrices
from components.metrics.liquidity import trailing_sum
from components.sizing import BY_BETS, long_only_book, long_short_book, universe_book
from components.sizing.known import Known
from components.sizing.limits import Limited, joined

SIZED_BY = (VOLATILITY_COLUMN, SECTOR_COLUMN, BETA_COLUMN, RETURN_COLUMN)
Sizing = Callable[[np.ndarray, np.ndarray, Settings, Known], Limited]
STRATEGIES: dict[str, Sizing] = {
    "long_short": long_short_book,
    "long_only": long_only_book,
    "universe": universe_book,
}
# Bars: what sizing them needs stays in the processor's cache.
SIZED_TOGETHER = 128
USUAL = "usual_uncertainty"
CHANCES = {"p_up": "up", "p_down": "down"}


def new_books(
    predictions: pl.DataFrame, prices: Prices, terms: Terms, strategy: str
) -> tuple[Limited, np.ndarray]:
    """The book that scores ask for at each bar, arrays as those of `prices`; and which bars have any score.

    Parameters
    ----------
    predictions : columns `timestamp`, `symbol`, `score`, `uncertainty`, optionally `usual_uncertainty`, and
        CHANCES where the target is a class
    strategy : a key of STRATEGIES

    Raises
    ------
    SizingError
        If the settings ask for a limit, and what it needs is not there.
    """
    chances = CHANCES if terms.settings.sizing in BY_BETS else {}
    names = [name for name in ("score", "uncertainty", USUAL, *chances) if name in predictions.columns]
    found = dict(zip(names, to_matrices(predictions, names, prices.calendar, prices.symbols), strict=True))
    scores, usual = found["score"], found.get(USUAL, np.array(np.inf))
    usual = np.broadcast_to(np.where(np.isfinite(usual), usual, np.inf), scores.shape)
    known = replace(
        prices.names,
        usual=usual,
        horizon=terms.horizon,
        bars_per_year=terms.bars_per_year,
        **{field: found[name] for name, field in chances.items() if name in found},
    )
    books = []
    for first in range(0, len(scores), SIZED_TOGETHER):
        bars = slice(first, first + SIZED_TOGETHER)
        books.append(
            STRATEGIES[strategy](scores[bars], found["uncertainty"][bars], terms.settings, known.at(bars))
        )
    return joined(books, scores.shape[1]), np.isfinite(scores).any(axis=1)


def with_names(prices: Prices, context: pl.DataFrame, terms: Terms) -> Prices:
    """The prices, with what the settings size books by.

    Parameters
    ----------
    context : columns `timestamp`, `symbol`, and those of SIZED_BY that there are; its bars before those of
        `prices` are what is known at the first of them
    """
    settings = terms.settings
    wanted = {
        VOLATILITY_COLUMN: ("volatility", settings.sizing == "kelly"),
        SECTOR_COLUMN: ("sector", settings.max_sector_weight is not None),
        BETA_COLUMN: ("beta", settings.max_beta is not None),
    }
    columns = {name: field for name, (field, asked) in wanted.items() if asked and name in context.columns}
    found = to_matrices(context, list(columns), prices.calendar, prices.symbols)
    known = Known(**dict(zip(columns.values(), found, strict=True)))
    asked = settings.volatility_target is not None and len(prices.calendar) > 0
    if asked and RETURN_COLUMN in context.columns:
        known = _with_past(known, prices, context)
    return replace(prices, names=known)


def _with_past(known: Known, prices: Prices, context: pl.DataFrame) -> Known:
    """Past returns of the bars before each bar, the first bars' from before the prices."""
    calendar = context["timestamp"].unique().sort()
    first = int(calendar.search_sorted(prices.calendar[0]))
    start = max(first - PAST_RETURN_BARS + 1, 0)
    before = calendar[start:first]
    (returns,) = to_matrices(context, [RETURN_COLUMN], pl.concat([before, prices.calendar]), prices.symbols)
    missing = PAST_RETURN_BARS - 1 - len(before)
    returns = np.vstack([np.full((missing, returns.shape[1]), np.nan), returns])
    there = np.isfinite(returns)
    seen = trailing_sum(there.astype(float), PAST_RETURN_BARS)[PAST_RETURN_BARS - 1 :] / PAST_RETURN_BARS
    past = sliding_window_view(np.where(there, returns, 0.0), PAST_RETURN_BARS, axis=0)
    return replace(known, past=past, seen=seen)
