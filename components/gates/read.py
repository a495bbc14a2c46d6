"""Reads what the gates judge: the evaluation, the candidate's predictions, and the champion with its own."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    PREDICTIONS,
    ContractError,
    check_table,
    content_sha256,
    map_table,
    of_task,
)
from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.evaluation import Evaluation


@dataclass(frozen=True)
class ChampionPredictions:
    """The model in place by what it said out of sample (PREDICTIONS table).

    `known_until` is the newest moment that it has learned from; `not_scored` says why it has no predictions
    after it.
    """

    version: str
    predictions: pl.DataFrame
    known_until: datetime | None = None
    not_scored: str | None = None


def read_evaluation(path: Path, returns: Path) -> Evaluation:
    """The backtest stage's evaluation, after a check that it was made together with the `returns` beside it.

    Raises
    ------
    ContractError
        If one of the two can't be read or they come from different runs.
    """
    evaluation = Evaluation.read(path)
    try:
        found = content_sha256(pl.read_parquet(returns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ContractError(f"{returns} can't be read ({error}). Run the backtest stage again.") from error
    stamped = evaluation.stamp.returns_sha256
    if stamped != found:
        raise ContractError(
            f"{path} (returns {stamped[:12]}) was not made together with {returns} ({found[:12]}). Run the"
            " backtest stage again."
        )
    return evaluation


def read_candidate(path: Path, *, expert: str, target: str, horizon: int) -> pl.DataFrame:
    """One expert's rows of a stamped ALL_PREDICTIONS file, as a PREDICTIONS table.

    Raises
    ------
    ContractError
        If the file can't be read or has no rows of that expert, target and horizon.
    """
    rows = of_task(map_table(path, ALL_PREDICTIONS), target, horizon, source=str(path)).filter(
        pl.col("expert") == expert
    )
    if rows.is_empty():
        raise ContractError(
            f"{path} holds no predictions of {expert!r} for {target} over {horizon} bars. Run the stacking"
            " stage again, or set gates.candidate."
        )
    return check_table(rows, PREDICTIONS, source=str(path))


def read_champion_predictions(folder: Path) -> ChampionPredictions | None:
    """The champion from a folder with `champion.json` and `predictions.parquet`; None where the registry has
    none.

    Raises
    ------
    ContractError
        If champion.json is missing or lacks a key, or the predictions are not a PREDICTIONS table.
    """
    record = ChampionRecord.find(folder / "champion.json")
    if record is None:
        return None
    return ChampionPredictions(
        version=str(record.version),
        predictions=_read_predictions(folder / "predictions.parquet"),
        known_until=record.known_until,
        not_scored=None if record.newest is None else record.newest.not_scored,
    )


def _read_predictions(file: Path) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ContractError(
            f"{file} can't be read as Parquet ({error}). Register the champion again, or take its alias away."
        ) from error
    return check_table(rows, PREDICTIONS, source=str(file))
