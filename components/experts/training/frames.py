"""The rows of a training by fold: what a fit may learn from, what it is asked to predict, and no label that
was known too late.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from components.contracts import (
    INDUSTRY_COLUMN,
    REGIME_COLUMN,
    SECTOR_COLUMN,
    VOLATILITY_COLUMN,
    CatalogEntry,
    ContractError,
    inputs_of,
    target_labels,
)
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.timeline import Fold, TimelineError, consecutive
from components.timeline.periods import stretch_begun
from components.timeline.splits import FEWEST_TRAIN_BARS

CONTEXT_COLUMNS = (REGIME_COLUMN, VOLATILITY_COLUMN, SECTOR_COLUMN, INDUSTRY_COLUMN)
PARTS = pl.Enum(["history", "train", "early_stopping", "predict"])


@dataclass(frozen=True)
class LabelledRows:
    """Rows of all bars: inputs, context, label and label_end, sorted by time.

    `bars` holds the position of each row's bar in the `calendar`; the test window ends before `target_end`.
    """

    rows: pl.DataFrame
    calendar: pl.Series
    bars: np.ndarray
    target_end: int

    def without(self, columns: Sequence[str]) -> "LabelledRows":
        """The same rows without some of their columns."""
        return replace(self, rows=self.rows.drop(columns))


def input_groups(
    training_set: pl.DataFrame, catalog: Sequence[CatalogEntry], modality: str, coarser: str = ""
) -> dict[str, str]:
    """Group of each input that the modality sees, of the panel's own period unless `coarser` names one."""
    inputs = inputs_of(catalog, modality, coarser)
    groups = {entry.column: entry.group for entry in inputs if entry.column in training_set.columns}
    absent = [
        entry.column
        for entry in catalog
        if entry.role == "input" and entry.column not in training_set.columns
    ]
    if absent:
        raise ContractError(
            f"The catalog names the input {absent[0]!r}, but the training set has no such column"
            f" ({len(absent)} absent). Run the features stage again."
        )
    missing = [name for name in (REGIME_COLUMN, VOLATILITY_COLUMN) if name not in training_set.columns]
    if missing or not groups:
        raise ContractError(
            f"The training set lacks {missing[0] if missing else _any_input(coarser)}. Run features and"
            " training set again with their defaults."
        )
    return groups


def seen(leaf: Leaf, groups: Mapping[str, str]) -> dict[str, str]:
    """Inputs with their groups: those that the leaf names, or all where it names none.

    Raises
    ------
    ContractError
        If the leaf names one that is not there.
    """
    unknown = [name for name in leaf.inputs if name not in groups]
    if unknown:
        close = difflib.get_close_matches(unknown[0], groups, n=1)
        advice = f" Did you mean {close[0]!r}?" if close else ""
        raise ContractError(
            f"The leaf of {leaf.expert} names the input {unknown[0]!r}, which is none of the {len(groups)} of"
            f" its modality.{advice} Mend `inputs` of the leaf, or switch on the features that make it."
        )
    return {name: groups[name] for name in leaf.inputs or groups}


def _any_input(coarser: str) -> str:
    return f"any input column of the period {coarser}" if coarser else "any input column"


def with_labels(
    training_set: pl.DataFrame, labels: pl.DataFrame, inputs: list[str], tasks: Sequence[tuple[str, int]]
) -> pl.DataFrame:
    """The training set with the labels of the tasks (Float64:

    `label`, then `also_0` ...) and the time at which the last of a row's labels was known, `label_end`; row
    order is kept.
    """
    context = [name for name in CONTEXT_COLUMNS if name not in inputs and name in training_set.columns]
    rows = training_set.select("timestamp", "symbol", "sector", *inputs, *context)
    names = ["label", *(f"also_{number}" for number in range(len(tasks) - 1))]
    for name, (target, horizon) in zip(names, tasks, strict=True):
        wanted = target_labels(labels, horizon, target).rename({"label": name, "label_end": f"end of {name}"})
        rows = rows.join(wanted, on=("timestamp", "symbol"), how="left", maintain_order="left")
        endless = rows.filter(pl.col(name).is_not_null() & pl.col(f"end of {name}").is_null())
        if len(endless):
            first = endless.select("timestamp", "symbol").row(0)
            raise ContractError(
                f"{len(endless):,} labels of {target} over {horizon} bars don't say when they became known"
                f" (label_end is null), first at {first}."
            )
    ends = [f"end of {name}" for name in names]
    return rows.with_columns(pl.max_horizontal(ends).alias("label_end")).drop(ends)


