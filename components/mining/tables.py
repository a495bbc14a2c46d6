"""Reads the tables of one run and refuses those that do not belong together."""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    TRAINING_SET,
    CatalogEntry,
    ContractError,
    map_table,
    read_catalog,
    read_stamp,
    require_one_origin,
)


@dataclass(frozen=True)
class RunTables:
    """TRAINING_SET, LABELS and ALL_PREDICTIONS of one run, and the catalog of the training set's columns."""

    training_set: pl.DataFrame
    labels: pl.DataFrame
    catalog: list[CatalogEntry]
    predictions: pl.DataFrame


def read_run(
    training_set: str | os.PathLike,
    labels: str | os.PathLike,
    catalog: str | os.PathLike,
    predictions: str | os.PathLike,
) -> RunTables:
    """Read the four files.

    Raises
    ------
    ContractError
        If one is missing or broken, or the predictions were made from other labels or another training set.
    """
    require_one_origin([labels, training_set], "panel")
    origins = read_stamp(predictions).inputs
    for name, path in (("labels", labels), ("training_set", training_set)):
        if origins.get(name) != read_stamp(path).content_sha256:
            raise ContractError(
                f"{predictions} was not made from {path}: its stamp names other {name.replace('_', ' ')}. Run"
                " the experts and the stacker again on this data."
            )
    return RunTables(
        map_table(training_set, TRAINING_SET),
        map_table(labels, LABELS),
        read_catalog(catalog),
        map_table(predictions, ALL_PREDICTIONS),
    )
