"""Suggested positions: the share of capital that one new long-short book would give a name, by the same rule
as the backtest.
"""

import numpy as np

from components.sizing import FEWEST_NAMES, long_short_weights
from serving.live.market_snapshot import BookSizing, MarketSnapshot

_CELLS = 250_000


def inserted_weights(
    score_B: np.ndarray,
    uncertainty_B: np.ndarray,
    places_B: np.ndarray,
    market: MarketSnapshot,
    book: BookSizing,
) -> np.ndarray:
    """Weight [B] of each row if it alone stood in the market's book, in place of the symbol's own score
    (place -1: a symbol that the market lacks).
    """
    scores_N, uncertainty_N = market.book_scores, market.scores.uncertainty
    weights_B = np.zeros(len(score_B))
    candidates = np.flatnonzero(_near_the_edges(score_B, scores_N, book))
    step = max(_CELLS // (len(scores_N) + 1), 1)
    for start in range(0, len(candidates), step):
        chosen = candidates[start : start + step]
        scores = np.column_stack([np.broadcast_to(scores_N, (len(chosen), len(scores_N))), score_B[chosen]])
        uncertainty = np.column_stack(
            [np.broadcast_to(uncertainty_N, (len(chosen), len(scores_N))), uncertainty_B[chosen]]
        )
        known = np.flatnonzero(places_B[chosen] >= 0)
        scores[known, places_B[chosen][known]] = np.nan
        weights_B[chosen] = long_short_weights(scores, uncertainty, book, book.usual)[:, -1]
    return weights_B


def _near_the_edges(score_B: np.ndarray, scores_N: np.ndarray, book: BookSizing) -> np.ndarray:
    """False where a score certainly gets no position: more names than a side takes lie above it, and as many
    below, its own old score not counted.

    Where the least certain names are skipped, that depends on who they are: no row can be ruled out.
    """
    if book.skip_share:
        return np.ones(len(score_B), dtype=bool)
    ranked = np.sort(scores_N[np.isfinite(scores_N)])
    take = max(int(np.floor(book.quantile * (len(ranked) + 1) + 1e-9)), 1)
    if len(ranked) < max(2 * take + 2, FEWEST_NAMES):
        return np.ones(len(score_B), dtype=bool)
    return (score_B >= ranked[-take - 1]) | (score_B <= ranked[take])


def batch_weights(
    score_B: np.ndarray, uncertainty_B: np.ndarray, bar_B: np.ndarray, book: BookSizing
) -> np.ndarray:
    """Weight [B] of each row in the book of its own bar; `bar_B` numbers the bars from 0."""
    order = np.argsort(bar_B, kind="stable")
    bars = bar_B[order]
    column = np.arange(len(bars)) - np.searchsorted(bars, bars)
    shape = (int(bars[-1]) + 1, int(column.max()) + 1)
    scores, uncertainty = np.full(shape, np.nan), np.full(shape, np.nan)
    scores[bars, column], uncertainty[bars, column] = score_B[order], uncertainty_B[order]
    weights_B = np.empty(len(bars))
    weights_B[order] = long_short_weights(scores, uncertainty, book, book.usual)[bars, column]
    return weights_B
