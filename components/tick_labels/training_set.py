"""The training set of ticks: the features of each sample, as they were known at it. They are made at the
moment itself, so there is nothing to join by time.
"""

import os

import polars as pl

from components.contracts import FACTORS, TRAINING_SET, map_table, read_stamp, write_table
from components.contracts.errors import ContractError
from components.progress import report, stage


def run_make_training_set(features: str | os.PathLike, training_set: str | os.PathLike, *, code: str) -> None:
    """Write the TRAINING_SET of a FACTORS table; the sector of a row is its symbol.

    Raises
    ------
    ContractError
        If features became known only after the moment of their sample.
    """
    with stage("tick training set"):
        frame = map_table(features, FACTORS)
        late = frame.filter(pl.col("known_time") > pl.col("timestamp"))
        if len(late):
            symbol, at, known = late.select("symbol", "timestamp", "known_time").row(0)
            raise ContractError(
                f"{features}: {len(late):,} rows hold what became known after their sample, first {symbol} at"
                f" {at}, known at {known}. A model can't have it then: mend the features."
            )
        rows = frame.drop("known_time").with_columns(pl.col("symbol").alias("sector"))
        stamp = read_stamp(features)
        write_table(
            rows,
            training_set,
            TRAINING_SET,
            code_version=code,
            config_hash=stamp.config_hash,
            inputs={"features": stamp.content_sha256},
        )
        report("tick training set", f"{len(rows):,} rows, {frame['symbol'].n_unique()} symbols")
