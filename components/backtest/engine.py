"""The backtest of one strategy: staggered books that trade at the first price after their signal, with costs,
drift and stops.

A signal of bar t is traded at the open (or close) of bar t + 1. With a holding time of h bars there are h
books; each is renewed every h bars to its target weights times 1 / h of the capital and drifts in between
(Jegadeesh and Titman 1993). Within a bar everything is an array over (books, symbols); the loop over bars is
needed because stops and drift depend on the path.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.backtest.config import Settings
from components.backtest.prices import Orders, Prices
from components.metrics import to_matrix
from components.sizing import long_only_weights, long_short_weights, universe_weights

STRATEGIES = {"long_short": long_short_weights, "long_only": long_only_weights, "universe": universe_weights}
RETURN_COLUMNS = (
    "timestamp",
    "strategy",
    "gross_return",
    "cost",
    "net_return",
    "turnover",
    "exposure",
    "net_exposure",
    "n_long",
    "n_short",
)
USUAL = "usual_uncertainty"
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Backtest:
    """What a strategy did.

    `returns` has RETURN_COLUMNS, one row a bar from the first on which it could trade: returns, cost and
    turnover as shares of the capital before the bar, exposures as shares of the capital after it. net_return
    = gross_return - cost; turnover counts buys and sells. `events` counts `stopped` (single names),
    `delisted` and `pauses`.
    """

    returns: pl.DataFrame
    events: dict[str, int]


@dataclass
class _Portfolio:
    """State of the loop, arrays (books, symbols).

    Money is in units of the gross capital at the start; costs are kept apart.

    `frozen`, shape (symbols,), is what was written off as delisted: should the name trade again, its gain or
    loss since then still counts.
    """

    held: np.ndarray
    entered: np.ndarray
    leaving: np.ndarray
    frozen: np.ndarray
    capital: float = 1.0
    net: float = 1.0
    peak: float = 1.0
    losses_in_row: int = 0
    paused_until: int = 0
    net_returns: list[float] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=lambda: {"stopped": 0, "delisted": 0, "pauses": 0})


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
    predictions : columns `timestamp`, `symbol`, `score`, `uncertainty`, optionally `usual_uncertainty`; a
        score acts from the bar after its timestamp on
    horizon : bars; the holding time unless settings.holding_bars says otherwise
    strategy : a key of STRATEGIES
    bars_per_year : annualises the volatility that settings.volatility_ceiling is held against

    Returns
    -------
    One row for each bar of `prices` after the first score. A portfolio that lost everything stays in cash.
    """
    scores = to_matrix(predictions, "score", prices.calendar, prices.symbols)
    uncertainty = to_matrix(predictions, "uncertainty", prices.calendar, prices.symbols)
    targets = STRATEGIES[strategy](scores, uncertainty, settings, _usual(predictions, prices))
    n_books = settings.holding_bars or horizon
    scored = np.flatnonzero(np.isfinite(scores).any(axis=1))
    first = int(scored[0]) + 1 if len(scored) else len(prices.calendar)
    state = _Portfolio(
        *(np.zeros((n_books, len(prices.symbols)), dtype=kind) for kind in (float, float, bool)),
        np.zeros(len(prices.symbols)),
    )
    rows = [
        _bar(state, prices, bar, targets[bar - 1] / n_books, (bar - first) % n_books, settings, bars_per_year)
        for bar in range(first, len(prices.calendar))
    ]
    return Backtest(
        _returns_frame(rows, prices.calendar[first:], strategy),
        state.events,
    )


def _usual(predictions: pl.DataFrame, prices: Prices) -> np.ndarray | float:
    """The usual uncertainty of each prediction, infinite where it is unknown."""
    if USUAL not in predictions.columns:
        return np.inf
    usual = to_matrix(predictions, USUAL, prices.calendar, prices.symbols)
    return np.where(np.isfinite(usual), usual, np.inf)


def _bar(
    state: _Portfolio,
    prices: Prices,
    bar: int,
    target: np.ndarray,
    book: int,
    settings: Settings,
    bars_per_year: float,
) -> tuple[float, ...]:
    """Move the portfolio through one bar; its row of figures."""
    before = state.capital
    _earn(state, prices.overnight[bar])
    if settings.entry == "next_close":
        _earn(state, prices.intraday[bar])
    traded = _trade(
        state,
        bar,
        book,
        target * _exposure_factor(state, settings, bars_per_year),
        Orders.of(prices, bar, settings.entry),
        prices.stale[bar] >= settings.delisting_bars,
        settings,
    )
    if settings.entry == "next_open":
        _earn(state, prices.intraday[bar])
    gross = max(state.capital / before - 1, -1.0) if before > 0 else 0.0
    turnover = traded / before if before > 0 else 0.0
    cost = turnover * settings.cost_bps_per_side / 1e4
    _note_stops(state, bar, gross - cost, settings)
    total = state.held.sum(axis=0)
    scale = state.capital if state.capital > 0 else 1.0
    long, short = total > NEGLIGIBLE, total < -NEGLIGIBLE
    return (
        gross,
        cost,
        gross - cost,
        turnover,
        np.abs(total).sum() / scale,
        total.sum() / scale,
        int(long.sum()),
        int(short.sum()),
    )


