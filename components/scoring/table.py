"""Scores many bars offline with the served form: what judges a champion on new data, and what the service
must agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.contracts.classes import CLASS_COLUMNS
from components.scoring.form import ScoringError
from components.scoring.model import ExpertOutputs, Model

if TYPE_CHECKING:
    import polars as pl

CHUNK_ROWS = 1 << 16
CHUNK_WINDOWS = 1 << 10


def score_table(model: Model, rows: pl.DataFrame, *, bars: Sequence | None = None) -> pl.DataFrame:
    """Score every row of many bars; the rows of one timestamp are that bar's whole universe.

    Parameters
    ----------
    rows : `timestamp, symbol`, the model's inputs and context; sorted by (timestamp, symbol), each pair once
    bars : timestamps to score, all where left out; earlier rows serve as history for windows

    Returns
    -------
    `timestamp, symbol, score, uncertainty, p10, p50, p90, head_scale, head_bias`, Float64, in the order of
    the rows, and CLASS_COLUMNS where the target is a class.

    Raises
    ------
    ScoringError
        If a column is missing, or rows are out of order or repeated.
    """
    import polars as pl

    _check(model, rows)
    wanted = (
        rows["timestamp"].is_in(_moments_of(rows, bars).implode()).to_numpy()
        if bars is not None
        else np.ones(len(rows), dtype=bool)
    )
    chosen_N = np.flatnonzero(wanted)
    inputs_NF, context_NC = (_matrix(rows, columns) for columns in (model.columns, model.context))
    windows = _windows(rows, model.lookback_bars) if model.lookback_bars else None
    bar_N = rows["timestamp"].gather(chosen_N).rle_id().to_numpy()
    chunks = _whole_bars(bar_N, CHUNK_WINDOWS if windows is not None else CHUNK_ROWS)
    parts = [
        _outputs(model, inputs_NF, context_NC, windows, chosen_N[chunk], bar_N[chunk]) for chunk in chunks
    ]
    empty = np.empty((len(model.experts), 0))
    outputs = ExpertOutputs(
        model.stacker.experts,
        *(
            np.concatenate([empty, *(getattr(part, name) for part in parts)], axis=1)
            for name in ("score", "uncertainty")
        ),
        chances=_chances(model, parts),
    )
    context = context_NC[chosen_N]
    scores = model.combine(outputs, context, model.cross_section_by_bar(outputs, context, bar_N))
    scale, bias = model.head
    about = rows.select("timestamp", "symbol")[chosen_N]
    return about.with_columns(
        *(pl.Series(name, values) for name, values in scores.columns().items()),
        pl.lit(scale).alias("head_scale"),
        pl.lit(bias).alias("head_bias"),
    )


def _chances(model: Model, parts: Sequence[ExpertOutputs]) -> np.ndarray | None:
    if model.stacker.head.pool is None:
        return None
    none = np.empty((len(model.experts), 0, len(CLASS_COLUMNS)))
    return np.concatenate([none, *(part.chances for part in parts)], axis=1)


def _check(model: Model, rows: pl.DataFrame) -> None:
    import polars as pl

    missing = [
        name for name in ("timestamp", "symbol", *model.columns, *model.context) if name not in rows.columns
    ]
    if missing:
        raise ScoringError(
            f"The rows lack {len(missing)} columns that the model takes, first {missing[0]!r}. Join them with"
            f" the feature service of its schema {model.schema}."
        )
    time, symbol = pl.col("timestamp"), pl.col("symbol")
    ascends = (time > time.shift(1)) | ((time == time.shift(1)) & (symbol > symbol.shift(1)))
    if not rows.select(ascends.fill_null(True).all()).item():
        raise ScoringError(
            "The rows are not sorted by (timestamp, symbol), or repeat one. Sort them and keep each once."
        )


def _moments_of(rows: pl.DataFrame, bars: Sequence) -> pl.Series:
    import polars as pl

    return pl.Series("timestamp", bars).cast(rows["timestamp"].dtype)


def _matrix(rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Float32 [rows + 1, columns], NaN where null; the last row is all NaN."""
    import polars as pl

    values = np.full((len(rows) + 1, len(columns)), np.nan, dtype=np.float32)
    for number, name in enumerate(columns):
        values[:-1, number] = rows[name].cast(pl.Float32).to_numpy()
    return values


def _windows(rows: pl.DataFrame, lookback: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers sorted by symbol and time, and for each row its place among them and how many bars of its
    symbol stand before it: [N], [2, N].
    """
    import polars as pl

    order_N = rows.select(pl.arg_sort_by("symbol", "timestamp")).to_series().to_numpy().astype(np.int64)
    symbol = rows["symbol"].gather(order_N).rle_id().to_numpy()
    starts_N = np.searchsorted(symbol, symbol)
    place_N = np.empty(len(order_N), dtype=np.int64)
    place_N[order_N] = np.arange(len(order_N))
    start_N = np.empty(len(order_N), dtype=np.int64)
    start_N[order_N] = starts_N
    return order_N, np.stack([place_N, start_N])


def _whole_bars(bar_N: np.ndarray, size: int) -> list[slice]:
    """Stretches of about `size` rows, longer where a bar is: no bar is in two of them."""
    if not len(bar_N):
        return []
    ends = np.append(np.flatnonzero(np.diff(bar_N)) + 1, len(bar_N))
    chosen = ends[
        np.unique(np.searchsorted(ends, np.arange(size, len(bar_N) + size, size)).clip(max=len(ends) - 1))
    ].tolist()
    return [slice(start, end) for start, end in zip([0, *chosen[:-1]], chosen, strict=True)]


def _outputs(
    model: Model,
    inputs_NF: np.ndarray,
    context_NC: np.ndarray,
    windows: tuple[np.ndarray, np.ndarray] | None,
    rows_B: np.ndarray,
    bar_B: np.ndarray,
) -> ExpertOutputs:
    window_BLF = None
    if windows is not None:
        order_N, (place_N, start_N) = windows
        places_BL = place_N[rows_B][:, None] + np.arange(1 - model.lookback_bars, 1)
        before = places_BL < start_N[rows_B][:, None]
        window_BLF = inputs_NF[np.where(before, len(order_N), order_N[np.maximum(places_BL, 0)])]
    return model.expert_outputs(inputs_NF[rows_B], context_NC[rows_B], window_BLF, bar_B)
