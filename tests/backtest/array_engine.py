"""The backtest on whole arrays, a bar at a time: what the compiled loop must equal to the bit."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.backtest.config import Settings
from components.backtest.prices import Prices
from components.contracts import UNTRADABLE
from components.metrics import to_matrix

NEGLIGIBLE = 1e-12


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


def array_prices(panel: pl.DataFrame) -> Prices:
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


@dataclass
class Portfolio:
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


def array_backtest(prices, targets, settings, n_books, first, bars_per_year):
    """Rows of figures, one a bar from `first` on, and the counts of events; `targets` are weights."""
    state = Portfolio(
        *(np.zeros((n_books, len(prices.symbols)), dtype=kind) for kind in (float, float, bool)),
        np.zeros(len(prices.symbols)),
    )
    rows = [
        _bar(state, prices, bar, targets[bar - 1] / n_books, (bar - first) % n_books, settings, bars_per_year)
        for bar in range(first, len(prices.calendar))
    ]
    return np.array(rows).reshape(-1, 8), state.events


def _bar(
    state: Portfolio,
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


def _earn(state: Portfolio, change: np.ndarray) -> None:
    earned = state.held * change
    state.held += earned
    state.capital += earned.sum() + (state.frozen * change).sum()
    if state.capital <= 0:
        state.capital = 0.0
        state.held[:] = 0.0
        state.frozen[:] = 0.0


def _trade(
    state: Portfolio,
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


def _note_stops(state: Portfolio, bar: int, net_return: float, settings: Settings) -> None:
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


def _exposure_factor(state: Portfolio, settings: Settings, bars_per_year: float) -> float:
    """1, or a half where the portfolio's own volatility, known at the signal, is above its ceiling."""
    if settings.volatility_ceiling is None or len(state.net_returns) < settings.volatility_bars:
        return 1.0
    realised = np.std(state.net_returns[-settings.volatility_bars :], ddof=1) * np.sqrt(bars_per_year)
    return 0.5 if realised > settings.volatility_ceiling else 1.0
