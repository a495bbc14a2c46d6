"""Measures the point-in-time join under Feast: our offline store beside Feast's DuckDB store on the same
table, in the same run.

python tests/benchmarks/bench_point_in_time_join.py --rows 200000 --columns 60
python tests/benchmarks/bench_point_in_time_join.py --rows 1300000 --columns 70 --ours-only
"""

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

SYMBOLS, GROUPS = 503, 8
START = datetime(2015, 1, 1, tzinfo=UTC)


def make_table(rows: int, columns: int) -> pl.DataFrame:
    """A panel of daily bars; one row in a hundred was known ten days late."""
    rng = np.random.default_rng(0)
    days = pl.DataFrame({"day": range(-(-rows // SYMBOLS))})
    frame = days.join(
        pl.DataFrame({"symbol": [f"S{number:03d}" for number in range(SYMBOLS)]}), how="cross"
    ).head(rows)
    moment = pl.lit(START).dt.cast_time_unit("us") + pl.duration(days=pl.col("day"))
    late = pl.Series("late", (rng.random(rows) < 0.01) * 10)
    frame = frame.select(
        moment.alias("timestamp"), "symbol", (moment + pl.duration(days=late)).alias("known_time")
    )
    return frame.with_columns(
        pl.Series(f"c{number}", rng.normal(size=rows).astype(np.float32)) for number in range(columns)
    )


def open_store(folder: Path, offline: str, table: pl.DataFrame):
    """A store of eight views over the table, and the references of all their features."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float32, String

    entity = Entity(name="symbol", value_type=ValueType.STRING)
    names = [column for column in table.columns if column.startswith("c")]
    views = []
    for group in range(GROUPS):
        path = folder / f"group{group}.parquet"
        if not path.exists():
            table.select("timestamp", "symbol", "known_time", *names[group::GROUPS]).write_parquet(
                path, compression="zstd", compression_level=1
            )
        source = FileSource(
            name=f"source{group}",
            path=str(path),
            timestamp_field="timestamp",
            created_timestamp_column="known_time",
        )
        schema = [
            Field(name="symbol", dtype=String),
            *(Field(name=name, dtype=Float32) for name in names[group::GROUPS]),
        ]
        views.append(
            FeatureView(
                name=f"group{group}", entities=[entity], ttl=timedelta(days=10), schema=schema, source=source
            )
        )
    home = folder / offline.rsplit(".", 1)[-1]
    home.mkdir()
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(home / "registry.db"),
        offline_store={"type": offline},
        online_store={"type": "sqlite", "path": str(home / "online.db")},
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
        repo_path=str(home),
    )
    store = FeatureStore(config=config)
    store.apply([entity, *views])
    return store, [f"group{group}:{name}" for group in range(GROUPS) for name in names[group::GROUPS]]


def measure(store, references: list[str], entities, **options) -> tuple[pl.DataFrame, float, float]:
    """The joined rows, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    table = pl.from_arrow(store.get_historical_features(entities, references, **options).to_arrow())
    return table, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=60)
    parser.add_argument(
        "--ours-only",
        action="store_true",
        help="leave Feast's DuckDB store out, for sizes that it takes minutes for",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        table = make_table(arguments.rows, arguments.columns)
        keys = table.select(pl.col("timestamp").alias("event_timestamp"), "symbol")
        store, references = open_store(Path(scratch), "feature_repo.offline_store.PolarsOfflineStore", table)
        start = table["timestamp"].min(), table["known_time"].max()
        del table
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        ours, wall, cpu = measure(store, references, keys.to_arrow(compat_level=pl.CompatLevel.oldest()))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"rows {arguments.rows:,}  columns {arguments.columns}  cores {os.cpu_count()}")
        print(
            f"ours, Arrow entities      {wall:7.2f} s wall  {cpu:7.2f} s CPU  peak {peak:.2f} GiB"
            f" ({before:.2f} before)"
        )
        _, wall_pandas, cpu_pandas = measure(store, references, keys.to_pandas())
        print(f"ours, pandas entities     {wall_pandas:7.2f} s wall  {cpu_pandas:7.2f} s CPU")
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            store.materialize(*start)
        print(f"ours, materialise SQLite  {time.perf_counter() - began:7.2f} s wall  {SYMBOLS} symbols")
        if arguments.ours_only:
            return
        other, references = open_store(
            Path(scratch),
            "duckdb",
            pl.DataFrame(schema=[f"c{number}" for number in range(arguments.columns)]),
        )
        theirs, wall_duckdb, cpu_duckdb = measure(
            other, references, keys.to_pandas(), filter_by_created_timestamp=True
        )
        print(f"Feast's DuckDB store      {wall_duckdb:7.2f} s wall  {cpu_duckdb:7.2f} s CPU")
        print(
            f"ratio                     {wall_duckdb / wall_pandas:7.1f} x wall "
            f" {cpu_duckdb / cpu_pandas:7.1f} x CPU"
        )
        order = ["event_timestamp", "symbol"]
        same = ours.drop("event_timestamp").equals(theirs.sort(order).drop("event_timestamp"))
        print(f"same rows                 {same}")


if __name__ == "__main__":
    main()
