"""What trading costs by name, as known at each bar: half the spread, the price that an order moves, and the
fee for borrowing what is sold short.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from components.backtest.books import Charges
from components.backtest.config import Settings
from components.backtest.prices import Prices, market_prices
from components.backtest.terms import Terms
from components.contracts import ContractError
from components.metrics import to_matrices
from components.metrics.liquidity import one_bar_returns, roll_half_spread, traded_value, volatility

# A name of which nothing is known yet costs as much as the dearest tenth of the names of its bar.
DEAREST = 0.9
NOTHING = np.zeros((0, 0))


def charged_prices(panel: pl.DataFrame, inside: pl.DataFrame, terms: Terms) -> Prices:
    """`market_prices` of the rows `inside`, with what trading costs by name as the whole panel has it."""
    prices = market_prices(inside)
    if inside.is_empty():
        return prices
    return replace(prices, charges=charges_by_name(panel, prices, terms.settings, terms.bars_per_year))


def charges_by_name(panel: pl.DataFrame, prices: Prices, settings: Settings, bars_per_year: float) -> Charges:
    """Charges at the bars and of the symbols of `prices`.

    `impact` is volatility * impact_volatilities / sqrt(mean traded value): by the square-root law an order of
    value v costs that times sqrt(v), as a share of v (Almgren et al. 2005). Where a name's figures are
    unknown its last known ones count, and before these the dearest tenth's of its bar.

    Parameters
    ----------
    panel : columns `timestamp`, `symbol`, `close`, `volume`, optionally `borrow_bps`, `level_step`; its bars
        before those of `prices` are what is known at the first of them

    Returns
    -------
    Without `impact` where no traded value is known, without `spread` and `borrow` where none is asked for.

    Raises
    ------
    ContractError
        If settings.capital is set and no traded value is known.
    """
    rows, calendar, before = _with_history(panel, prices, max(settings.volume_bars, settings.spread_bars) + 1)
    names = ["close", "volume", *(name for name in ("level_step", "borrow_bps") if name in panel.columns)]
    found = dict(zip(names, to_matrices(rows, names, calendar, prices.symbols), strict=True))
    close = np.where(found["close"] > 0, found["close"], np.nan)
    returns = one_bar_returns(np.log(close))
    if "level_step" in found:
        returns = np.where(found["level_step"] == 1, np.nan, returns)
    value = traded_value(close * found["volume"], settings.volume_bars)
    if settings.capital is not None and not np.isfinite(value).any():
        raise ContractError(
            f"backtest.capital = {settings.capital:g} asks for costs by the share of what is traded, but the"
            " panel knows no volume. Map its column in market.columns, or leave backtest.capital out."
        )
    size = volatility(returns, settings.volume_bars)
    spread = NOTHING
    if settings.half_spread == "roll":
        spread = _filled(roll_half_spread(returns, settings.spread_bars))[before:]
    impact = _filled(settings.impact_volatilities * size / np.sqrt(value))[before:]
    fees = np.full(close.shape, settings.borrow_bps_per_year)
    if "borrow_bps" in found:
        fees = np.where(np.isfinite(found["borrow_bps"]), found["borrow_bps"], fees)
    borrow = fees[before:] / 1e4 / bars_per_year if fees.any() else NOTHING
    return Charges(spread, impact if np.isfinite(impact).any() else NOTHING, borrow)


def _with_history(panel: pl.DataFrame, prices: Prices, bars: int) -> tuple[pl.DataFrame, pl.Series, int]:
    """The rows from `bars` bars before the first of `prices` to its last, their calendar, and how many of its
    bars lie before.
    """
    calendar = panel["timestamp"].unique().sort()
    first = int(calendar.search_sorted(prices.calendar[0]))
    start = max(first - bars, 0)
    calendar = calendar[start : first + len(prices.calendar)]
    rows = panel.filter(pl.col("timestamp").is_between(calendar[0], calendar[-1]))
    return rows, calendar, first - start


def _filled(values: np.ndarray) -> np.ndarray:
    """The last known value of each symbol, before its first one that of the dearest tenth of the bar; NaN at
    bars at which none is known.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    known = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    last = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
    last = np.where(newest >= 0, last, np.nan)
    some = np.isfinite(last).any(axis=1)
    dear = np.full((len(values), 1), np.nan)
    dear[some, 0] = np.nanquantile(last[some], DEAREST, axis=1)
    return np.where(np.isfinite(last), last, dear)
