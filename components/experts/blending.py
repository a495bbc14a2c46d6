"""Members' predictions as one: the blended score, and a band that holds the spread between them.

Shapes: B rows, M members.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from components.experts.bands import P10_TO_P90
from components.experts.classes import class_predictions
from components.experts.protocol import PREDICTION_COLUMNS
from components.scoring.classes import own_classes
from components.scoring.expert import blend, blend_chances

# How much the members' disagreement may count beside their own bands; 1 is the plain mixture.
SPREADS = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)


def calibrated(
    error_B: np.ndarray, weight_BM: np.ndarray, score_BM: np.ndarray, uncertainty_BM: np.ndarray
) -> tuple[float, float]:
    """Spread and width for these absolute errors.

    The likelihood's own scale is its best one, so that only the shape of the uncertainty decides.
    """

    def relative(spread: float) -> tuple[np.ndarray, float]:
        uncertainty_B = np.maximum(blend(weight_BM, score_BM, uncertainty_BM, spread=spread)[1], 1e-12)
        errors_B = error_B / uncertainty_B
        return errors_B, float(np.log(uncertainty_B).mean() + np.log(max(errors_B.mean(), 1e-12)))

    spread = min(SPREADS, key=lambda spread: relative(spread)[1])
    width = float(np.quantile(relative(spread)[0], 0.8)) / (P10_TO_P90 / 2)
    return spread, width if width > 0 else 1.0


def blended_classes(
    rows: pl.DataFrame, weight_BM: np.ndarray, chance_BM3: np.ndarray, values: Sequence[int]
) -> pl.DataFrame:
    """PREDICTION_COLUMNS and CLASS_COLUMNS of the members' mixture; its uncertainty holds how far they
    differ.
    """
    return class_predictions(rows, own_classes(blend_chances(weight_BM, chance_BM3), len(values)), values)


def blended(
    rows: pl.DataFrame, weight_BM: np.ndarray, found: Mapping[str, np.ndarray], spread: float, width: float
) -> pl.DataFrame:
    """PREDICTION_COLUMNS. The head is 1 and 0: members answer in returns already."""
    score_B, uncertainty_B = blend(
        weight_BM, found["score"], found["uncertainty"], spread=spread, width=width
    )
    middle_B, below_B, above_B = (
        (weight_BM * values).sum(axis=1)
        for values in (found["p50"], found["p50"] - found["p10"], found["p90"] - found["p50"])
    )
    width_B = below_B + above_B
    wider_B = np.divide(uncertainty_B * P10_TO_P90, width_B, out=np.ones_like(width_B), where=width_B > 0)
    # Members that give no width at all still differ from each other.
    flat_B = np.where(width_B > 0, 0.0, uncertainty_B * P10_TO_P90 / 2)
    values = {
        "score": score_B,
        "uncertainty": uncertainty_B,
        "p10": middle_B - below_B * wider_B - flat_B,
        "p50": middle_B,
        "p90": middle_B + above_B * wider_B + flat_B,
        "head_scale": np.ones(len(rows)),
        "head_bias": np.zeros(len(rows)),
    }
    return (
        rows.select("timestamp", "symbol")
        .with_columns(pl.Series(name, column, dtype=pl.Float64) for name, column in values.items())
        .select(PREDICTION_COLUMNS)
    )
