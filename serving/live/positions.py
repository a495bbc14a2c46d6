"""Suggested positions: the share of capital that one new long-short book would give a name, by the same rule
as the backtest.
"""

from dataclasses import replace

import numpy as np

from components.sizing import FEWEST_NAMES
from serving.live.book_rows import BookRows, weights
from serving.live.book_sizing import BookSizing

# Numbers in the books that are sized at a time: what they need stays in the processor's cache, or in memory
# where each name brings its past returns.
_CELLS, _CELLS_WITH_PAST = 250_000, 8_000_000


def inserted_weights(rows: BookRows, places_B: np.ndarray, market: BookRows, book: BookSizing) -> np.ndarray:
    """Weight [B] of each row if it alone stood in the market's book, in place of the symbol's own score
    (place -1: a symbol that the market lacks).
    """
    weights_B = np.zeros(len(rows))
    candidates = np.flatnonzero(_near_the_edges(rows.score, market.score, book))
    past = 0 if market.past is None else market.past.shape[1]
    cells = _CELLS_WITH_PAST // past if past else _CELLS
    step = max(cells // (len(market) + 1), 1)
    for start in range(0, len(candidates), step):
        chosen = candidates[start : start + step]
        books = market.beside(rows.changed(lambda values, chosen=chosen: values[chosen]))
        known = np.flatnonzero(places_B[chosen] >= 0)
        scores = books.score.copy()
        scores[known, places_B[chosen][known]] = np.nan
        weights_B[chosen] = weights(replace(books, score=scores), book)[:, -1]
    return weights_B


def _near_the_edges(score_B: np.ndarray, scores_N: np.ndarray, book: BookSizing) -> np.ndarray:
    """False where a score certainly gets no position: more names than a side takes lie above it, and as many
    below, its own old score not counted.

    Where names are skipped, the least certain or those with too short a past, that depends on who they are:
    no row can be ruled out.
    """
    if book.skip_share or book.volatility_target is not None:
        return np.ones(len(score_B), dtype=bool)
    ranked = np.sort(scores_N[np.isfinite(scores_N)])
    take = max(int(np.floor(book.quantile * (len(ranked) + 1) + 1e-9)), 1)
    if len(ranked) < max(2 * take + 2, FEWEST_NAMES):
        return np.ones(len(score_B), dtype=bool)
    return (score_B >= ranked[-take - 1]) | (score_B <= ranked[take])


def batch_weights(rows: BookRows, bar_B: np.ndarray, book: BookSizing) -> np.ndarray:
    """Weight [B] of each row in the book of its own bar; `bar_B` numbers the bars from 0."""
    order = np.argsort(bar_B, kind="stable")
    bars = bar_B[order]
    column = np.arange(len(bars)) - np.searchsorted(bars, bars)
    shape = (int(bars[-1]) + 1, int(column.max()) + 1)

    def laid_out(values: np.ndarray) -> np.ndarray:
        books = np.full((*shape, *values.shape[1:]), np.nan)
        books[bars, column] = values[order]
        return books

    weights_B = np.empty(len(bars))
    weights_B[order] = weights(rows.changed(laid_out), book)[bars, column]
    return weights_B
