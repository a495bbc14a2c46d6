"""How large a single bet should be by what a model expects of it and how sure it is: Kelly's share, and steps
by the chance that it wins.

A balanced book bets on how names do against each other: what is expected of all names of a bar alike is no
bet there. Arrays are (bars, symbols), NaN where there is no score.
"""

from collections.abc import Sequence

import numpy as np

from components.sizing.known import Known


def kelly_shares(scores: np.ndarray, uncertainty: np.ndarray, known: Known, *, balanced: bool) -> np.ndarray:
    """Kelly's share of the capital for each name, below 0 for a short position, 0 where it can't be told: of
    chances where `known` holds them, else of a return with its deviation.

    Raises
    ------
    SizingError
        If there are chances, but not the volatility that says what they are worth.
    """
    if known.up is not None and known.down is not None:
        up, down = _chances(scores, known, balanced=balanced)
        return kelly_share_of_classes(up, down, np.nan_to_num(known.move, nan=0.0))
    edge, deviation = _edge(scores, uncertainty, balanced=balanced)
    return kelly_share(edge, deviation)


def win_chances(
    scores: np.ndarray, uncertainty: np.ndarray, known: Known, *, balanced: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The chances that a long and a short position in each name win, 0 where they can't be told: those that
    `known` holds, else of a Gaussian return.
    """
    if known.up is not None and known.down is not None:
        return _chances(scores, known, balanced=balanced)
    edge, deviation = _edge(scores, uncertainty, balanced=balanced)
    # Imported here: settings and documents, which every command reads, come by this module.
    from scipy.special import ndtr

    wins, told = ndtr(edge / deviation), np.isfinite(deviation)
    return np.where(told, wins, 0.0), np.where(told, 1 - wins, 0.0)


def kelly_share(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Share of the capital whose expected log growth is largest, for a bet whose return has this mean and
    standard deviation: mean / deviation^2 (Thorp 2006, *The Kelly Criterion in Blackjack, Sports Betting and
    the Stock Market*, section 7); both in shares of what is bet, over the horizon. For Gaussian returns that
    are small against the capital.
    """
    return mean / deviation**2


def kelly_share_of_classes(up: np.ndarray, down: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The same for a bet that gains `move` with chance `up`, loses it with chance `down` and else returns
    what was bet: (up - down) / (move (up + down)), exactly (Kelly 1956, *A New Interpretation of Information
    Rate*; for up + down = 1 and a move of 1 his p - q).
    """
    either = up + down
    return np.divide(up - down, move * either, out=np.zeros_like(up), where=(either > 0) & (move > 0))


def step_sizes(wins: np.ndarray, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """The size of the highest step (chance, size) that each chance reaches; 0 below the first."""
    chances, sizes = np.array(steps, dtype=float).reshape(-1, 2).T
    return np.concatenate([[0.0], sizes])[np.searchsorted(chances, wins, side="right")]


def implied_chances(
    scores: np.ndarray, uncertainty: np.ndarray, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Chances of up and down of which a score and its uncertainty are mean and standard deviation, where the
    chances themselves were not kept; `classes` are the labels (0, 1) or (-1, 0, 1).
    """
    if -1 not in classes:
        up = np.clip(scores, 0.0, 1.0)
        return up, 1 - up
    either = np.clip(scores**2 + uncertainty**2, 0.0, 1.0)
    return np.clip((either + scores) / 2, 0.0, 1.0), np.clip((either - scores) / 2, 0.0, 1.0)


def _edge(scores: np.ndarray, uncertainty: np.ndarray, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is expected of each name, and its deviation; 0 and infinite where one of them is unknown."""
    edge = scores - _mean(scores) if balanced else scores
    told = np.isfinite(edge) & np.isfinite(uncertainty) & (uncertainty > 0)
    return np.where(told, edge, 0.0), np.where(told, uncertainty, np.inf)


def _chances(scores: np.ndarray, known: Known, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Chances of up and down; in a balanced book without the tilt that all names of the bar share."""
    there = np.isfinite(scores) & np.isfinite(known.up) & np.isfinite(known.down)
    up, down = np.where(there, known.up, np.nan), np.where(there, known.down, np.nan)
    if balanced:
        tilt = _mean(up - down) / 2
        up, down = np.clip(up - tilt, 0.0, 1.0), np.clip(down + tilt, 0.0, 1.0)
    return np.where(there, up, 0.0), np.where(there, down, 0.0)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of what is known in each row, as a column; 0 where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    return total / np.maximum(known.sum(axis=1, keepdims=True), 1)
