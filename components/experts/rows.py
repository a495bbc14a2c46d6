"""What the tabular experts have in common: picking rows, the input matrix, the target's transform and the
monitor.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import mapped_array, mapped_rows
from components.experts.errors import ExpertError
from components.experts.protocol import Advance
from components.scoring.moments import FEWEST_SYMBOLS, TargetTransform, learned_target

WEIGHT = "weight"
# Boosting tells how far it is once in so many trees.
REPORTED_ROUNDS = 10
Monitor = Literal["rmse", "rank_correlation"]
Refit = Annotated[
    bool,
    Field(
        description=(
            "learn anew from all rows once the early-stopping rows have chosen how much is learned; false:"
            " nothing is ever learned from these newest rows"
        )
    ),
]


def labelled(frame: pl.DataFrame, part: str) -> pl.DataFrame:
    """The rows of a part that have a finite label.

    Raises
    ------
    ExpertError
        If there are none.
    """
    rows = mapped_rows(frame, (pl.col("part") == part) & pl.col("label").is_finite())
    if rows.is_empty():
        raise ExpertError(
            f"no {part} row has a label. Lengthen timeline.train, or check the labels' coverage."
        )
    return rows


def all_to_learn(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame of a fit as `learn_all` takes it: the early-stopping rows are train rows."""
    return frame.with_columns(
        pl.when(pl.col("part") == "early_stopping").then(pl.lit("train")).otherwise("part").alias("part")
    )


def matrix(rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Inputs as Float32, shape (rows, columns), column by column in memory; null and infinite become NaN."""
    values = mapped_array(len(rows), len(columns), order="F")
    for position, name in enumerate(columns):
        column = values[:, position]
        column[:] = rows[name].cast(pl.Float32).to_numpy()
        column[np.isinf(column)] = np.nan
    return values


def target(rows: pl.DataFrame, transform: TargetTransform) -> np.ndarray:
    """What is learned from labelled rows, Float64, shape (rows,).

    `none`: the label. `scaled`: the label over the spread of all rows, cut off at 4.
    `zscore`: (label - mean) / standard deviation over the given rows of the same timestamp, cut off at 4, so
    that calm and wild days weigh the same. A timestamp with fewer than 3 rows, or without spread, is scaled
    by the spread of all rows instead. `rank_gaussian`: the rank within the timestamp as a normal quantile; as
    `zscore` at timestamps with fewer than 10 rows.
    """
    label = rows["label"].cast(pl.Float64).to_numpy()
    bars = rows["timestamp"].rle_id().to_numpy()
    return learned_target(label, bars, float(label.std()) or 1.0, transform)


def sample_weights(rows: pl.DataFrame) -> np.ndarray | None:
    """How much each labelled train row counts, Float64 with mean 1, so that penalties keep their strength;
    None where the frame does not say.

    Raises
    ------
    ExpertError
        If a weight is missing, negative or infinite, or all are 0.
    """
    if WEIGHT not in rows.columns:
        return None
    weight = rows[WEIGHT].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    wrong = int((~((weight >= 0) & np.isfinite(weight))).sum())
    if wrong or not weight.sum():
        found = f"{wrong:,} of {len(weight):,} are missing, negative or infinite" if wrong else "all are 0"
        raise ExpertError(
            f"the column {WEIGHT!r} does not say how much each train row counts: {found}. Give every labelled"
            " train row a weight of 0 or more."
        )
    return weight / weight.mean()


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """The value below which half of the weight lies; the middle of both where it lies on a border."""
    order = np.argsort(values, kind="stable")
    ordered, reached = values[order], np.cumsum(weight[order])
    half = reached[-1] / 2
    lower, upper = (
        np.searchsorted(reached, half * (1 - 1e-12)),
        np.searchsorted(reached, half * (1 + 1e-12), side="right"),
    )
    return float((ordered[lower] + ordered[min(upper, len(ordered) - 1)]) / 2)


def rank_correlation(timestamps: pl.Series, output: np.ndarray, label: np.ndarray) -> float:
    """Mean over timestamps of Spearman's correlation of output and label; 0 where none can be computed.

    Rows sorted by timestamp; or by any other series within whose values it is asked for.
    """
    ranked = pl.DataFrame({"bar": timestamps.rle_id(), "output": output, "label": label}).with_columns(
        pl.col("output", "label").rank().over("bar")
    )
    daily = ranked.group_by("bar", maintain_order=True).agg(pl.corr("output", "label"), pl.len())
    values = daily.filter(pl.col("len") >= FEWEST_SYMBOLS)["output"].to_numpy()
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else 0.0


def loss(monitor: Monitor, timestamps: pl.Series, output: np.ndarray, label: np.ndarray) -> float:
    """The one number that early stopping watches, smaller is better: the RMSE, or the rank correlation with
    its sign turned.
    """
    if monitor == "rank_correlation":
        return -rank_correlation(timestamps, output, label)
    return float(np.sqrt(np.mean((output - label) ** 2)))


class Stopper:
    """Early stopping: remembers the best round and says when `patience` rounds in a row were no better (0:
    never).

    At least `fewest_rounds` are kept, because scores of two or three distinct values order nothing.
    """

    def __init__(self, patience: int, fewest_rounds: int):
        self.patience = patience
        self.fewest_rounds = fewest_rounds
        self.best_loss = float("inf")
        self.best_round = 0
        self.rounds = 0

    def update(self, loss_value: float) -> bool:
        """Take the loss after one more round; True when training should end."""
        self.rounds += 1
        if loss_value < self.best_loss:
            self.best_loss, self.best_round = loss_value, self.rounds
        return (
            bool(self.patience)
            and self.rounds >= self.fewest_rounds
            and self.rounds - self.best_round >= self.patience
        )

    def report(self, advance: Advance, most_rounds: int, monitor: str) -> None:
        """Tell how far boosting has come, every tenth tree."""
        if self.rounds % REPORTED_ROUNDS == 0:
            advance(self.rounds / most_rounds, f"tree {self.rounds}, {monitor} {self.best_loss:.4f}")

    @property
    def kept_rounds(self) -> int:
        """How many rounds the model keeps."""
        return min(max(self.best_round, self.fewest_rounds), self.rounds) if self.patience else self.rounds