def _label_columns(rows: pl.DataFrame) -> list[str]:
    return [name for name in rows.columns if name == "label" or name.startswith("also_")]


def unlabelled_but(rows: pl.DataFrame, learnable: pl.DataFrame) -> pl.DataFrame:
    """The rows, those that are not in `learnable` without their labels."""
    kept = rows.select("timestamp", "symbol").join(
        learnable.select("timestamp", "symbol", pl.lit(True).alias("kept")),
        on=("timestamp", "symbol"),
        how="left",
        maintain_order="left",
    )
    return rows.with_columns(
        pl.when(kept["kept"].is_not_null()).then(name).alias(name)
        for name in (*_label_columns(rows), "label_end")
    )


def labelled_at_news(rows: pl.DataFrame, period: str) -> pl.DataFrame:
    """The rows, labels only at each symbol's first bar after a stretch of the coarser `period` is over: until
    the next one its inputs say nothing new, and rows that repeat them are no further evidence.
    """
    begun = stretch_begun(pl.col("timestamp"), period)
    news = rows.select((begun != begun.shift(1)).over("symbol").fill_null(False)).to_series()
    return rows.with_columns(
        pl.when(news).then(name).alias(name) for name in (*_label_columns(rows), "label_end")
    )


def require_news(table: LabelledRows, folds: Sequence[Fold], expert: str, period: str) -> None:
    """Refuse folds in which an expert of a coarser period finds too few bars to learn from.

    Raises
    ------
    ExpertError
        If a fold has fewer than FEWEST_TRAIN_BARS of them, or none for early stopping.
    """
    known = np.unique(table.bars[table.rows["label"].is_not_null().to_numpy()])
    for fold in folds:
        train, stopping = (int(np.isin(part, known).sum()) for part in (fold.train, fold.early_stopping))
        if train < FEWEST_TRAIN_BARS or not stopping:
            raise ExpertError(
                f"{expert} learns at the bars at which one of {period} has just become known: {fold.name} has"
                f" {train} of them to learn from and {stopping} for early stopping, {FEWEST_TRAIN_BARS} and 1"
                " are needed. Lengthen timeline.train or the panel, or take its leaf out of experts.leaves."
            )


def _slice(table: LabelledRows, start: int, end: int) -> pl.DataFrame:
    """Rows of the bars [start, end), without copying them."""
    first, last = np.searchsorted(table.bars, [max(start, 0), end])
    return table.rows.slice(int(first), int(last - first))


def known_bar(table: LabelledRows, fold: Fold) -> int:
    """The bar at which all that is learned from is known: the last one before the fold predicts, for the
    served model the last of the test window. In a split that also learns from later bars, the one at which
    the last label learned from is known.
    """
    if fold.forward:
        return (int(fold.predict[0]) if len(fold.predict) else table.target_end) - 1
    last = _slice(table, int(fold.early_stopping[0]), int(fold.early_stopping[-1]) + 1)["label_end"].max()
    return int(fold.early_stopping[-1]) if last is None else int(table.calendar.search_sorted(last))


