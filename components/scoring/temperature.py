"""The temperature that makes a classifier's probabilities hold what they promise, fitted on rows that it did
not learn from: an expert's on its early-stopping rows, the stack's on out-of-fold rows known before a block.

Shapes: B rows, C classes.
"""

import math

import numpy as np

from components.scoring.classes import probabilities

# Between these a temperature is looked for; beyond them a classifier knows nothing, or everything.
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.05, 20.0
NEWTON_STEPS = 50
# A step of Newton's method smaller than this share has arrived.
SMALLEST_STEP = 1e-10


def fit_temperature(logits_BC: np.ndarray, class_B: np.ndarray, bar_B: np.ndarray, horizon: int) -> float:
    """The temperature under which the rows are likeliest (Guo et al. 2017), drawn towards 1 as far as their
    number leaves it open.

    With b = 1 / temperature the log likelihood is concave in b, so that Newton's method finds its top; of b -
    1 the share t^2 / (t^2 + 1) is kept, with t its t statistic clustered by bar and widened by the labels'
    overlap: a classifier that is calibrated already stays as it is.

    Parameters
    ----------
    logits_BC : finite; logarithms of probabilities serve as well
    class_B : number of each row's class, from 0 on
    bar_B : number of each row's bar, from 0 on
    horizon : bars that a label spans
    """
    # As `probabilities` takes them.
    logits_BC = np.log(probabilities(logits_BC, 1.0))
    least, most = 1 / LARGEST_TEMPERATURE, 1 / SMALLEST_TEMPERATURE
    sharpness = 1.0
    for _ in range(NEWTON_STEPS):
        slope_B, curvature = _slopes(logits_BC, class_B, sharpness)
        if not curvature > 0:
            return 1.0
        following = min(max(sharpness + float(slope_B.sum()) / curvature, sharpness / 2, least), most)
        arrived = abs(following - sharpness) <= SMALLEST_STEP * sharpness
        sharpness = following
        if arrived:
            break
    slope_B, curvature = _slopes(logits_BC, class_B, sharpness)
    clusters = np.bincount(bar_B, weights=slope_B)
    error = math.sqrt(float(clusters @ clusters) * horizon) / curvature if curvature > 0 else math.inf
    moved = sharpness - 1.0
    sure = moved**2 + error**2
    return 1.0 / (1.0 + moved * moved**2 / sure) if 0 < sure < math.inf else 1.0


def _slopes(logits_BC: np.ndarray, class_B: np.ndarray, sharpness: float) -> tuple[np.ndarray, float]:
    """Slope of each row's log likelihood by the sharpness [B], and minus the curvature of their sum."""
    chance_BC = probabilities(logits_BC, 1 / sharpness)
    expected_B = (chance_BC * logits_BC).sum(axis=1)
    own_B = logits_BC[np.arange(len(logits_BC)), class_B]
    variance_B = (chance_BC * (logits_BC - expected_B[:, None]) ** 2).sum(axis=1)
    return own_B - expected_B, float(variance_B.sum())
