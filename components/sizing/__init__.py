"""From scores to the weights that a new book wants; backtest and service size alike.

Arrays are (bars, symbols), NaN where there is no score. `usual` is the uncertainty that a model's predictions
rarely exceed while it learns (`usual_uncertainty`), one for all or as an array; infinite: nobody knows.
"""

from typing import Protocol

import numpy as np

FEWEST_NAMES = 3


class Book(Protocol):
    """What a book is sized by; the fields of `components.backtest.config.Settings`."""

    quantile: float
    top_k: int
    top_k_max_share: float
    gross_exposure: float
    max_weight: float
    sizing: str
    skip_share: float


def long_short_weights(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, usual: np.ndarray | float = np.inf
) -> np.ndarray:
    """Long the highest, short the lowest `quantile` of the names; both sides carry the same weight, at most
    gross_exposure / 2.

    Names that tie at a border share the places left, so that equal scores everywhere give no position.
    Sized by confidence, names more uncertain than `usual` make the book smaller: what they lose goes to no
    other.
    """
    scores = certain(scores, uncertainty, settings.skip_share)
    names = np.isfinite(scores).sum(axis=1)
    take = np.where(
        names >= FEWEST_NAMES, np.maximum(np.floor(settings.quantile * names + 1e-9), 1), 0
    ).astype(int)
    size = _sizes(scores, uncertainty, settings)
    trust = _trust(uncertainty, usual, settings)
    ordered = _ordered(scores)
    borders = _at(ordered, names - take), -_at(ordered, take - 1)
    half = settings.gross_exposure / 2
    sides = [
        _capped(_members(sign * scores, take, border) * size, half, settings.max_weight) * trust
        for sign, border in zip((1, -1), borders, strict=True)
    ]
    totals = [side.sum(axis=1, keepdims=True) for side in sides]
    smaller = np.minimum(*totals)
    long, short = (
        side * np.divide(smaller, total, out=np.zeros_like(total), where=total > 0)
        for side, total in zip(sides, totals, strict=True)
    )
    return long - short


def long_only_weights(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, usual: np.ndarray | float = np.inf
) -> np.ndarray:
    """The `top_k` names, at most `top_k_max_share` of all; ties and `usual` as in `long_short_weights`."""
    scores = certain(scores, uncertainty, settings.skip_share)
    names = np.isfinite(scores).sum(axis=1)
    take = np.minimum(settings.top_k, np.maximum(np.floor(settings.top_k_max_share * names + 1e-9), 1))
    take = np.where(names >= FEWEST_NAMES, take, 0).astype(int)
    return _capped(
        _members(scores, take, _at(_ordered(scores), names - take)) * _sizes(scores, uncertainty, settings),
        settings.gross_exposure,
        settings.max_weight,
    ) * _trust(uncertainty, usual, settings)


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


def universe_weights(
    scores: np.ndarray, uncertainty: np.ndarray, settings: Book, usual: np.ndarray | float = np.inf
) -> np.ndarray:
    """Every scored name alike: what long_only is measured against. Uncertainties do not matter."""
    return _capped(np.isfinite(scores).astype(float), settings.gross_exposure, 1.0)


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


def _sizes(scores: np.ndarray, uncertainty: np.ndarray, settings: Book) -> np.ndarray:
    if settings.sizing == "equal":
        return np.ones_like(scores)
    usable = np.isfinite(scores) & np.isfinite(uncertainty) & (uncertainty > 0)
    middle = np.ma.median(np.ma.masked_array(uncertainty, ~usable), axis=1).filled(1.0)[:, None]
    return np.where(usable, np.clip(middle / np.where(usable, uncertainty, 1.0), 0.5, 2.0), 0.5)


def _trust(uncertainty: np.ndarray, usual: np.ndarray | float, settings: Book) -> np.ndarray:
    """1 where a name is no more uncertain than usual, else smaller in proportion; 1 where either is
    unknown.
    """
    if settings.sizing == "equal":
        return np.ones_like(uncertainty)
    known = np.isfinite(uncertainty) & (uncertainty > 0)
    return np.where(known, np.minimum(usual / np.where(known, uncertainty, 1.0), 1.0), 1.0)


def _capped(raw: np.ndarray, total: float, max_weight: float) -> np.ndarray:
    sums = raw.sum(axis=1, keepdims=True)
    return np.minimum(raw * np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0), max_weight)
