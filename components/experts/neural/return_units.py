"""From what a network says to return units: scale and bias of the score, and the width of the bands.

Shapes: B rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from components.contracts.classes import class_values
from components.experts.bands import P10_TO_P90, fit_bands
from components.experts.errors import ExpertError
from components.experts.neural.arrays import PanelArrays
from components.experts.protocol import PREDICTION_COLUMNS
from components.scoring.form import Form

if TYPE_CHECKING:
    from components.experts.neural.predict import Predicted

LEAST_WIDTH, MOST_WIDTH = 0.2, 5.0


@dataclass(frozen=True)
class Head:
    """Scale and bias of the score, and the factor on the distance of p10 and p90 from p50."""

    scale: float = 1.0
    bias: float = 0.0
    width: float = 1.0

    def predictions(
        self, rows: pl.DataFrame, found: "Predicted", unit_B: np.ndarray, task: int = 0
    ) -> pl.DataFrame:
        """PREDICTION_COLUMNS of `rows` with their `timestamp` and `symbol`; `unit_B` is the volatility over
        the horizon of the task of this number.
        """
        bands = self._bands(found.quantiles_NT3[:, task], unit_B)
        return rows.select(
            "timestamp",
            "symbol",
            pl.Series("score", self.scale * found.score_NT[:, task] + self.bias),
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


def fit_further_heads(
    judged: pl.DataFrame,
    bars: PanelArrays,
    watched: np.ndarray,
    found: "Predicted",
    also: Sequence[tuple[str, int]],
) -> tuple[Head, ...]:
    """As `fit_head`, of each further (target, horizon), by those of the rows that have its label; none where
    one of them is a class, which the one direction head can't learn beside the own task.

    Raises
    ------
    ExpertError
        If no row has a label of one.
    """
    if any(class_values(target) for target, _ in also):
        return ()
    return tuple(
        _further_head(judged, bars, watched, found, (number, *task))
        for number, task in enumerate(also, start=1)
    )


def _further_head(
    judged: pl.DataFrame,
    bars: PanelArrays,
    watched: np.ndarray,
    found: "Predicted",
    task: tuple[int, str, int],
) -> Head:
    """The head of one further task: its number, target and horizon."""
    number, target, horizon = task
    label_B = bars.labels_NT[watched, number]
    known = np.isfinite(label_B)
    if not known.any():
        raise ExpertError(
            f"no early-stopping row has a label of {target} over {horizon} bars, so what is said of it can't"
            " be brought into its unit. Lengthen timeline.train or raise timeline.early_stopping_share."
        )
    rows = judged.with_columns(pl.Series("label", label_B)).filter(pl.Series(known))
    fitted = fit_bands(rows, found.score_NT[known, number], horizon=horizon)
    unit_B = bars.volatility_N[watched[known]] * math.sqrt(horizon)
    width = _width(label_B[known] / unit_B, found.quantiles_NT3[known, number])
    return Head(fitted.head_scale, fitted.head_bias, width)


def further_form(own: Form, head: Head, horizon: int, number: int) -> Form:
    """The served form of the further task of this number, whose head is in the graph of the own one."""
    return replace(
        own,
        head_scale=head.scale,
        head_bias=head.bias,
        unit=replace(own.unit, factor=math.sqrt(horizon)),
        band_width=head.width,
        classes=(),
        temperature=1.0,
        head=number,
    )


def _width(label_B: np.ndarray, quantiles_B3: np.ndarray) -> float:
    """Factor on the distance of p10 and p90 from p50 that puts 80 % of the labels inside."""
    error = label_B - quantiles_B3[:, 1]
    above, below = quantiles_B3[:, 2] - quantiles_B3[:, 1], quantiles_B3[:, 1] - quantiles_B3[:, 0]
    half = np.where(error > 0, above, below)
    wanted = np.quantile(np.abs(error) / np.maximum(half, 1e-6), 0.8)
    return float(np.clip(wanted, LEAST_WIDTH, MOST_WIDTH))
