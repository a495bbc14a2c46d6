"""From scores to the weights that a new book wants; backtest and service size alike.

In this order: which names are taken, their sizes (`settings.sizing`), the largest weight of a name, sides
that weigh the same, the net weight of sectors and the book's beta, its volatility (`limits`). Whatever is cut
off stays in cash.

Arrays are (bars, symbols), NaN where there is no score. `known` is what is known of the names beside, needed
by `kelly` and `steps` on classes and by the limits.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from components.contracts import BETA_COLUMN, SECTOR_COLUMN
from components.sizing.bets import kelly_shares, step_sizes, win_chances
from components.sizing.known import LEAST_SEEN, NOTHING_KNOWN, Known
from components.sizing.limits import Limited, within_limits

FEWEST_NAMES = 3
# Sizes that depend on what is expected of a name.
BY_BETS = ("kelly", "steps")
# The context columns that limits of a book need.
LIMITED_BY = {"max_sector_weight": SECTOR_COLUMN, "max_beta": BETA_COLUMN}


class Book(Protocol):
    """What a book is sized by; the fields of `components.backtest.config.Settings`."""

    quantile: float
    top_k: int
    top_k_max_share: float
    gross_exposure: float
    max_weight: float
    sizing: str
    kelly_fraction: float
    size_steps: Sequence[tuple[float, float]]
    skip_share: float
    max_sector_weight: float | None
    max_beta: float | None
    volatility_target: float | None


def long_short_book(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, known: Known = NOTHING_KNOWN
) -> Limited:
    """Long the highest, short the lowest `quantile` of the names; both sides carry the same weight, at most
    gross_exposure / 2.

    Names that tie at a border share the places left, so that equal scores everywhere give no position.
    Sized by confidence or Kelly's share, names more uncertain than usual make the book smaller: what they
    lose goes to no other.

    Raises
    ------
    SizingError
        If the settings ask for a limit, and `known` lacks what it needs.
    """
    scores = _taking_part(scores, uncertainty, settings, known)
    names = np.isfinite(scores).sum(axis=1)
    take = np.where(
        names >= FEWEST_NAMES, np.maximum(np.floor(settings.quantile * names + 1e-9), 1), 0
    ).astype(int)
    size = _sizes(scores, uncertainty, settings)
    staked = _stakes(scores, uncertainty, settings, known, balanced=True)
    trust = _trust(uncertainty, settings, known)
    ordered = _ordered(scores)
    borders = _at(ordered, names - take), -_at(ordered, take - 1)
    half = settings.gross_exposure / 2
    sides = [
        staked(_capped(_members(sign * scores, take, border) * size, half, settings.max_weight), sign) * trust
        for sign, border in zip((1, -1), borders, strict=True)
    ]
    totals = [side.sum(axis=1, keepdims=True) for side in sides]
    smaller = np.minimum(*totals)
    long, short = (
        side * np.divide(smaller, total, out=np.zeros_like(total), where=total > 0)
        for side, total in zip(sides, totals, strict=True)
    )
    return within_limits(long - short, settings, known, balanced=True)


def long_only_book(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, known: Known = NOTHING_KNOWN
) -> Limited:
    """The `top_k` names, at most `top_k_max_share` of all; ties, errors as in `long_short_book`."""
    scores = _taking_part(scores, uncertainty, settings, known)
    names = np.isfinite(scores).sum(axis=1)
    take = np.minimum(settings.top_k, np.maximum(np.floor(settings.top_k_max_share * names + 1e-9), 1))
    take = np.where(names >= FEWEST_NAMES, take, 0).astype(int)
    members = _members(scores, take, _at(_ordered(scores), names - take))
    largest = _capped(
        members * _sizes(scores, uncertainty, settings), settings.gross_exposure, settings.max_weight
    )
    staked = _stakes(scores, uncertainty, settings, known, balanced=False)
    weights = staked(largest, 1) * _trust(uncertainty, settings, known)
    return within_limits(weights, settings, known, balanced=False)


def certain(scores: np.ndarray, uncertainty: np.ndarray, skip_share: float) -> np.ndarray:
    """The scores without the `skip_share` of each bar's scored names that are least certain:

    NaN, as if they had none.

    A name without uncertainty counts as the least certain. Names that tie at the border all stay.
    """
    if not skip_share:
        return scores
    scored = np.isfinite(scores)
    doubt = np.where(scored, np.where(np.isfinite(uncertainty), uncertainty, np.inf), np.nan)
    kept = scored.sum(axis=1) - np.floor(skip_share * scored.sum(axis=1) + 1e-9).astype(int)
    # NaN is sorted last.
    border = (
        np.sort(doubt, axis=1)[np.arange(len(doubt)), np.maximum(kept - 1, 0)][:, None]
        if doubt.shape[1]
        else np.zeros((len(doubt), 1))
    )
    return np.where(doubt <= border, scores, np.nan)


def universe_book(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, known: Known = NOTHING_KNOWN
) -> Limited:
    """Every scored name alike: what long_only is measured against. Uncertainties and limits do not matter."""
    never = np.zeros(len(scores), dtype=bool)
    return Limited(
        _capped(np.isfinite(scores).astype(float), settings.gross_exposure, 1.0), never, never, never
    )


def _ordered(scores: np.ndarray) -> np.ndarray:
    """The scores of each bar in order, what is none at the end."""
    return np.sort(np.where(np.isfinite(scores), scores, np.nan), axis=1)


def _at(ordered: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The value at a place of each row, as a column; `place` beyond a row counts as its end."""
    if not ordered.shape[1]:
        return np.zeros((len(ordered), 1))
    return ordered[np.arange(len(ordered)), np.clip(place, 0, ordered.shape[1] - 1)][:, None]


