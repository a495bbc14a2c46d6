"""From what a network says to return units: scale and bias of the score, and the width of the bands.

Shapes: B rows.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from components.experts.bands import P10_TO_P90, fit_bands
from components.experts.neural.arrays import PanelArrays
from components.experts.protocol import PREDICTION_COLUMNS

if TYPE_CHECKING:
    from components.experts.neural.predict import Predicted

LEAST_WIDTH, MOST_WIDTH = 0.2, 5.0


@dataclass(frozen=True)
class Head:
    """Scale and bias of the score, and the factor on the distance of p10 and p90 from p50."""

    scale: float = 1.0
    bias: float = 0.0
    width: float = 1.0

    def predictions(self, rows: pl.DataFrame, found: "Predicted", unit_B: np.ndarray) -> pl.DataFrame:
        """PREDICTION_COLUMNS of `rows` with their `timestamp` and `symbol`; `unit_B` is the volatility over
        the horizon.
        """
        bands = self._bands(found.quantiles_NT3[:, 0], unit_B)
        return rows.select(
            "timestamp",
            "symbol",
            pl.Series("score", self.scale * found.score_NT[:, 0] + self.bias),
            pl.Series("uncertainty", (bands[:, 2] - bands[:, 0]) / P10_TO_P90),
            pl.Series("p10", bands[:, 0]),
            pl.Series("p50", bands[:, 1]),
            pl.Series("p90", bands[:, 2]),
            pl.lit(self.scale, pl.Float64).alias("head_scale"),
            pl.lit(self.bias, pl.Float64).alias("head_bias"),
        ).select(PREDICTION_COLUMNS)

    def _bands(self, quantiles_B3: np.ndarray, unit_B: np.ndarray) -> np.ndarray:
        """Quantiles [B, 3] in return units, in order also after rounding."""
        middle = quantiles_B3[:, 1:2]
        bands = (middle + self.width * (quantiles_B3 - middle)) * unit_B[:, None]
        return np.maximum.accumulate(bands, axis=1)


def fit_head(
    judged: pl.DataFrame, bars: PanelArrays, watched: np.ndarray, found: "Predicted", horizon: int
) -> Head:
    """The head by early-stopping rows: `judged` as a table, `watched` as row numbers of `bars`."""
    fitted = fit_bands(judged, found.score_NT[:, 0], horizon=horizon)
    unit_B = bars.volatility_N[watched] * math.sqrt(horizon)
    width = _width(bars.label_N[watched] / unit_B, found.quantiles_NT3[:, 0])
    return Head(fitted.head_scale, fitted.head_bias, width)


def _width(label_B: np.ndarray, quantiles_B3: np.ndarray) -> float:
    """Factor on the distance of p10 and p90 from p50 that puts 80 % of the labels inside."""
    error = label_B - quantiles_B3[:, 1]
    above, below = quantiles_B3[:, 2] - quantiles_B3[:, 1], quantiles_B3[:, 1] - quantiles_B3[:, 0]
    half = np.where(error > 0, above, below)
    wanted = np.quantile(np.abs(error) / np.maximum(half, 1e-6), 0.8)
    return float(np.clip(wanted, LEAST_WIDTH, MOST_WIDTH))