def fit_frame(table: LabelledRows, fold: Fold, lookback: int) -> pl.DataFrame:
    """Frame for `fit`: ends with the last early-stopping bar; labels outside train and early stopping are
    null. Where there is a lookback, bars that are not learned from stay as history, so that windows stay
    whole.

    Raises
    ------
    TimelineError
        If a label to learn from became known only after the bars before the fold's predictions, or a train
        label only after early stopping began, or one begins before those of predicted bars are known.
    """
    train, stopping = (
        [_part(table, bars, name) for bars in consecutive(positions)]
        for positions, name in ((fold.train, "train"), (fold.early_stopping, "early_stopping"))
    )
    _refuse_late(pl.concat(train), table.calendar[int(fold.early_stopping[0])], fold, "early stopping begins")
    learned = [*train, *stopping]
    for predicted in consecutive(fold.predict) or [np.array([table.target_end])]:
        _refuse_overlap(learned, table, predicted, fold)
    pieces, at = [], int(fold.train[0]) - lookback
    for bars, rows in zip([*fold.stretches, *consecutive(fold.early_stopping)], learned, strict=True):
        pieces += [_history(table, at, int(bars[0])), rows] if lookback else [rows]
        at = int(bars[-1]) + 1
    return pl.concat(pieces, rechunk=False).drop("label_end")


def predict_frames(table: LabelledRows, fold: Fold, lookback: int) -> list[pl.DataFrame]:
    """Frames for `predict`, one for each stretch of the fold's bars: `lookback` bars of history and the
    stretch, all labels null, nothing after.
    """
    return [
        pl.concat(
            [
                _history(table, int(bars[0]) - lookback, int(bars[0])),
                _part(table, bars, "predict", labelled=False),
            ],
            rechunk=False,
        ).drop("label_end")
        for bars in consecutive(fold.predict)
    ]


def _refuse_overlap(
    learned: Sequence[pl.DataFrame], table: LabelledRows, predicted: np.ndarray, fold: Fold
) -> None:
    """Refuse labels that were known too late for a stretch of predicted bars, and, in a split that learns
    from later bars too, rows in which labels of the stretch are not yet known.
    """
    narrow = pl.concat(
        rows.select("timestamp", "symbol", "label_end", *_label_columns(rows)) for rows in learned
    )
    # The first bar of all has none before it, so nothing that was learned from is earlier.
    last_before = table.calendar[max(int(predicted[0]) - 1, 0)]
    earlier = (pl.col("timestamp") <= last_before) & pl.lit(predicted[0] > 0)
    before, after = narrow.filter(earlier), narrow.filter(~earlier)
    _refuse_late(before, last_before, fold, "the last bar before predictions begin")
    if after.is_empty():
        return
    own = _slice(table, int(predicted[0]), int(predicted[-1]) + 1)["label_end"].max()
    early = after.filter(pl.col("timestamp") <= own) if own is not None else after.clear()
    if len(early):
        timestamp, symbol = early.select("timestamp", "symbol").row(0)
        raise TimelineError(
            f"{fold.name}: {len(early):,} rows are learned from in which labels of the tested bars before"
            f" them are not yet known, first {symbol} at {timestamp}; the last is known at {own}. Their"
            " labels share returns with those that are predicted. Raise timeline.purge_bars to the longest"
            " horizon plus the entry bar."
        )


def _history(table: LabelledRows, start: int, end: int) -> pl.DataFrame:
    return _part(table, np.arange(max(start, 0), max(end, 0)), "history", labelled=False)


def _part(table: LabelledRows, bars: np.ndarray, part: str, *, labelled: bool = True) -> pl.DataFrame:
    """Rows of the consecutive `bars` with their part; without their labels unless `labelled`."""
    rows = table.rows.clear() if not len(bars) else _slice(table, int(bars[0]), int(bars[-1]) + 1)
    columns = [pl.lit(part, dtype=PARTS).cast(pl.String).alias("part")]
    if not labelled:
        columns += [pl.lit(None, dtype=pl.Float64).alias(name) for name in _label_columns(rows)]
    return rows.with_columns(columns)


def _refuse_late(rows: pl.DataFrame, known: Any, fold: Fold, what: str) -> None:
    late = rows.filter(
        pl.any_horizontal(pl.col(name).is_not_null() for name in _label_columns(rows))
        & (pl.col("label_end") > known)
    )
    if len(late):
        timestamp, symbol, end = late.select("timestamp", "symbol", "label_end").row(0)
        raise TimelineError(
            f"{fold.name}: {len(late):,} labels became known after {known} ({what}), first {symbol} at"
            f" {timestamp}, known at {end}: they would carry the future into training. Raise"
            " timeline.purge_bars to the longest horizon plus the entry bar."
        )