def _members(scores: np.ndarray, take: np.ndarray, border: np.ndarray) -> np.ndarray:
    """1 for the `take` highest scores of each row, 0 for the others, and a fraction for those that tie at
    `border`, the lowest that is taken.
    """
    above, ties = (scores > border) & (scores < np.inf), scores == border
    left = take[:, None] - above.sum(axis=1, keepdims=True)
    share = np.where(take[:, None] > 0, left / np.maximum(ties.sum(axis=1, keepdims=True), 1), 0.0)
    return (above & (take > 0)[:, None]) + ties * share


def _taking_part(scores: np.ndarray, uncertainty: np.ndarray, settings: Book, known: Known) -> np.ndarray:
    """The scores that may get a position, NaN for the others."""
    scores = certain(scores, uncertainty, settings.skip_share)
    if settings.volatility_target is None:
        return scores
    return np.where(known.asked("seen", "volatility_target") >= LEAST_SEEN, scores, np.nan)


def _stakes(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, known: Known, *, balanced: bool
) -> Callable[[np.ndarray, int], np.ndarray]:
    """What makes of the largest weights of one side, long (1) or short (-1), those that its names are worth:
    never more.
    """
    if settings.sizing == "kelly":
        most = settings.kelly_fraction * kelly_shares(scores, uncertainty, known, balanced=balanced)
        return lambda side, sign: np.minimum(side, np.maximum(sign * most, 0.0))
    if settings.sizing == "steps":
        long, short = (
            step_sizes(wins, settings.size_steps)
            for wins in win_chances(scores, uncertainty, known, balanced=balanced)
        )
        return lambda side, sign: side * (long if sign > 0 else short)
    return lambda side, _: side


def _sizes(scores: np.ndarray, uncertainty: np.ndarray, settings: Book) -> np.ndarray:
    """By how much names of one side differ before any is made smaller."""
    if settings.sizing != "confidence":
        return np.ones_like(scores)
    usable = np.isfinite(scores) & np.isfinite(uncertainty) & (uncertainty > 0)
    middle = np.ma.median(np.ma.masked_array(uncertainty, ~usable), axis=1).filled(1.0)[:, None]
    return np.where(usable, np.clip(middle / np.where(usable, uncertainty, 1.0), 0.5, 2.0), 0.5)


def _trust(uncertainty: np.ndarray, settings: Book, known: Known) -> np.ndarray:
    """1 where a name is no more uncertain than usual, else smaller in proportion; 1 where either is
    unknown.
    """
    if settings.sizing not in ("confidence", "kelly"):
        return np.ones_like(uncertainty)
    told = np.isfinite(uncertainty) & (uncertainty > 0)
    return np.where(told, np.minimum(known.usual / np.where(told, uncertainty, 1.0), 1.0), 1.0)


def _capped(raw: np.ndarray, total: float, max_weight: float) -> np.ndarray:
    sums = raw.sum(axis=1, keepdims=True)
    return np.minimum(raw * np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0), max_weight)
