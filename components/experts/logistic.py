"""Multinomial logistic regression with an elastic-net penalty, from one Gram matrix and a few passes over the
rows (Friedman, Hastie and Tibshirani 2010, section 4; the bound on the curvature after Boehning 1992).

Shapes: N rows, A inputs, C classes, P penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.experts.classes import class_frequencies, precision_loss
from components.experts.gram import CHUNK_ROWS, Statistics, inputs_of, linear, penalised, statistics
from components.scoring.classes import probabilities

# Passes over the rows at most, and the move of any coefficient of standardised inputs below which no further
# one is made: signals in returns are weak, so that the start is near the end.
MOST_PASSES = 60
SMALLEST_MOVE = 1e-4
# A mean loss may rise by this much from rounding alone.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Logistic:
    """Coefficients of the inputs in their own units [A, C], intercepts [C], and the penalty."""

    coefficients: np.ndarray
    intercepts: np.ndarray
    penalty: float


@dataclass(frozen=True)
class ClassRows:
    """Rows, their inputs' names, the class of each [N], and how much it counts [N] or None."""

    rows: pl.DataFrame
    columns: Sequence[str]
    number: np.ndarray
    weight: np.ndarray | None = None


def fit_logistic(
    train: ClassRows, judged: ClassRows, classes: int, shares: np.ndarray, l1_ratio: float
) -> Logistic:
    """Fit to the `train` rows; which penalty is chosen by the mean average precision of the `judged` ones,
    with coefficients that one step from the class frequencies gives, and those of the chosen one are then
    fitted to the end.

    Parameters
    ----------
    shares : penalties, falling, as shares of the smallest one that leaves no coefficient
    """
    one_hot_NC = np.eye(classes)[train.number]
    found = statistics(train.rows, train.columns, one_hot_NC, train.weight)
    frequency_C = class_frequencies(train.number, classes, train.weight)
    start = Logistic(np.zeros((len(train.columns), classes)), np.log(frequency_C), 0.0)
    largest = float(np.abs(found.moments).max(initial=0.0)) / l1_ratio
    if not largest > 0:
        return start
    penalties, best = shares * largest, 0
    if len(penalties) > 1:
        paths = _one_step(found, frequency_C, penalties, l1_ratio)
        losses = [_judged_loss(judged, path_AC, found, start.intercepts) for path_AC in paths]
        best = int(np.argmin(losses))
    return _to_the_end(train, one_hot_NC, found, frequency_C, float(penalties[best]), l1_ratio)


def fit_at_penalty(train: ClassRows, classes: int, penalty: float, l1_ratio: float) -> Logistic:
    """Fit to the `train` rows with a penalty that was chosen before."""
    one_hot_NC = np.eye(classes)[train.number]
    found = statistics(train.rows, train.columns, one_hot_NC, train.weight)
    frequency_C = class_frequencies(train.number, classes, train.weight)
    return _to_the_end(train, one_hot_NC, found, frequency_C, penalty, l1_ratio)


def _one_step(
    found: Statistics, frequency_C: np.ndarray, penalties: np.ndarray, l1_ratio: float
) -> np.ndarray:
    """Coefficients of standardised inputs [P, A, C] after one step of Newton's method from the frequencies,
    class by class.
    """
    paths = [
        penalised(found.gram, found.moments[:, c] / curvature, penalties / curvature, l1_ratio)
        for c, curvature in enumerate(frequency_C * (1 - frequency_C))
    ]
    return np.stack(paths).transpose(2, 1, 0)


def _judged_loss(
    judged: ClassRows, coefficients_AC: np.ndarray, found: Statistics, intercepts_C: np.ndarray
) -> float:
    own = _own_units(np.vstack([coefficients_AC, intercepts_C]), found, 0.0)
    return precision_loss(probabilities(logits(judged.rows, judged.columns, own), 1.0), judged.number)


def logits(rows: pl.DataFrame, columns: Sequence[str], model: Logistic) -> np.ndarray:
    """The classes' logits of rows [N, C]."""
    return linear(rows, columns, model.coefficients) + model.intercepts


