"""The backtest of one strategy: staggered books that trade at the first price after their signal, with costs,
drift and stops.

A signal of bar t is traded at the open (or close) of bar t + 1. With a holding time of h bars there are h
books; each is renewed every h bars to its target weights times 1 / h of the capital and drifts in between
(Jegadeesh and Titman 1993). Within a bar everything is an array over (books, symbols); the loop over bars is
needed because stops and drift depend on the path.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.backtest import kernel
from components.backtest.books import Charges, Market, Rules, empty_books
from components.backtest.config import Settings
from components.backtest.prices import Prices
from components.backtest.sized_by import new_books
from components.backtest.terms import Terms
from components.sizing import Limited

IMPACT = "impact"  # the figure that is none of the returns
RETURN_COLUMNS = ("timestamp", "strategy", *(name for name in kernel.FIGURES if name != IMPACT))
COUNTS = ("n_long", "n_short")
NO_CHARGES = Charges(*(np.zeros((0, 0)) for _ in Charges._fields))
# Losing bars in a row that no portfolio reaches.
NEVER = 2**62


@dataclass(frozen=True)
class Backtest:
    """What a strategy did.

    `returns` has RETURN_COLUMNS, one row a bar from the first on which it could trade: returns, cost and
    turnover as shares of the capital before the bar, exposures as shares of the capital after it. net_return
    = gross_return - cost; turnover counts buys and sells. `events` counts `stopped` (single names),
    `delisted` and `pauses`. `impact`, one a bar, is what orders cost by moving prices at a capital of one
    unit of money: it grows with the root of the capital. None where it is not known. `wanted` are the new
    books that were asked for, one for each bar of the prices.
    """

    returns: pl.DataFrame
    events: dict[str, int]
    impact: np.ndarray | None
    wanted: Limited


def run_backtest(
    prices: Prices,
    predictions: pl.DataFrame,
    settings: Settings,
    *,
    horizon: int,
    strategy: str = "long_short",
    bars_per_year: float = 252.0,
) -> Backtest:
    """Trade the scores of one expert.

    Parameters
    ----------
    prices : from `market_prices`; bars outside it are not traded, scores of symbols without a price are left
        out
    predictions : as in `new_books`; a score acts from the bar after its timestamp on
    horizon : bars; the holding time unless settings.holding_bars says otherwise
    strategy : a key of STRATEGIES
    bars_per_year : annualises what settings.volatility_ceiling and volatility_target are held against

    Returns
    -------
    One row for each bar of `prices` after the first score. A portfolio that lost everything stays in cash.
    """
    wanted, scored = new_books(predictions, prices, Terms(settings, horizon, bars_per_year), strategy)
    n_books = settings.holding_bars or horizon
    first = int(scored.argmax()) + 1 if scored.any() else len(prices.calendar)
    books = empty_books(n_books, len(prices.symbols))
    rules, charges = _rules(settings, bars_per_year), prices.charges or NO_CHARGES
    figures, counts = kernel.run_bars(_market(prices, settings), wanted.weights, charges, rules, books, first)
    return Backtest(
        _returns_frame(figures, prices.calendar[first:], strategy),
        dict(zip(kernel.EVENTS, counts.tolist(), strict=True)),
        figures[:, kernel.FIGURES.index(IMPACT)] if len(charges.impact) else None,
        wanted,
    )


def _market(prices: Prices, settings: Settings) -> Market:
    """The prices at which orders are filled, and where."""
    known = prices.close_known if settings.entry == "next_close" else prices.open_known
    return Market(
        prices.overnight,
        prices.intraday,
        known,
        known & ~prices.unbuyable,
        known & ~prices.unsellable,
        prices.stale >= settings.delisting_bars,
    )


def _rules(settings: Settings, bars_per_year: float) -> Rules:
    def limit(value: float | None) -> float:
        return np.inf if value is None else float(value)

    return Rules(
        at_close=settings.entry == "next_close",
        cost_bps=settings.cost_bps_per_side,
        root_of_capital=float(np.sqrt(settings.capital or 0.0)),
        stop_loss=limit(settings.stop_loss_share),
        delisting_return=settings.delisting_return,
        drawdown=limit(settings.drawdown_stop),
        losses_in_row=settings.consecutive_loss_stop or NEVER,
        pause_bars=settings.pause_bars,
        volatility_ceiling=limit(settings.volatility_ceiling),
        volatility_bars=settings.volatility_bars,
        root_of_year=float(np.sqrt(bars_per_year)),
    )


def _returns_frame(figures: np.ndarray, timestamps: pl.Series, strategy: str) -> pl.DataFrame:
    names = {name: pl.Int32 if name in COUNTS else pl.Float64 for name in RETURN_COLUMNS[2:]}
    found = dict(zip(kernel.FIGURES, figures.T, strict=True))
    columns = {name: pl.Series(found[name]).cast(kind) for name, kind in names.items()}
    return pl.DataFrame({"timestamp": timestamps, **columns}).select(
        "timestamp", pl.lit(strategy).alias("strategy"), *columns
    )
