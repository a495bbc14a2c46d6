"""The training frame as arrays, sorted by symbol and time, and the statistics by which it is scaled.

Shapes: N rows sorted by (symbol, timestamp), F inputs, T tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from components.contracts import (
    INDUSTRY_COLUMN,
    REGIME_COLUMN,
    REGIMES,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
    mapped_array,
)
from components.experts.bands import SMALLEST_VOLATILITY
from components.timeline.periods import widest_step

CLIP_DEVIATIONS = 5.0
SMALLEST_DEVIATION = 1e-8
WEIGHT_COLUMN = "weight"


@dataclass(frozen=True)
class Scalers:
    """Statistics of the labelled train rows: per input its mean and standard deviation, and the median
    volatility of one bar (the labels' deviation where there is none).
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    volatility: float


@dataclass(frozen=True)
class Codes:
    """Codes of the sectors and industries of the labelled train rows, ascending; empty where the frame has
    none. A row's number is 1 + the place of its code.
    """

    sectors: tuple[float, ...]
    industries: tuple[float, ...]


@dataclass(frozen=True)
class PanelArrays:
    """The frame as arrays, sorted by (symbol, timestamp).

    inputs_NF : float32 [rows + 1, inputs], standardised, missing values 0; the last row is all zeros
    position_N : how many bars of the same symbol stand before the row; of samples of order books those of the
        same session, back to the last hole
    regime_N : code of the regime, an index into REGIMES, -1 where unknown
    sector_N, industry_N : int64, from 1 in the order of `Codes`; 0 where unknown
    volatility_N : standard deviation of one-bar log returns; the median stands in for a missing one, a tenth
        of it is the least
    labels_NT : float64, the labels in return units: `label`, `also_0`, `also_1`, ...; NaN where there is none
    weight_N : float32, how much a train row counts; 1 where the frame does not say
    day_N : number of the row's timestamp
    frame_row_N : row of the frame that this one came from
    part_N : what the row is for, as in the frame
    known_N : [rows + 1], whether any input of the row is finite; False for the last row
    """

    inputs_NF: np.ndarray
    position_N: np.ndarray
    regime_N: np.ndarray
    sector_N: np.ndarray
    industry_N: np.ndarray
    volatility_N: np.ndarray
    labels_NT: np.ndarray
    weight_N: np.ndarray
    day_N: np.ndarray
    frame_row_N: np.ndarray
    part_N: pl.Series
    known_N: np.ndarray

    @property
    def label_N(self) -> np.ndarray:
        """The label of the first task, in return units, NaN where there is none."""
        return self.labels_NT[:, 0]

    def rows(self, part: str, *, labelled: bool = False) -> np.ndarray:
        """Numbers of the rows of one part in the frame's order, with `labelled` only those that have a finite
        label.
        """
        wanted = (self.part_N == part).to_numpy()
        numbers = np.flatnonzero(wanted & np.isfinite(self.label_N) if labelled else wanted)
        return numbers[np.argsort(self.frame_row_N[numbers])]


def fit_scalers(frame: pl.DataFrame, groups: Mapping[str, str]) -> Scalers:
    """Mean and standard deviation of each input over the finite values of the labelled `train` rows; a
    constant input gets deviation 1.
    """
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
        volatility=next(
            (
                float(value)
                for value in (values["volatility"], values["label_deviation"])
                if value and value > SMALLEST_DEVIATION
            ),
            1.0,
        ),
    )


def fit_codes(frame: pl.DataFrame) -> Codes:
    """The distinct finite codes of sector and industry among the labelled `train` rows."""
    train = frame.lazy().filter((pl.col("part") == "train") & pl.col("label").is_finite())

    def distinct(name: str) -> tuple[float, ...]:
        return (
            tuple(train.select(_finite(name).drop_nulls().unique().sort()).collect().to_series())
            if name in frame.columns
            else ()
        )

    return Codes(distinct(SECTOR_COLUMN), distinct(INDUSTRY_COLUMN))