def _to_the_end(
    train: ClassRows,
    one_hot_NC: np.ndarray,
    found: Statistics,
    frequency_C: np.ndarray,
    penalty: float,
    l1_ratio: float,
) -> Logistic:
    """Majorise and minimise, with momentum: with 2 p (1 - p) of each class as its curvature the classes part,
    and each step is an elastic net on the one Gram matrix. Where the loss rises it goes on from the lowest
    point, without momentum, or where there was none with twice the curvature.

    The last row of the parameters [A + 1, C] is the intercepts.
    """
    start = np.vstack([np.zeros((len(train.columns), len(frequency_C))), np.log(frequency_C)])
    at, before, best, least, momentum = start, start, start, np.inf, 1.0
    curvature_C = 2 * frequency_C * (1 - frequency_C)
    slope = np.zeros_like(start)
    for _ in range(MOST_PASSES):
        loss, found_slope = _pass(train, one_hot_NC, found, _own_units(at, found, penalty))
        loss += penalty * float(
            l1_ratio * np.abs(at[:-1]).sum() + (1 - l1_ratio) / 2 * np.square(at[:-1]).sum()
        )
        if loss > least + ROUNDING:
            curvature_C = curvature_C if momentum > 1 else 2 * curvature_C
            at, before, momentum = best, best, 1.0
        else:
            best, least, slope = at, min(loss, least), found_slope
        following = _step(at, slope, curvature_C, found, penalty, l1_ratio)
        if np.abs(following - at).max() <= SMALLEST_MOVE:
            break
        if np.sum((at - following) * (following - before)) > 0:
            momentum = 1.0
        larger = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        at, before, momentum = (
            following + (momentum - 1) / larger * (following - before),
            following,
            larger,
        )
    return _own_units(best, found, penalty)


def _step(
    at: np.ndarray,
    slope: np.ndarray,
    curvature_C: np.ndarray,
    found: Statistics,
    penalty: float,
    l1_ratio: float,
) -> np.ndarray:
    """Parameters [A + 1, C] at the minimum of the bound that touches the loss at `at`."""
    moments_AC = found.gram @ at[:-1] + slope[:-1] / curvature_C
    sizes = [
        penalised(found.gram, moments_AC[:, c], [penalty / curvature], l1_ratio, at[:-1, c])[:, 0]
        for c, curvature in enumerate(curvature_C)
    ]
    return np.vstack([np.column_stack(sizes), at[-1] + slope[-1] / curvature_C])


def _pass(
    train: ClassRows, one_hot_NC: np.ndarray, found: Statistics, model: Logistic
) -> tuple[float, np.ndarray]:
    """Mean log loss, and how it falls with the coefficients of standardised inputs and, last, the intercepts,
    [A + 1, C].
    """
    slope_AC, slope_C, loss = np.zeros_like(model.coefficients), np.zeros_like(model.intercepts), 0.0
    for start in range(0, len(train.rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        values = inputs_of(train.rows[chunk], train.columns)
        chance_NC = probabilities(values @ model.coefficients + model.intercepts, 1.0)
        missed_NC, own_N = one_hot_NC[chunk] - chance_NC, -np.log((chance_NC * one_hot_NC[chunk]).sum(axis=1))
        if train.weight is not None:
            missed_NC, own_N = missed_NC * train.weight[chunk, None], own_N * train.weight[chunk]
        slope_AC += values.T @ missed_NC
        slope_C += missed_NC.sum(axis=0)
        loss += float(own_N.sum())
    rows = len(train.rows)
    varies_A1 = (np.diag(found.gram) > 0)[:, None]
    centred_AC = (slope_AC - np.outer(found.mean, slope_C)) / rows * varies_A1 / found.spread[:, None]
    return loss / rows, np.vstack([centred_AC, slope_C / rows])


def _own_units(parameters: np.ndarray, found: Statistics, penalty: float) -> Logistic:
    """The model of parameters [A + 1, C] of standardised inputs."""
    own_AC = parameters[:-1] / found.spread[:, None]
    return Logistic(own_AC, parameters[-1] - found.mean @ own_AC, penalty)
