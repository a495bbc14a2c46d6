"""A model for each regime beside the one of all rows: which models there are, what each learns from, and how
much each counts.

Shapes: N rows, M members, R regimes, P models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import REGIME_COLUMN, REGIMES
from components.contracts.documents.experts import RegimeRows
from components.experts.errors import ExpertError
from components.experts.rows import WEIGHT
from components.settings import Section

ALL_ROWS = "all"


class RegimeModels(Section):
    """A model of its own for each regime that has enough train rows; where it has fewer, a model of all rows
    in which the other regimes' rows count less.
    """

    fewest_rows: int = Field(
        300, ge=1, description="labelled train rows of a regime for a model that learns from them alone"
    )
    fewest_bars: int = Field(
        20, ge=1, description="bars that those rows must come from; the rows of a bar share one fate"
    )
    shrinkage_rows: float = Field(
        1000,
        ge=0,
        description=(
            "the regime's own model has the weight n / (n + shrinkage_rows), the model of all rows the rest"
        ),
    )
    other_weight: float = Field(
        0.3, gt=0, le=1, description="weight of the other regimes' rows where a regime has too few of its own"
    )


@dataclass(frozen=True)
class PlannedModel:
    """One model to fit: of all rows (`regime` None), of one regime's rows alone, or (`weighted`) of all rows
    with the other regimes' at less weight.

    `share` is its weight in its regime; the model of all rows has the rest.
    """

    name: str
    regime: int | None = None
    weighted: bool = False
    share: float = 1.0


def plan(
    frame: pl.DataFrame, regimes: RegimeModels | None
) -> tuple[list[PlannedModel], dict[str, RegimeRows]]:
    """The models to fit, that of all rows first, and labelled train rows, bars and kind of model of each
    regime.
    """
    if regimes is None:
        return [PlannedModel(ALL_ROWS)], {}
    train = frame.filter((pl.col("part") == "train") & pl.col("label").is_finite())
    if train.is_empty():
        raise ExpertError("no train row has a label. Lengthen timeline.train, or check the labels' coverage.")
    code_N, bar_N = regime_of(train), train["timestamp"].rle_id().to_numpy()
    parts, about = [PlannedModel(ALL_ROWS)], {}
    for regime, name in enumerate(REGIMES):
        own_N = code_N == regime
        rows, bars = int(own_N.sum()), len(np.unique(bar_N[own_N]))
        alone = rows >= regimes.fewest_rows and bars >= regimes.fewest_bars
        part = PlannedModel(name, regime, not alone, rows / (rows + regimes.shrinkage_rows) if alone else 1.0)
        kind = "own" if alone else "weighted" if rows else "none"
        weight = part.share if rows else 0.0
        about[name] = RegimeRows(train_rows=rows, train_bars=bars, model=kind, weight=weight)
        if rows:
            parts.append(part)
    return parts, about


def frame_of(frame: pl.DataFrame, part: PlannedModel, regimes: RegimeModels | None) -> pl.DataFrame:
    """The rows that a model learns from.

    Rows that it must not learn from stay as history, so that windows stay whole.

    A model of one regime stops early on that regime's rows where there are `fewest_rows` of them, else on
    those of all.
    """
    if part.regime is None:
        return frame
    # The code is cut off to a whole number, as scoring does it.
    own = (pl.col(REGIME_COLUMN).cast(pl.Int32, strict=False) == part.regime).fill_null(False)
    if part.weighted:
        given = pl.col(WEIGHT).cast(pl.Float64) if WEIGHT in frame.columns else pl.lit(1.0)
        return frame.with_columns(
            pl.when((pl.col("part") == "train") & ~own)
            .then(given * regimes.other_weight)
            .otherwise(given)
            .alias(WEIGHT)
        )
    stopping = frame.select(
        (own & (pl.col("part") == "early_stopping") & pl.col("label").is_finite()).sum()
    ).item()
    left_out = ["train", "early_stopping"] if stopping >= regimes.fewest_rows else ["train"]
    blank = pl.col("part").is_in(left_out) & ~own
    labels = [name for name in frame.columns if name == "label" or name.startswith("also_")]
    return frame.with_columns(
        pl.when(blank).then(pl.lit("history")).otherwise(pl.col("part")).alias("part"),
        *(pl.when(blank).then(None).otherwise(pl.col(name)).alias(name) for name in labels),
    )


def plan_weights(parts: Sequence[PlannedModel], ensemble: int) -> tuple[tuple[float, ...], ...]:
    """Weight of each member in each regime [R + 1, M]; the members of an ensemble share alike."""
    weights_RP = np.zeros((len(REGIMES) + 1, len(parts)))
    for number, part in enumerate(parts):
        if part.regime is not None:
            weights_RP[part.regime, number] = part.share
    weights_RP[:, 0] = 1.0 - weights_RP.sum(axis=1)
    return tuple(map(tuple, np.repeat(weights_RP / ensemble, ensemble, axis=1).tolist()))


def regime_of(rows: pl.DataFrame) -> np.ndarray:
    """Code of each row's regime, a whole number in Float64; NaN where unknown."""
    return np.trunc(rows[REGIME_COLUMN].cast(pl.Float64).to_numpy())
