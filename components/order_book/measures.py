"""What is read off a book: mid, spread, imbalances, slope, and what a taker would pay.

All in ticks and lots, as floats; NaN where the book does not tell. Levels are those of
`components.order_book.state.level`: the touch by quotes, behind it depth.
"""

import numpy as np

from components.contracts.tick_schemas import BUY, SELL
from components.order_book.compiled import compiled
from components.order_book.state import behind, best


@compiled
def mid(book):
    """The middle of best bid and ask in ticks."""
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    return (bid + ask) / 2 if bid_lots > 0 and ask_lots > 0 else np.nan


@compiled
def spread(book):
    """Best ask less best bid in ticks; negative in a crossed book."""
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    return float(ask - bid) if bid_lots > 0 and ask_lots > 0 else np.nan


@compiled
def microprice(book):
    """The mean of best bid and ask, each weighed by the other's lots, in ticks."""
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    if bid_lots == 0 or ask_lots == 0:
        return np.nan
    return (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)


@compiled
def imbalance(book, n):
    """Bid lots less ask lots over their sum, of the best n levels together; in [-1, 1].

    NaN where a side has fewer than n levels that are known.
    """
    total, difference, _ = _sums(book, n)
    return difference / total


@compiled
def queue_imbalance(book, n):
    """The mean over the best n levels of each pair's own imbalance; in [-1, 1].

    A level weighs what any other does, however many lots it has. NaN as in `imbalance`.
    """
    return _sums(book, n)[2] / n


@compiled
def _sums(book, n):
    """Over n levels: lots of both sides, bid lots less ask lots, and the sum of the levels' imbalances."""
    bid, bid_lots = best(book, BUY)
    ask, ask_lots = best(book, SELL)
    total, difference, ratios = 0.0, 0.0, 0.0
    for n_th in range(n):
        if n_th > 0:
            bid, bid_lots = behind(book, BUY, bid)
            ask, ask_lots = behind(book, SELL, ask)
        if bid_lots == 0 or ask_lots == 0:
            return np.nan, np.nan, np.nan
        total += bid_lots + ask_lots
        difference += bid_lots - ask_lots
        ratios += (bid_lots - ask_lots) / (bid_lots + ask_lots)
    return total, difference, ratios


@compiled
def depth_slope(book, side, n):
    """Lots that a side gains a tick away from the mid: the least-squares slope through the origin of lots up
    to a level on that level's distance, over the best n levels.

    NaN where the side has fewer than n levels that are known, or there is no mid.
    """
    middle = mid(book)
    price, lots = best(book, side)
    together, products, squares = 0.0, 0.0, 0.0
    for n_th in range(n):
        if n_th > 0:
            price, lots = behind(book, side, price)
        if lots == 0:
            return np.nan
        distance = (middle - price) * side
        together += lots
        products += together * distance
        squares += distance * distance
    return products / squares if squares > 0 else np.nan


@compiled
def walk(book, side, lots):
    """What a taker of `side` would get there and then for `lots`: BUY walks up the asks, SELL down the bids.

    Returns
    -------
    The average price in ticks, NaN where what is known of the book is too thin; the lots that it could fill.
    """
    price, quantity = best(book, -side)
    filled, paid = np.int64(0), 0.0
    while quantity > 0:
        taken = min(quantity, lots - filled)
        filled += taken
        paid += float(taken) * price
        if filled == lots:
            break
        price, quantity = behind(book, -side, price)
    return paid / lots if filled == lots and lots > 0 else np.nan, filled
