"""What a combiner sees of a row, all of it known at that row: each expert's score standardised over the
symbols of the bar, its relative uncertainty, and the regime.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts import REGIMES, SECTOR_COLUMN
from components.contracts.classes import CLASS_COLUMNS
from components.scoring.moments import FEWEST_SYMBOLS
from components.scoring.stacker import SMALLEST_SPREAD, standardise

# Labels that say nothing of how sectors do: whatever scores say of that is noise.
BY_SECTOR = ("sector_neutral_return",)


def combiner_inputs(oof: pl.DataFrame, experts: list[str], guests: Sequence[str] = ()) -> pl.DataFrame:
    """The combiner's inputs at each row: standardised scores, relative uncertainties, regime; the
    uncertainties and the probabilities of classes as they are; and the standardised label. Of `guests`, which
    learned another task, the scores as they are too. Where labels are returns less those of the sector, the
    scores are taken less the mean of their sector first.
    """
    scored = _less_sectors(oof, [f"score_{name}" for name in experts]) if by_sector(oof) else oof
    return oof.select(
        "timestamp",
        "symbol",
        "label",
        "label_end",
        "horizon",
        *(_standard(scored, f"score_{name}").alias(f"z_{name}") for name in experts),
        *(_standard(oof, f"uncertainty_{name}").alias(f"u_{name}") for name in experts),
        *((pl.col("regime") == regime).cast(pl.Float64).alias(f"regime_{regime}") for regime in REGIMES),
        _standard(oof, "label").alias("label_z"),
        *(f"uncertainty_{name}" for name in experts),
        *(f"score_{name}" for name in guests),
        *(f"{column}_{name}" for name in experts for column in CLASS_COLUMNS if f"{column}_{name}" in oof),
    )


def by_sector(oof: pl.DataFrame) -> bool:
    """Whether scores are compared within sectors."""
    known = SECTOR_COLUMN in oof.columns and oof[SECTOR_COLUMN].is_not_null().any()
    return known and oof["target"].is_in(BY_SECTOR).all()


def design(rows: pl.DataFrame, experts: list[str]) -> np.ndarray:
    """Scores, then scores within each regime; shape (rows, experts * (1 + regimes))."""
    scores = standardised_scores(rows, experts)
    states = rows.select(f"regime_{regime}" for regime in REGIMES).to_numpy()
    return np.concatenate([scores, *(scores * states[:, [k]] for k in range(len(REGIMES)))], axis=1)


def standardised_scores(rows: pl.DataFrame, experts: list[str]) -> np.ndarray:
    """Shape (rows, experts)."""
    return rows.select(f"z_{name}" for name in experts).to_numpy()


def uncertainties(rows: pl.DataFrame, experts: list[str]) -> np.ndarray:
    """Shape (experts, rows)."""
    return rows.select(f"uncertainty_{name}" for name in experts).to_numpy().T


def chances(rows: pl.DataFrame, experts: list[str]) -> np.ndarray | None:
    """Probabilities of the classes, shape (experts, rows, 3); None where the target is a number."""
    names = [[f"{column}_{name}" for column in CLASS_COLUMNS] for name in experts]
    if not all(column in rows.columns for each in names for column in each):
        return None
    return np.stack([rows.select(each).to_numpy() for each in names])


def tree_columns(experts: list[str]) -> list[str]:
    """Inputs of trees and networks, in the order in which serving puts them together."""
    return [
        *(f"z_{name}" for name in experts),
        *(f"u_{name}" for name in experts),
        *(f"regime_{regime}" for regime in REGIMES),
    ]


def tree_inputs(rows: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """Float32, as the served graph takes them."""
    return rows.select(pl.col(columns).cast(pl.Float32)).to_numpy()


def informative(experts: list[str], oof: pl.DataFrame) -> list[str]:
    """Experts whose score differs between the symbols of a bar; a constant (the median) can't be weighed."""
    spread = (
        oof.group_by("timestamp")
        .agg(pl.col(f"score_{name}").std() for name in experts)
        .select(pl.col("^score_.*$").max())
        .row(0)
    )
    return [
        name
        for name, value in zip(experts, spread, strict=True)
        if value is not None and value > SMALLEST_SPREAD
    ] or experts


def _standard(oof: pl.DataFrame, column: str) -> pl.Series:
    """A column's deviations from the mean of its bar in the bar's spread; 0 where it is null."""
    value = pl.col(column)
    by_bar = oof.select(
        value=value, mean=value.mean().over("timestamp"), spread=value.std().over("timestamp")
    )
    found = standardise(*(by_bar[name].to_numpy() for name in ("value", "mean", "spread")))
    return pl.Series(np.where(by_bar["value"].is_null().to_numpy(), 0.0, found))


def _less_sectors(oof: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The columns less their mean over the sector in the bar, or over the bar where the sector is unknown or
    has fewer than 3 values, as `components.scoring.moments.peer_means` has it.
    """
    bar, peers = "timestamp", ("timestamp", SECTOR_COLUMN)

    def less(name: str) -> pl.Expr:
        value = pl.col(name)
        enough = pl.col(SECTOR_COLUMN).is_not_null() & (value.count().over(peers) >= FEWEST_SYMBOLS)
        return value - pl.when(enough).then(value.mean().over(peers)).otherwise(value.mean().over(bar))

    return oof.with_columns(less(name) for name in columns)
