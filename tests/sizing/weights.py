"""The weights of new books, without what is told about their limits."""

from dataclasses import replace

import numpy as np

from components.sizing import Book, long_only_book, long_short_book
from components.sizing.known import NOTHING_KNOWN, Known

Usual = np.ndarray | float


def long_short_weights(
    scores: np.ndarray,
    uncertainty: np.ndarray,
    book: Book,
    usual: Usual = np.inf,
    known: Known = NOTHING_KNOWN,
) -> np.ndarray:
    """Those of `long_short_book`."""
    return long_short_book(scores, uncertainty, book, replace(known, usual=usual)).weights


def long_only_weights(
    scores: np.ndarray,
    uncertainty: np.ndarray,
    book: Book,
    usual: Usual = np.inf,
    known: Known = NOTHING_KNOWN,
) -> np.ndarray:
    """Those of `long_only_book`."""
    return long_only_book(scores, uncertainty, book, replace(known, usual=usual)).weights