def _earn(state: _Portfolio, change: np.ndarray) -> None:
    earned = state.held * change
    state.held += earned
    state.capital += earned.sum() + (state.frozen * change).sum()
    if state.capital <= 0:
        state.capital = 0.0
        state.held[:] = 0.0
        state.frozen[:] = 0.0


def _trade(
    state: _Portfolio,
    bar: int,
    book: int,
    target: np.ndarray,
    orders: Orders,
    gone: np.ndarray,
    settings: Settings,
) -> float:
    """Close what must go, renew the book whose turn it is; returns the traded value.

    What can't be filled stays as it is held, until the book is renewed again or, where it must go, until the
    first bar that fills it.
    """
    state.frozen[orders.known] = 0.0
    wanted = np.where(state.leaving, 0.0, state.held)
    if bar < state.paused_until:
        target = np.zeros_like(target)
    wanted[book] = _within_room(state.held[book], target * state.capital, orders)
    filled = orders.filled(state.held, wanted)
    wanted = np.where(filled, wanted, state.held)
    delisted = gone & (state.held != 0)
    if delisted.any():
        lost = state.held[delisted] * settings.delisting_return
        state.capital += lost.sum()
        state.frozen += np.where(delisted, state.held * (1 + settings.delisting_return), 0.0).sum(axis=0)
        wanted[delisted] = 0.0
        state.events["delisted"] += int(delisted.any(axis=0).sum())
    traded = float(np.abs(wanted - state.held).sum())
    state.entered[book] = np.where(filled[book], wanted[book], state.entered[book])
    state.leaving &= wanted != 0
    state.leaving[book] &= ~filled[book]
    state.held = wanted
    return traded


def _within_room(held: np.ndarray, wanted: np.ndarray, orders: Orders) -> np.ndarray:
    """The wanted positions of a book, (symbols,), made smaller where what can't be reduced takes up the room
    of its side, long or short: capital is not spent twice.
    """
    stuck = ~orders.filled(held, wanted) & (np.abs(held) > np.abs(wanted))
    if not stuck.any():
        return wanted
    long, short = (_side_within_room(sign * held, sign * wanted, stuck) for sign in (1, -1))
    return long - short


def _side_within_room(held: np.ndarray, wanted: np.ndarray, stuck: np.ndarray) -> np.ndarray:
    wanted = np.maximum(wanted, 0.0)
    room = max(wanted.sum() - np.maximum(held, 0.0)[stuck].sum(), 0.0)
    free = max(wanted[~stuck].sum(), NEGLIGIBLE)
    return np.where(stuck, wanted, wanted * min(room / free, 1.0))


def _note_stops(state: _Portfolio, bar: int, net_return: float, settings: Settings) -> None:
    """At the close of a bar: which names and portfolios must be closed at the next price."""
    state.net *= 1 + net_return
    state.peak = max(state.peak, state.net)
    state.losses_in_row = state.losses_in_row + 1 if net_return < 0 else 0
    state.net_returns.append(net_return)
    if settings.stop_loss_share is not None:
        in_position = (state.held != 0) & (state.entered != 0)
        change = np.divide(state.held, state.entered, out=np.ones_like(state.held), where=in_position) - 1
        hit = in_position & ~state.leaving & (np.sign(state.held) * change <= -settings.stop_loss_share)
        state.leaving |= hit
        state.events["stopped"] += int(hit.sum())
    if bar < state.paused_until:
        state.peak, state.losses_in_row = state.net, 0
        return
    too_deep = settings.drawdown_stop is not None and state.net <= state.peak * (1 - settings.drawdown_stop)
    too_often = (
        settings.consecutive_loss_stop is not None and state.losses_in_row >= settings.consecutive_loss_stop
    )
    if too_deep or too_often:
        state.leaving |= state.held != 0
        state.paused_until = bar + 1 + settings.pause_bars
        state.events["pauses"] += 1


def _exposure_factor(state: _Portfolio, settings: Settings, bars_per_year: float) -> float:
    """1, or a half where the portfolio's own volatility, known at the signal, is above its ceiling."""
    if settings.volatility_ceiling is None or len(state.net_returns) < settings.volatility_bars:
        return 1.0
    realised = np.std(state.net_returns[-settings.volatility_bars :], ddof=1) * np.sqrt(bars_per_year)
    return 0.5 if realised > settings.volatility_ceiling else 1.0


def _returns_frame(rows: list[tuple[float, ...]], timestamps: pl.Series, strategy: str) -> pl.DataFrame:
    counts = ("n_long", "n_short")
    schema = {name: pl.Int32 if name in counts else pl.Float64 for name in RETURN_COLUMNS[2:]}
    figures = pl.DataFrame(rows, schema=schema, orient="row")
    return (
        figures.select(timestamps.alias("timestamp"), pl.lit(strategy).alias("strategy"), pl.all())
        if rows
        else figures.clear().select(
            pl.lit(None, dtype=timestamps.dtype).alias("timestamp"),
            pl.lit(strategy).alias("strategy"),
            pl.all(),
        )
    )
