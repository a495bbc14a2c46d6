"""What rows bring into a book, and the weights that they get in it: by the functions and from the inputs of
the backtest.

Shapes: B rows, R past returns; books (K, N) or (K, N, R).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from components.contracts import BETA_COLUMN, SECTOR_COLUMN, VOLATILITY_COLUMN
from components.scoring import Scores
from components.sizing import long_short_book
from components.sizing.known import Known
from serving.live.book_sizing import BookSizing


@dataclass(frozen=True)
class BookRows:
    """Arrays [B], NaN where unknown, of what the book is sized by; None what plays no part in it.

    `past` is [B, R], log returns of the bars up to the row's own, oldest first.
    """

    score: np.ndarray
    uncertainty: np.ndarray
    up: np.ndarray | None = None
    down: np.ndarray | None = None
    volatility: np.ndarray | None = None
    sector: np.ndarray | None = None
    beta: np.ndarray | None = None
    past: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        scores: Scores,
        context: np.ndarray,
        names: Sequence[str],
        past: np.ndarray | None,
        book: BookSizing,
    ) -> Self:
        """Rows with their context [B, C], whose columns have these names."""
        columns = dict(zip(names, np.asarray(context, dtype=np.float64).T, strict=True))
        return cls(
            scores.score,
            scores.uncertainty,
            up=scores.p_up,
            down=scores.p_down,
            volatility=columns[VOLATILITY_COLUMN],
            sector=columns[SECTOR_COLUMN] if book.max_sector_weight is not None else None,
            beta=columns[BETA_COLUMN] if book.max_beta is not None else None,
            past=np.asarray(past, dtype=np.float64) if book.volatility_target is not None else None,
        )

    def __len__(self) -> int:
        return len(self.score)

    def without(self, left_out: np.ndarray) -> Self:
        """The rows, those `left_out` [B] without a score: they take no part."""
        return replace(self, score=np.where(left_out, np.nan, self.score))

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> Self:
        """With each array changed."""
        return type(self)(
            **{name: None if values is None else change(values) for name, values in vars(self).items()}
        )

    def beside(self, others: "BookRows") -> Self:
        """Books (K, N + 1): these rows (N) in each, and one of the `others` (K) at its end."""

        def joined(own: np.ndarray, other: np.ndarray) -> np.ndarray:
            every = np.broadcast_to(own, (len(other), *own.shape))
            return np.concatenate([every, other[:, None]], axis=1)

        return type(self)(
            **{
                name: None if values is None else joined(values, getattr(others, name))
                for name, values in vars(self).items()
            }
        )


def weights(books: BookRows, book: BookSizing) -> np.ndarray:
    """Weights (K, N) of books whose rows are laid out so, as the backtest sizes them."""
    past, seen = books.past, None
    if past is not None:
        known = np.isfinite(past)
        past, seen = np.where(known, past, 0.0), known.mean(axis=2)
    known_of_names = Known(
        usual=book.usual,
        up=books.up,
        down=books.down,
        volatility=books.volatility,
        horizon=book.horizon,
        sector=books.sector,
        beta=books.beta,
        past=past,
        seen=seen,
        bars_per_year=book.bars_per_year,
    )
    return long_short_book(books.score, books.uncertainty, book, known_of_names).weights
