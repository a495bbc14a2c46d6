"""What the compiled loop of the backtest works on: the market, charges and rules that it is given, and the
books that it moves.
"""

from typing import NamedTuple

import numpy as np


class Market(NamedTuple):
    """What each bar does to positions and orders, arrays (bars, symbols)."""

    overnight: np.ndarray
    intraday: np.ndarray
    known: np.ndarray
    buyable: np.ndarray
    sellable: np.ndarray
    gone: np.ndarray


class Charges(NamedTuple):
    """What trading and shorting cost by name besides the linear part, as known at each bar: (bars, symbols),
    or (0, 0) where there is no such charge.

    `spread` is a share of the traded value; so is `impact`, of an order of one unit of money, and grows with
    the root of the order; `borrow` is a share of a short position, a bar.
    """

    spread: np.ndarray
    impact: np.ndarray
    borrow: np.ndarray


class Rules(NamedTuple):
    """The settings of the loop; infinite or 0 where a stop is off."""

    at_close: bool
    cost_bps: float
    root_of_capital: float
    stop_loss: float
    delisting_return: float
    drawdown: float
    losses_in_row: int
    pause_bars: int
    volatility_ceiling: float
    volatility_bars: int
    root_of_year: float


class Books(NamedTuple):
    """Positions, in units of the gross capital at the start: (books, symbols), and what is as long as one
    book. `busy`: books that hold what must go. `frozen` was written off as delisted: should the name trade
    again, its gain or loss since then still counts. `total` and `ordered` are of all books, in the newest
    bar; what follows them is room to work in.
    """

    held: np.ndarray
    entered: np.ndarray
    leaving: np.ndarray
    busy: np.ndarray
    frozen: np.ndarray
    total: np.ndarray
    ordered: np.ndarray
    wanted: np.ndarray
    filled: np.ndarray
    room: np.ndarray
    changed: np.ndarray


def empty_books(n_books: int, n_symbols: int) -> Books:
    """Books without a position."""
    shape = (n_books, n_symbols)
    line = [np.zeros(n_symbols) for _ in range(4)]
    return Books(
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape, dtype=np.bool_),
        np.zeros(n_books, dtype=np.bool_),
        *line,
        np.zeros(n_symbols, dtype=np.bool_),
        np.zeros(n_symbols),
        np.zeros(n_books * n_symbols),
    )
