"""From a classifier's logits to probabilities, and from these to score, uncertainty and quantiles: one
arithmetic for experts, stack and service.

Shapes: B rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# No class is held for less likely than this share of the likeliest one: a class that the training rows hardly
# knew must not make an answer infinitely wrong.
SMALLEST_SHARE = 1e-6
# How far a sum of probabilities may stay below a quantile's level from rounding alone.
ROUNDING = 1e-12
LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class ClassAnswer:
    """What probabilities say about rows, [B], in the unit of the labels: the expected label, the deviation of
    the labels around it, and the quantiles of their distribution.
    """

    score: np.ndarray
    uncertainty: np.ndarray
    p10: np.ndarray
    p50: np.ndarray
    p90: np.ndarray


def probabilities(logits_BC: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature), Float64 [B, C] (Guo et al. 2017, *On Calibration of Modern Neural
    Networks*); 1 leaves the logits as they are, more makes the answers less sure.
    """
    logits_BC = np.asarray(logits_BC, dtype=np.float64)
    below_BC = np.maximum(logits_BC - logits_BC.max(axis=1, keepdims=True), np.log(SMALLEST_SHARE))
    share_BC = np.exp(below_BC / temperature)
    return share_BC / share_BC.sum(axis=1, keepdims=True)


def sharpened(chance_BC: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another temperature; classes that can't occur keep 0."""
    if temperature == 1.0:
        return chance_BC
    share_BC = chance_BC ** (1.0 / temperature)
    return share_BC / share_BC.sum(axis=1, keepdims=True)


def class_answer(chance_BC: np.ndarray, values: Sequence[float]) -> ClassAnswer:
    """What probabilities [B, C] say of labels that have these values, in rising order.

    The score is the expected label, so that it is in the label's unit, as any other expert's: P(up) - P(down)
    of labels -1, 0, 1. A quantile is the smallest label that is not exceeded with its probability.
    """
    labels_C = np.asarray(values, dtype=np.float64)
    score_B = chance_BC @ labels_C
    variance_B = (chance_BC * (labels_C - score_B[:, None]) ** 2).sum(axis=1)
    reached_BC = np.cumsum(chance_BC, axis=1)
    last = len(labels_C) - 1
    quantiles = [labels_C[np.minimum((reached_BC < level - ROUNDING).sum(axis=1), last)] for level in LEVELS]
    return ClassAnswer(score_B, np.sqrt(variance_B), *quantiles)


def own_classes(chance_B3: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities in CLASS_COLUMNS as those of so many classes; the inverse of `in_class_columns`."""
    return chance_B3 if classes == chance_B3.shape[1] else chance_B3[:, [0, -1]]
