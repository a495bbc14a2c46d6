"""What selection works on: the training set as one Float32 matrix with labels, bars and symbols as numbers,
read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import (
    REGIME_COLUMN,
    VOLATILITY_COLUMN,
    CatalogEntry,
    ContractError,
    inputs_of,
    mapped_array,
    target_labels,
)
from components.scoring.moments import TargetTransform, learned_target, spread_so_far
from components.selection.errors import SelectionError
from components.selection.purpose import Purpose
from components.timeline import bar_index

FEWEST_SYMBOLS = 5


@dataclass(frozen=True)
class Rows:
    """N rows sorted by (bar, symbol), F inputs, T bars.

    `values` (N, F) Float32 with NaN for missing, column by column in memory; `target` (N,) Float32, the label
    in spreads of its bar, NaN without label; `label_end` (N,) bar at which the label became known (-1 without
    label); `bars` and `symbols` (N,) numbers; `starts` (T + 1,) first row of each bar.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: np.ndarray
    target: np.ndarray
    label_end: np.ndarray
    bars: np.ndarray
    symbols: np.ndarray
    starts: np.ndarray
    calendar: pl.Series

    @property
    def n_symbols(self) -> int:
        """Symbols of the whole table."""
        return int(self.symbols.max(initial=-1)) + 1

    def slice(self, first_bar: int, end_bar: int) -> slice:
        """Rows of the bars [first_bar, end_bar)."""
        return slice(int(self.starts[first_bar]), int(self.starts[end_bar]))


def read_rows(
    training_set: pl.DataFrame, labels: pl.DataFrame, catalog: Sequence[CatalogEntry], purpose: Purpose
) -> Rows:
    """The inputs of a modality and one target as numbers.

    Raises
    ------
    ContractError
        If the target, the horizon or an input is absent, or the rows are out of order.
    SelectionError
        If there are too few symbols to order.
    """
    groups = _inputs(training_set, catalog, purpose.modality)
    frame = _labelled(training_set, labels, purpose)
    calendar, bars = bar_index(frame["timestamp"])
    codes = frame["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    symbols = int(codes.max(initial=-1)) + 1
    if symbols < FEWEST_SYMBOLS:
        raise SelectionError(
            f"The training set holds {symbols} symbols; at least {FEWEST_SYMBOLS} are needed to say which"
            " inputs order them. Set selection.mode to off."
        )
    label = frame["label"].to_numpy()
    return Rows(
        tuple(groups),
        tuple(groups.values()),
        _matrix(training_set, list(groups)),
        _target(label, bars, purpose.transform),
        _label_end(frame, label, calendar),
        bars,
        codes,
        np.searchsorted(bars, np.arange(len(calendar) + 1)).astype(np.int64),
        calendar,
    )


def bar_starts(bars: np.ndarray) -> np.ndarray:
    """First row of each bar that has rows, and the end of the last; `bars` (rows,) ascend."""
    return np.searchsorted(bars, np.append(np.unique(bars), bars[-1] + 1)).astype(np.int64)


def always_seen(training_set: pl.DataFrame) -> tuple[str, ...]:
    """Context columns, which experts get whatever is chosen."""
    return tuple(name for name in (REGIME_COLUMN, VOLATILITY_COLUMN) if name in training_set.columns)


def _inputs(training_set: pl.DataFrame, catalog: Sequence[CatalogEntry], modality: str) -> dict[str, str]:
    """Group of each input of the modality and the panel's own period, in the catalog's order; refused where
    the table lacks one.
    """
    groups = {entry.column: entry.group for entry in inputs_of(catalog, modality)}
    absent = [name for name in groups if name not in training_set.columns]
    if absent:
        raise ContractError(
            f"The catalog names the input {absent[0]!r}, but the training set has no such column"
            f" ({len(absent)} absent). Run the features stage again."
        )
    if not groups:
        raise ContractError(f"The catalog names no input of modality {modality}. Check the features stage.")
    return groups


def _labelled(training_set: pl.DataFrame, labels: pl.DataFrame, purpose: Purpose) -> pl.DataFrame:
    """Columns `timestamp`, `symbol`, `label` and `label_end` in the order of the training set."""
    key = ("timestamp", "symbol")
    if not training_set.select(pl.struct(key)).to_series().is_sorted():
        raise ContractError("The training set is not sorted by timestamp and symbol. Sort it first.")
    chosen = target_labels(labels, purpose.horizon, purpose.target)
    frame = training_set.select(key).join(chosen, on=key, how="left", maintain_order="left")
    endless = frame.filter(pl.col("label").is_not_null() & pl.col("label_end").is_null())
    if len(endless):
        raise ContractError(
            f"{len(endless):,} labels don't say when they became known (label_end is null), first at"
            f" {endless.select(key).row(0)}."
        )
    return frame


def _label_end(frame: pl.DataFrame, label: np.ndarray, calendar: pl.Series) -> np.ndarray:
    """Bar at which each label counts as known: the first at or after its end; beyond the calendar: never in
    this table. -1 without label.
    """
    end = calendar.search_sorted(frame["label_end"].fill_null(calendar[0]), side="left")
    return np.where(np.isfinite(label), end.to_numpy().astype(np.int64), -1)


def _matrix(frame: pl.DataFrame, names: list[str]) -> np.ndarray:
    values = mapped_array(len(frame), len(names), order="F")
    for position, name in enumerate(names):
        column = values[:, position]
        column[:] = frame[name].cast(pl.Float32).to_numpy()
        column[np.isinf(column)] = np.nan
    return values


def _target(label: np.ndarray, bars: np.ndarray, transform: TargetTransform = "zscore") -> np.ndarray:
    """The label as the experts learn it; NaN without a label.

    A thin bar is measured by the labels up to it, not by all: what is chosen in a fold must not know of later
    ones.
    """
    known = np.isfinite(label)
    score = np.full(len(label), np.nan, dtype=np.float32)
    spread = spread_so_far(label[known], bars[known])
    score[known] = learned_target(label[known], bars[known], spread, transform)
    return score
