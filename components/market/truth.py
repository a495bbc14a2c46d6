"""What only a simulator knows, written beside its panel: the true expected return of each bar."""

import os

import polars as pl

from components.contracts import TIME, atomic_path

TRUTH_SCHEMA = {"timestamp": TIME, "symbol": pl.String(), "expected_return_5": pl.Float64()}


def write_truth(truth: pl.DataFrame | None, path: str | os.PathLike) -> None:
    """Write `timestamp, symbol, expected_return_5` as Parquet, atomically; an empty table where nothing is
    known.
    """
    frame = pl.DataFrame(schema=TRUTH_SCHEMA) if truth is None else truth.select(*TRUTH_SCHEMA)
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary, compression="zstd")
