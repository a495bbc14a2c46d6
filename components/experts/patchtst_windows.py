"""Lookback windows for PatchTST as views by index: one matrix of bars, sorted by symbol and time, and the row numbers of each window.

No window is ever copied before its batch is drawn; bars before a symbol's first one point at a last row of zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, REGIMES, VOLATILITY_COLUMN
from components.experts.bands import SMALLEST_VOLATILITY

CLIP_DEVIATIONS = 5.0
SMALLEST_DEVIATION = 1e-8


@dataclass(frozen=True)
class Scalers:
    """Statistics of the labelled train rows: per input its mean and standard deviation, and the median volatility of one bar (the labels' deviation where there is none)."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    volatility: float


@dataclass(frozen=True)
class Bars:
    """The frame as arrays, sorted by (symbol, timestamp).

    inputs_NF : float32 [rows + 1, inputs], standardised, missing values 0; the last row is all zeros
    position_N : how many bars of the same symbol stand before the row
    regime_N : code of the regime, an index into REGIMES, -1 where unknown
    volatility_N : standard deviation of one-bar log returns; the median stands in for a missing one, a tenth of it is the least
    label_N : the label in return units, NaN where there is none
    day_N : number of the row's timestamp
    frame_row_N : row of the frame that this one came from
    part_N : what the row is for, as in the frame
    known_N : [rows + 1], whether any input of the row is finite; False for the last row
    """

    inputs_NF: np.ndarray
    position_N: np.ndarray
    regime_N: np.ndarray
    volatility_N: np.ndarray
    label_N: np.ndarray
    day_N: np.ndarray
    frame_row_N: np.ndarray
    part_N: pl.Series
    known_N: np.ndarray

    def rows(self, part: str, *, labelled: bool = False) -> np.ndarray:
        """Numbers of the rows of one part in the frame's order, with `labelled` only those that have a finite label."""
        wanted = (self.part_N == part).to_numpy()
        numbers = np.flatnonzero(wanted & np.isfinite(self.label_N) if labelled else wanted)
        return numbers[np.argsort(self.frame_row_N[numbers])]


def fit_scalers(frame: pl.DataFrame, groups: Mapping[str, str]) -> Scalers:
    """Mean and standard deviation of each input over the finite values of the labelled `train` rows; a constant input gets deviation 1."""
    train = frame.lazy().filter((pl.col("part") == "train") & pl.col("label").is_finite())
    finite = {name: _finite(name) for name in groups}
    row = train.select(
        *(value.mean().alias(f"{name}.mean") for name, value in finite.items()),
        *(value.std(ddof=0).alias(f"{name}.deviation") for name, value in finite.items()),
        _finite(VOLATILITY_COLUMN).median().alias("volatility"),
        _finite("label").std(ddof=0).alias("label_deviation"),
    ).collect()
    values = row.row(0, named=True)
    deviations = (values[f"{name}.deviation"] for name in groups)
    return Scalers(
        mean=tuple(float(values[f"{name}.mean"] or 0.0) for name in groups),
        deviation=tuple(float(d) if d is not None and d > SMALLEST_DEVIATION else 1.0 for d in deviations),
        volatility=next((float(value) for value in (values["volatility"], values["label_deviation"]) if value and value > SMALLEST_DEVIATION), 1.0),
    )


def arrange(frame: pl.DataFrame, groups: Mapping[str, str], scalers: Scalers) -> Bars:
    """Sort by symbol and time, standardise the inputs by `scalers`, clip at 5 deviations, and put 0 where a value is missing."""
    order = frame.select(pl.arg_sort_by("symbol", "timestamp")).to_series()
    inputs_NF = np.zeros((len(frame) + 1, len(groups)), dtype=np.float32)
    known_N = np.zeros(len(frame) + 1, dtype=bool)
    for number, (name, mean, deviation) in enumerate(zip(groups, scalers.mean, scalers.deviation, strict=True)):
        scaled = ((_finite(name) - mean) / deviation).clip(-CLIP_DEVIATIONS, CLIP_DEVIATIONS).fill_null(0.0).cast(pl.Float32)
        inputs_NF[:-1, number] = frame.select(scaled).to_series()[order].to_numpy()
    known = frame.select(pl.any_horizontal(_finite(name).is_not_null() for name in groups)).to_series()
    known_N[:-1] = known[order].to_numpy()
    context = frame.select(
        pl.col("symbol"),
        pl.col("part"),
        pl.col("label").cast(pl.Float64).alias("label") if "label" in frame.columns else pl.lit(None, pl.Float64).alias("label"),
        pl.col("timestamp").rank("dense").cast(pl.Int64).alias("day"),
        pl.col(REGIME_COLUMN).cast(pl.Float64).fill_nan(None).alias("regime"),
        _finite(VOLATILITY_COLUMN).fill_null(scalers.volatility).alias("volatility"),
    )[order]
    regime = context["regime"].fill_null(-1.0).to_numpy().astype(np.int64)
    return Bars(
        inputs_NF=inputs_NF,
        position_N=_positions(context["symbol"]),
        regime_N=np.where((regime >= 0) & (regime < len(REGIMES)), regime, -1),
        volatility_N=np.maximum(context["volatility"].to_numpy(), SMALLEST_VOLATILITY * scalers.volatility),
        label_N=context["label"].fill_null(float("nan")).to_numpy(),
        day_N=context["day"].to_numpy(),
        frame_row_N=order.to_numpy().astype(np.int64),
        part_N=context["part"],
        known_N=known_N,
    )


def window_rows(rows_B: np.ndarray, position_N: np.ndarray, lookback: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers [B, lookback] of the bars that end with each row, oldest first, and whether the symbol has that bar.

    A bar that the symbol does not have points at row `len(position_N)`, the row of zeros.
    """
    offsets_L = np.arange(1 - lookback, 1)
    valid_BL = position_N[rows_B][:, None] + offsets_L >= 0
    return np.where(valid_BL, rows_B[:, None] + offsets_L, len(position_N)), valid_BL


def begun(known_BL: np.ndarray) -> np.ndarray:
    """Which bars of a window count: all from its first one with any known input. A window tells a symbol's start by that alone, wherever it comes from."""
    return np.logical_or.accumulate(known_BL, axis=1)


def _finite(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _positions(symbol: pl.Series) -> np.ndarray:
    """Number of earlier bars of the same symbol, for symbols that stand together."""
    if symbol.is_empty():
        return np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[True], (symbol[1:] != symbol[:-1]).to_numpy()])
    numbers = np.arange(len(symbol))
    return numbers - np.maximum.accumulate(np.where(starts, numbers, 0))
