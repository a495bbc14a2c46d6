"""From a combiner's output to a return with a band: the head, fitted on rows that the combiner did not
see.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from components.scoring.stacker import SMALLEST_WIDTH, Z90, Head, width
from components.stacking.combiners import (
    Combiner,
    earlier_and_later,
    fit_combiner,
    listened_to,
    raw_output,
)
from components.stacking.config import Settings
from components.stacking.inputs import uncertainties

SMALLEST_SCALE = 1e-6
# Share of the uncertainties before a fold that its usual one is not below: what lies above it is unusual.
USUAL_QUANTILE = 0.9


def fit_head(
    name: str, combiner: Combiner, known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> Head:
    """Scale, bias and band of a combiner, on known rows that it was not fitted on: a combiner with
    coefficients or trees is fitted once more without the newest 30 % of bars, and calibrated on these. On its
    own training rows it would look better than it is.
    """
    if known.is_empty():
        return Head(SMALLEST_SCALE, 0.0, Z90, Z90)
    if combiner.method in settings.combiners:
        earlier, later = (known.filter(pl.Series(mask)) for mask in earlier_and_later(known))
        past = (
            fit_combiner(name, earlier, experts, settings.model_copy(update={"min_train_bars": 1}), seed)
            if earlier["timestamp"].n_unique() > 1
            else combiner
        )
        if past.method == combiner.method:
            return _calibrate(raw_output(past, later), later, _uncertainties(combiner, later))
    return _calibrate(raw_output(combiner, known), known, _uncertainties(combiner, known))


def predict_block(combiner: Combiner, block: pl.DataFrame, known: pl.DataFrame, head: Head) -> pl.DataFrame:
    """Calibrated score and bands of a block; `head` was fitted on rows known before it."""
    scores = head.scores(raw_output(combiner, block), _uncertainties(combiner, block))
    return block.select("timestamp", "symbol").with_columns(
        *(pl.Series(name, values) for name, values in vars(scores).items()),
        head_scale=pl.lit(head.scale),
        head_bias=pl.lit(head.bias),
        usual_uncertainty=pl.lit(head.usual if np.isfinite(head.usual) else None, dtype=pl.Float64),
        train_window=pl.lit(
            f"{known['timestamp'].min():%Y-%m-%d}..{known['timestamp'].max():%Y-%m-%d}"
            if len(known)
            else "none"
        ),
    )


def _uncertainties(combiner: Combiner, rows: pl.DataFrame) -> np.ndarray:
    return uncertainties(rows, listened_to(combiner))


def _calibrate(raw: np.ndarray, known: pl.DataFrame, uncertainty: np.ndarray) -> Head:
    """Scale and bias from raw output to return, and how many widths p10 and p90 lie away (80 % of known rows
    inside).
    """
    label = known["label"].to_numpy()
    deviation = raw - raw.mean()
    variance = float(deviation @ deviation)
    scale = SMALLEST_SCALE
    if variance > 0:
        scale = max(float(deviation @ (label - label.mean())) / variance, SMALLEST_SCALE)
    bias = float(label.mean() - scale * raw.mean())
    residual = (label - scale * raw - bias) / width(uncertainty)
    low, high = np.quantile(residual, [0.1, 0.9])
    head = Head(scale, bias, max(-float(low), SMALLEST_WIDTH), max(float(high), SMALLEST_WIDTH))
    return replace(head, usual=float(np.quantile(head.scores(raw, uncertainty).uncertainty, USUAL_QUANTILE)))
