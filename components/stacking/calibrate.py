"""From a combiner's output to a return with a band: the head, fitted on rows that the combiner did not
see.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import polars as pl

from components.contracts.classes import class_values
from components.scoring.classes import class_answer, own_classes
from components.scoring.stacker import SMALLEST_WIDTH, Z90, Head, Pool, width
from components.scoring.temperature import fit_temperature
from components.stacking.combiners import (
    Combiner,
    earlier_and_later,
    fit_combiner,
    listened_to,
    raw_output,
)
from components.stacking.config import Settings
from components.stacking.inputs import chances, uncertainties

SMALLEST_SCALE = 1e-6
# Share of the uncertainties before a fold that its usual one is not below: what lies above it is unusual.
USUAL_QUANTILE = 0.9


@dataclass(frozen=True)
class LabelKind:
    """What the labels are: the values of their classes, empty for a number, and the bars that one spans."""

    classes: tuple[int, ...] = ()
    horizon: int = 1

    @classmethod
    def of(cls, oof: pl.DataFrame) -> Self:
        """Of an OOF frame."""
        return cls(class_values(oof["target"][0]), int(oof["horizon"][0]))


NUMBER = LabelKind()


def fit_head(
    name: str,
    combiner: Combiner,
    known: pl.DataFrame,
    experts: list[str],
    settings: Settings,
    seed: int,
    kind: LabelKind = NUMBER,
) -> Head:
    """Scale, bias and band of a combiner, on known rows that it was not fitted on: a combiner with
    coefficients or trees is fitted once more without the newest 30 % of bars, and calibrated on these. On its
    own training rows it would look better than it is.

    Where the target is a class, the probabilities of the experts that the combiner listens to are pooled, at
    the temperature of the known rows.
    """
    head = _fit_number(name, combiner, known, experts, settings, seed)
    return _with_pool(head, combiner, known, kind) if kind.classes else head


def _fit_number(
    name: str, combiner: Combiner, known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> Head:
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
    heard = listened_to(combiner)
    scores = head.scores(raw_output(combiner, block), uncertainties(block, heard), chances(block, heard))
    return block.select("timestamp", "symbol").with_columns(
        *(pl.Series(name, values) for name, values in scores.columns().items()),
        head_scale=pl.lit(head.scale),
        head_bias=pl.lit(head.bias),
        usual_uncertainty=pl.lit(head.usual if np.isfinite(head.usual) else None, dtype=pl.Float64),
        train_window=pl.lit(
            f"{known['timestamp'].min():%Y-%m-%d}..{known['timestamp'].max():%Y-%m-%d}"
            if len(known)
            else "none"
        ),
    )


def _with_pool(head: Head, combiner: Combiner, known: pl.DataFrame, kind: LabelKind) -> Head:
    """The head with a pool at the temperature under which the known labels are likeliest, and the usual
    uncertainty of its probabilities.
    """
    pool = Pool(kind.classes, 1.0)
    if known.is_empty():
        return replace(head, pool=pool)
    chance_EB3 = chances(known, listened_to(combiner))
    logits_BC = np.log(own_classes(pool.chances(chance_EB3), len(kind.classes)))
    class_B = np.searchsorted(kind.classes, known["label"].to_numpy())
    bar_B = known["timestamp"].rle_id().to_numpy()
    pool = replace(pool, temperature=fit_temperature(logits_BC, class_B, bar_B, kind.horizon))
    pooled_BC = own_classes(pool.chances(chance_EB3), len(kind.classes))
    given_B = class_answer(pooled_BC, kind.classes).uncertainty
    return replace(head, pool=pool, usual=float(np.quantile(given_B, USUAL_QUANTILE)))


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
