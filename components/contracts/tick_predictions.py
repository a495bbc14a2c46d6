"""Predictions about samples of order books: in which of two tables they stand, and what came of them."""

import os

import polars as pl

from components.contracts.documents.tick_replay import TickReplay
from components.contracts.schemas import ALL_PREDICTIONS, LABELS, PREDICTIONS, Table
from components.contracts.tables import read_stamp, read_table
from components.contracts.tasks import of_task

WHAT_CAME = ("trade_class", "label_end", "log_return")


def predictions_table(path: str | os.PathLike) -> Table:
    """PREDICTIONS of one expert, or ALL_PREDICTIONS, whichever the file holds."""
    return PREDICTIONS if read_stamp(path).table == PREDICTIONS.name else ALL_PREDICTIONS


def with_what_came(
    predictions: str | os.PathLike, labels: str | os.PathLike, found: TickReplay
) -> pl.DataFrame:
    """The predictions of the task that was replayed, each with WHAT_CAME of the LABELS; those of no label are
    left out.

    Raises
    ------
    ContractError
        If nothing is predicted of the task, or a file is not what its stamp says.
    """
    table = read_table(predictions, predictions_table(predictions))
    rows = of_task(table, found.target, found.horizon, source=str(predictions))
    of_horizon = read_table(labels, LABELS).filter(pl.col("horizon") == found.horizon)
    keys = ["timestamp", "symbol"]
    return rows.join(of_horizon.select(*keys, *WHAT_CAME), on=keys)