def arrange(
    frame: pl.DataFrame, groups: Mapping[str, str], scalers: Scalers, codes: Codes, period: str
) -> PanelArrays:
    """Sort by symbol and time, standardise the inputs by `scalers`, clip at 5 deviations, and put 0 where a
    value is missing. `period` says how far apart rows may be that follow each other.

    Takes 4 bytes an input and row beside the frame, in a mapped file where they are many; one column at a
    time is held in float64.
    """
    order = frame.select(pl.arg_sort_by("symbol", "timestamp")).to_series()
    inputs_NF = mapped_array(len(frame) + 1, len(groups))
    known_N = np.zeros(len(frame) + 1, dtype=bool)
    for number, (name, mean, deviation) in enumerate(
        zip(groups, scalers.mean, scalers.deviation, strict=True)
    ):
        scaled = (
            ((_finite(name) - mean) / deviation)
            .clip(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
            .fill_null(0.0)
            .cast(pl.Float32)
        )
        inputs_NF[:-1, number] = frame.select(scaled).to_series()[order].to_numpy()
    known = frame.select(pl.any_horizontal(_finite(name).is_not_null() for name in groups)).to_series()
    known_N[:-1] = known[order].to_numpy()
    labels = ["label", *_further_labels(frame)]
    context = frame.select(
        pl.col("symbol"),
        pl.col("timestamp"),
        pl.col("part"),
        *(_column_or(frame, name, None) for name in (*labels, SECTOR_COLUMN, INDUSTRY_COLUMN)),
        _column_or(frame, WEIGHT_COLUMN, 1.0),
        pl.col("timestamp").rank("dense").cast(pl.Int64).alias("day"),
        pl.col(REGIME_COLUMN).cast(pl.Float64).fill_nan(None).alias("regime"),
        _finite(VOLATILITY_COLUMN).fill_null(scalers.volatility).alias("volatility"),
    )[order]
    regime = context["regime"].fill_null(-1.0).to_numpy().astype(np.int64)
    return PanelArrays(
        inputs_NF=inputs_NF,
        position_N=_positions(context["symbol"], context["timestamp"], widest_step(period)),
        regime_N=np.where((regime >= 0) & (regime < len(REGIMES)), regime, -1),
        sector_N=_numbered(context[SECTOR_COLUMN], codes.sectors),
        industry_N=_numbered(context[INDUSTRY_COLUMN], codes.industries),
        volatility_N=np.maximum(context["volatility"].to_numpy(), SMALLEST_VOLATILITY * scalers.volatility),
        labels_NT=np.stack([context[name].fill_null(float("nan")).to_numpy() for name in labels], axis=1),
        weight_N=context[WEIGHT_COLUMN].fill_null(1.0).to_numpy().astype(np.float32),
        day_N=context["day"].to_numpy(),
        frame_row_N=order.to_numpy().astype(np.int64),
        part_N=context["part"],
        known_N=known_N,
    )


def _finite(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _column_or(frame: pl.DataFrame, name: str, otherwise: float | None) -> pl.Expr:
    return _finite(name).alias(name) if name in frame.columns else pl.lit(otherwise, pl.Float64).alias(name)


def _further_labels(frame: pl.DataFrame) -> list[str]:
    """`also_0`, `also_1`, ... as far as the frame has them."""
    found = []
    while f"also_{len(found)}" in frame.columns:
        found.append(f"also_{len(found)}")
    return found


def _numbered(code: pl.Series, known: tuple[float, ...]) -> np.ndarray:
    """1 + place of each code among the known ones, 0 where it is none of them."""
    if not known:
        return np.zeros(len(code), dtype=np.int64)
    values, places = code.fill_null(float("nan")).to_numpy(), np.array(known)
    found = np.minimum(np.searchsorted(places, values), len(places) - 1)
    return np.where(places[found] == values, found + 1, 0).astype(np.int64)


def _positions(symbol: pl.Series, timestamp: pl.Series, widest: timedelta | None) -> np.ndarray:
    """Number of earlier bars of the same symbol, for symbols that stand together, back to the last step in
    time that is wider than `widest`.
    """
    if symbol.is_empty():
        return np.zeros(0, dtype=np.int64)
    apart = symbol[1:] != symbol[:-1]
    if widest is not None:
        apart |= timestamp[1:] - timestamp[:-1] > widest
    starts = np.concatenate([[True], apart.to_numpy()])
    numbers = np.arange(len(symbol))
    return numbers - np.maximum.accumulate(np.where(starts, numbers, 0))
