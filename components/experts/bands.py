"""Turns an expert's raw output into the target's unit, with a band around it.

Everything here is estimated on the early-stopping rows, which no gradient has seen: the affine head
`score = head_scale * raw + head_bias` by least squares, and the band by split conformal prediction (Lei et
al. 2018, *Distribution-Free Predictive Inference for Regression*) on residuals in units of each row's
`volatility_20`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from components.contracts import VOLATILITY_COLUMN
from components.experts.errors import ExpertError
from components.scoring.form import Form, Linear, Unit

# Distance between the 10 % and the 90 % quantile of a normal distribution, in standard deviations.
P10_TO_P90 = 2.563
# Smallest share of the labels' spread that the scores keep. An uninformative head still orders the symbols,
# at next to no size.
SMALLEST_SPREAD = 1e-3
# A row's volatility counts as at least this share of the median, so that a halted stock does not get a band
# of width 0.
SMALLEST_VOLATILITY = 0.1


@dataclass(frozen=True)
class Bands:
    """The head and the band.

    `low`, `middle`, `high`: quantiles of (label - score) / volatility; `volatility`: what stands in for a
    missing one.
    """

    head_scale: float
    head_bias: float
    low: float
    middle: float
    high: float
    volatility: float

    def to_dict(self) -> dict[str, float]:
        """The numbers as they go into JSON; exact, because Python writes floats with all their digits."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> "Bands":
        """The inverse of `to_dict`."""
        return cls(**values)

    def served(self, columns: Sequence[str], raw: float | Linear | None) -> Form:
        """The served form of an expert that looks at single rows: `raw` as in `Form`."""
        unit = Unit(self.volatility, SMALLEST_VOLATILITY * self.volatility)
        return Form(
            "row",
            tuple(columns),
            0,
            raw,
            self.head_scale,
            self.head_bias,
            unit,
            self.high - self.low,
            1.0,
            P10_TO_P90,
        )

    def predictions(self, rows: pl.DataFrame, raw: np.ndarray) -> pl.DataFrame:
        """PREDICTION_COLUMNS of `rows` (`timestamp, symbol, volatility_20`) for the raw output, shape
        (rows,).
        """
        unit = _volatility(rows, self.volatility)
        score = self.head_scale * np.asarray(raw, dtype=np.float64) + self.head_bias
        return rows.select("timestamp", "symbol").with_columns(
            pl.Series("score", score),
            pl.Series("uncertainty", (self.high - self.low) * unit / P10_TO_P90),
            pl.Series("p10", score + self.low * unit),
            pl.Series("p50", score + self.middle * unit),
            pl.Series("p90", score + self.high * unit),
            pl.lit(self.head_scale, dtype=pl.Float64).alias("head_scale"),
            pl.lit(self.head_bias, dtype=pl.Float64).alias("head_bias"),
        )


def fit_bands(rows: pl.DataFrame, raw: np.ndarray, *, horizon: int, calibrate: bool = True) -> Bands:
    """Head and band from the early-stopping rows.

    Parameters
    ----------
    rows : columns `timestamp, symbol, label, volatility_20`; rows without a finite label do not count
    raw : the model's output for them, in any unit, shape (rows,)
    horizon : bars that a label spans; labels of neighbouring bars overlap, which widens the slope's standard
        error
    calibrate : False leaves the output as it is (scale 1, bias 0, centre of the band at the score), for a
        model that already answers in returns

    The slope is least squares of label on output, times t^2 / (t^2 + 1) with t its t-statistic clustered by
    timestamp, and never below `SMALLEST_SPREAD` times the ratio of the spreads: an uninformative or inverted
    head shrinks towards zero but never flips, and its ranks survive.

    Raises
    ------
    ExpertError
        If no row has a label, or the raw output of a labelled row is not finite.
    """
    label = rows["label"].cast(pl.Float64).to_numpy()
    known = np.isfinite(label)
    if not known.any():
        raise ExpertError(
            "no early-stopping row has a label, so neither early stopping nor bands can be fitted. Lengthen"
            " timeline.train or raise timeline.early_stopping_share."
        )
    rows, label, raw = rows.filter(pl.Series(known)), label[known], np.asarray(raw, dtype=np.float64)[known]
    if not np.isfinite(raw).all():
        raise ExpertError(
            f"the raw output of {int((~np.isfinite(raw)).sum()):,} of {len(raw):,} early-stopping rows is not"
            " finite."
        )
    scale, bias = _head(rows["timestamp"], raw, label, horizon) if calibrate else (1.0, 0.0)
    stand_in = _median_volatility(rows)
    residual = (label - scale * raw - bias) / _volatility(rows, stand_in)
    below = max(int(0.1 * (len(residual) + 1)) - 1, 0)
    ordered = np.partition(residual, [below, len(residual) - 1 - below])
    low, high = float(ordered[below]), float(ordered[len(residual) - 1 - below])
    middle = float(np.median(residual)) if calibrate else 0.0
    return Bands(scale, bias, min(low, middle), middle, max(high, middle), stand_in)


def _head(timestamps: pl.Series, raw: np.ndarray, label: np.ndarray, horizon: int) -> tuple[float, float]:
    """Slope and intercept, the slope shrunk and kept positive."""
    centred, spread = raw - raw.mean(), float(raw.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(raw).max())):
        return 1.0, float(label.mean() - raw.mean())
    power = float(centred @ centred)
    slope = float(centred @ label) / power
    residual = label - label.mean() - slope * centred
    clusters = np.bincount(timestamps.rle_id().to_numpy(), weights=centred * residual)
    error = math.sqrt(float(clusters @ clusters) * horizon) / power
    # Squares of the smallest numbers are 0.
    sure = slope**2 + error**2
    shrunk = slope * slope**2 / sure if slope > 0 and sure > 0 else 0.0
    floor = SMALLEST_SPREAD * max(float(label.std()), 1e-9) / spread
    scale = max(shrunk, floor)
    return scale, float(label.mean() - scale * raw.mean())


def _median_volatility(rows: pl.DataFrame) -> float:
    values = rows[VOLATILITY_COLUMN].cast(pl.Float64).to_numpy()
    usable = values[np.isfinite(values) & (values > 0)]
    return float(np.median(usable)) if len(usable) else 1.0


def _volatility(rows: pl.DataFrame, stand_in: float) -> np.ndarray:
    values = rows[VOLATILITY_COLUMN].cast(pl.Float64).to_numpy()
    return np.maximum(np.where(np.isfinite(values), values, stand_in), SMALLEST_VOLATILITY * stand_in)
