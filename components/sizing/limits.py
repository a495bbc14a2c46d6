"""Limits of a whole book: the net weight of a sector, its beta, its volatility.

Every limit only takes away: no weight grows or changes its side, so that what held before (the largest
weight, the gross exposure) holds after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from components.sizing.known import Known

# Rounds of cutting what pushes beyond a limit and of balancing the sides again; what they leave is taken off
# the whole book at once. Each halves the rest or better where names differ.
ROUNDS = 20
# Shares of a limit: beyond it by less than the first, no further round is worth it; by less than the second,
# it holds.
NEARLY, CLOSE_ENOUGH = 1e-4, 1e-9
# What a name is taken for whose beta is unknown: as the market.
USUAL_BETA = 1.0


class Limits(Protocol):
    """The limits; None where there is none."""

    max_sector_weight: float | None
    max_beta: float | None
    volatility_target: float | None


@dataclass(frozen=True)
class Limited:
    """Weights (bars, symbols) within the limits, and at which bars each limit took something away, (bars,);
    nowhere where it is not set.
    """

    weights: np.ndarray
    by_sector: np.ndarray
    by_beta: np.ndarray
    by_volatility: np.ndarray


def joined(books: Sequence[Limited], symbols: int) -> Limited:
    """Books of stretches of bars, one after another."""
    if not books:
        never = np.zeros(0, dtype=bool)
        return Limited(np.zeros((0, symbols)), never, never, never)
    return Limited(*(np.concatenate(parts) for parts in zip(*map(_parts, books), strict=True)))


def _parts(book: Limited) -> tuple[np.ndarray, ...]:
    return book.weights, book.by_sector, book.by_beta, book.by_volatility


def within_limits(weights: np.ndarray, limits: Limits, known: Known, *, balanced: bool) -> Limited:
    """The largest part of a book that keeps its limits: sectors and beta together, then volatility.

    Names without a sector count as one sector together, names without a beta as the market.

    Parameters
    ----------
    weights : (bars, symbols); where `balanced`, longs and shorts of a bar weigh the same, before and after
    limits : beta is a limit of balanced books alone

    Raises
    ------
    SizingError
        If a limit is set and what it needs is not in `known`.
    """
    never = np.zeros(len(weights), dtype=bool)
    by_sector = by_beta = by_volatility = never
    sector, beta = limits.max_sector_weight, limits.max_beta if balanced else None
    if sector is not None or beta is not None:
        book = _Entries.of(weights, known, sector, beta)
        by_sector, by_beta = book.beyond_sectors(), book.beyond_beta()
        weights = book.within(balanced=balanced)
    if limits.volatility_target is not None:
        aimed = weights * _volatility_factor(weights, limits.volatility_target, known)
        by_volatility = (aimed != weights).any(axis=1)
        weights = aimed
    return Limited(weights, by_sector, by_beta, by_volatility)


def predicted_volatility(weights: np.ndarray, known: Known) -> np.ndarray:
    """Annual standard deviation of each bar's book, (bars,): what it would have earned over the bars before,
    held at these weights (Jorion 2007, *Value at Risk*, historical simulation); their mean counts as 0.
    """
    past = known.asked("past", "volatility_target")
    earned = np.zeros((len(weights), past.shape[2]))
    for age in range(past.shape[2]):
        earned[:, age] = np.einsum("bn,bn->b", weights, past[:, :, age])
    return np.sqrt((earned**2).mean(axis=1) * known.bars_per_year)


def _volatility_factor(weights: np.ndarray, target: float, known: Known) -> np.ndarray:
    volatility = predicted_volatility(weights, known)
    return np.minimum(target / np.maximum(volatility, 1e-12), 1.0)[:, None]


@dataclass
class _Entries:
    """The positions of books, (positions,), each with the place of its bar, symbol, and bar's sector; and the
    limits. `weight` changes.
    """

    shape: tuple[int, int]
    bar: np.ndarray
    symbol: np.ndarray
    weight: np.ndarray
    sector: np.ndarray
    sectors: int
    beta: np.ndarray
    max_sector: float
    max_beta: float

    @classmethod
    def of(
        cls, weights: np.ndarray, known: Known, max_sector: float | None, max_beta: float | None
    ) -> "_Entries":
        bar, symbol = np.nonzero(weights)
        # One sector for all and a beta of 0 where nobody asks: limits that never bind.
        sector, sectors, beta = bar, 1, np.zeros(len(bar))
        if max_sector is not None:
            codes = known.asked("sector", "max_sector_weight")[bar, symbol]
            # All that are NaN are one, the last.
            names, place = np.unique(codes, return_inverse=True)
            sectors = max(len(names), 1)
            sector = bar * sectors + place
        if max_beta is not None:
            beta = known.asked("beta", "max_beta")[bar, symbol]
            beta = np.where(np.isfinite(beta), beta, USUAL_BETA)
        return cls(
            weights.shape,
            bar,
            symbol,
            weights[bar, symbol],
            sector,
            sectors,
            beta,
            np.inf if max_sector is None else max_sector,
            np.inf if max_beta is None else max_beta,
        )

    def within(self, *, balanced: bool) -> np.ndarray:
        """The weights, cut until every limit holds; each bar by itself, whatever others need."""
        for _ in range(ROUNDS):
            still = (self.beyond_sectors(NEARLY) | self.beyond_beta(NEARLY))[self.bar]
            if not still.any():
                break
            rest = self._of_positions(still)
            rest._cut_sectors()
            if balanced:
                rest._balance()
            if np.isfinite(self.max_beta):
                rest._cut_beta()
                rest._balance()
            self.weight[still] = rest.weight
        beyond = np.ones(self.shape[0])
        if np.isfinite(self.max_sector):
            beyond = np.maximum(beyond, self._largest_sector() / self.max_sector)
        if np.isfinite(self.max_beta):
            beyond = np.maximum(beyond, np.abs(self._of_bars(self.weight * self.beta)) / self.max_beta)
        weights = np.zeros(self.shape)
        weights[self.bar, self.symbol] = self.weight / beyond[self.bar]
        return weights

    def beyond_sectors(self, more: float = CLOSE_ENOUGH) -> np.ndarray:
        """Bars with a sector beyond its limit by this share of it."""
        if np.isinf(self.max_sector):
            return np.zeros(self.shape[0], dtype=bool)
        return self._largest_sector() > self.max_sector * (1 + more)

    def beyond_beta(self, more: float = CLOSE_ENOUGH) -> np.ndarray:
        """Bars whose book is beyond the limit of beta by this share of it."""
        return np.abs(self._of_bars(self.weight * self.beta)) > self.max_beta * (1 + more)

    def _of_positions(self, chosen: np.ndarray) -> "_Entries":
        """Some of the positions."""
        parts = ("bar", "symbol", "weight", "sector", "beta")
        return replace(self, **{name: getattr(self, name)[chosen] for name in parts})

    def _of_bars(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.bar, values, minlength=self.shape[0])

    def _largest_sector(self) -> np.ndarray:
        net = np.bincount(self.sector, self.weight, minlength=self.shape[0] * self.sectors)
        return np.abs(net.reshape(self.shape[0], self.sectors)).max(axis=1)

    def _cut_sectors(self) -> None:
        """Make the heavier side of a sector smaller where its net weight is beyond the limit."""
        if np.isinf(self.max_sector) or not len(self.bar):
            return
        for sign in (1.0, -1.0):
            side = np.maximum(sign * self.weight, 0.0)
            heavy, light = (np.bincount(self.sector, values) for values in (side, side - sign * self.weight))
            wanted = np.minimum(heavy, self.max_sector + light)
            factor = np.divide(wanted, heavy, out=np.ones_like(heavy), where=heavy > 0)
            self.weight = np.where(side > 0, self.weight * factor[self.sector], self.weight)

    def _cut_beta(self) -> None:
        """Make those positions smaller, each by the same share, that push the book's beta beyond its limit:
        longs above and shorts below the mean beta of a book that is too high, the others of one too low.
        """
        size = np.abs(self.weight)
        mean = self._of_bars(size * self.beta) / np.maximum(self._of_bars(size), 1e-300)
        net = self._of_bars(self.weight * self.beta)
        push = np.sign(net)[self.bar] * self.weight * (self.beta - mean[self.bar])
        pushing = self._of_bars(np.maximum(push, 0.0))
        wanted = np.minimum(self.max_beta + self._of_bars(np.maximum(-push, 0.0)), pushing)
        factor = np.divide(wanted, pushing, out=np.ones_like(pushing), where=pushing > 0)
        self.weight = np.where(push > 0, self.weight * factor[self.bar], self.weight)

    def _balance(self) -> None:
        """Make the heavier side of each bar as light as the other."""
        long, short = (self._of_bars(np.maximum(sign * self.weight, 0.0)) for sign in (1.0, -1.0))
        smaller = np.minimum(long, short)
        factors = [np.divide(smaller, side, out=np.ones_like(side), where=side > 0) for side in (long, short)]
        self.weight = self.weight * np.where(self.weight > 0, factors[0][self.bar], factors[1][self.bar])
