"""Our offline store under Feast's real interface: the same rows as Feast's own DuckDB store, and the edges of
the interface.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from components.contracts import AlphaloopError

START = datetime(2024, 1, 1, tzinfo=UTC)
OURS, FEASTS = "feature_repo.offline_store.PolarsOfflineStore", "duckdb"
TTL = timedelta(hours=24)


def random_features(seed: int, columns: list[str]) -> pl.DataFrame:
    """Rows with late arrivals and revisions; every (symbol, timestamp, known_time) once, so the answer is
    unique.
    """
    rng = np.random.default_rng(seed)
    rows = 400
    hours, late = rng.integers(0, 96, rows), rng.choice([0, 0, 0, 1, 5, 40], rows)
    frame = pl.DataFrame(
        {"symbol": rng.choice(["A", "B", "C", "D"], rows), "hour": hours, "late": late}
    ).unique(["symbol", "hour", "late"], maintain_order=True)
    moment = pl.lit(START).dt.cast_time_unit("us") + pl.duration(hours=pl.col("hour"))
    values = {column: pl.Series(column, rng.normal(size=len(frame)), dtype=pl.Float32) for column in columns}
    frame = frame.select(
        "symbol", moment.alias("timestamp"), (moment + pl.duration(hours=pl.col("late"))).alias("known_time")
    ).with_columns(**values)
    return frame.with_columns(
        pl.when(pl.col(columns[0]) > 1).then(None).otherwise(pl.col(columns[0])).alias(columns[0])
    )


def random_entities(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed + 1000)
    moments = [
        pd.Timestamp(START) + pd.Timedelta(minutes=int(minutes)) for minutes in rng.integers(-300, 8000, 120)
    ]
    frame = pd.DataFrame(
        {
            "symbol": rng.choice(["A", "B", "C", "D", "unseen"], 120),
            "event_timestamp": moments,
            "row": np.arange(120),
        }
    )
    return pd.concat([frame, frame.head(7).assign(row=np.arange(120, 127))], ignore_index=True)


def view(name: str, path, columns: list[str], **source):
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32, String

    entity = Entity(name="symbol", value_type=ValueType.STRING)
    schema = [Field(name="symbol", dtype=String), *(Field(name=column, dtype=Float32) for column in columns)]
    file_source = FileSource(
        name=f"{name}_source",
        path=str(path),
        timestamp_field="timestamp",
        created_timestamp_column="known_time",
        **source,
    )
    return entity, FeatureView(name=name, entities=[entity], ttl=TTL, schema=schema, source=file_source)


def store_over(folder, offline: str, objects):
    from feast import FeatureStore, RepoConfig

    folder.mkdir(exist_ok=True)
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": offline},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
        repo_path=str(folder),
    )
    store = FeatureStore(config=config)
    store.apply(list(objects))
    return store


LATER = pd.DataFrame({"symbol": ["A"], "event_timestamp": [pd.Timestamp(START + timedelta(hours=9))]})


def one_row(x: float) -> pl.DataFrame:
    frame = pl.DataFrame({"symbol": ["A"], "timestamp": [START], "known_time": [START], "x": [x]})
    return frame.with_columns(
        pl.col("x").cast(pl.Float32), pl.col("timestamp", "known_time").dt.cast_time_unit("us")
    )


@pytest.fixture(scope="module", params=[0, 1, 2])
def stores(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    random_features(request.param, ["a1", "a2"]).write_parquet(folder / "a.parquet")
    random_features(request.param + 50, ["b1"]).write_parquet(folder / "b.parquet")
    objects = [
        item
        for pair in (view("a", folder / "a.parquet", ["a1", "a2"]), view("b", folder / "b.parquet", ["b1"]))
        for item in pair
    ][1:]
    return (
        store_over(folder / "ours", OURS, objects),
        store_over(folder / "feasts", FEASTS, objects),
        random_entities(request.param),
    )


@pytest.mark.parametrize("full_feature_names", [False, True])
def test_same_rows_as_feasts_own_store(stores, full_feature_names):
    ours, feasts, entities = stores
    features = ["a:a1", "a:a2", "b:b1"]
    mine = pl.from_arrow(
        ours.get_historical_features(entities, features, full_feature_names=full_feature_names).to_arrow()
    )
    job = feasts.get_historical_features(
        entities, features, full_feature_names=full_feature_names, filter_by_created_timestamp=True
    )
    theirs = pl.from_arrow(job.to_arrow()).sort("row")
    assert mine.columns == theirs.columns
    assert mine["row"].to_list() == entities["row"].to_list()
    assert mine.drop("event_timestamp").equals(theirs.drop("event_timestamp"))
    assert 0 < mine[mine.columns[-1]].null_count() < len(mine)


def test_late_rows_would_leak_without_the_filter(stores):
    ours, feasts, entities = stores
    mine = pl.from_arrow(ours.get_historical_features(entities, ["b:b1"]).to_arrow())
    leaking = pl.from_arrow(feasts.get_historical_features(entities, ["b:b1"]).to_arrow()).sort("row")
    assert not mine["b1"].equals(leaking["b1"])


def test_pandas_arrow_and_polars_entities_give_the_same(stores):
    ours, _, entities = stores
    from_pandas = ours.get_historical_features(entities, ["a:a1"]).to_df()["a1"]
    for form in (pa.Table.from_pandas(entities), pl.from_pandas(entities)):
        assert from_pandas.equals(ours.get_historical_features(form, ["a:a1"]).to_df()["a1"])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]], ids=["in time", "backwards"])
def test_latest_rows_as_of_an_end_leave_out_what_was_known_later(order, tmp_path):
    from feature_repo.offline_store import PolarsOfflineStore

    moments = [START, START + timedelta(hours=1), START + timedelta(hours=1), START + timedelta(hours=2)]
    known = [START, START + timedelta(hours=1), START + timedelta(hours=2), START + timedelta(hours=9)]
    frame = pl.DataFrame(
        {"symbol": ["A"] * 4, "timestamp": moments, "known_time": known, "x": [1.0, 2.0, 3.0, 4.0]}
    )
    frame[order].with_columns(
        pl.col("x").cast(pl.Float32), pl.col("timestamp", "known_time").dt.cast_time_unit("us")
    ).write_parquet(tmp_path / "x.parquet")
    store = store_over(tmp_path / "store", OURS, view("x", tmp_path / "x.parquet", ["x"]))
    answers = []
    for hours in (0, 1, 2, 9):
        source = store.get_feature_view("x").batch_source
        end = START + timedelta(hours=hours)
        job = PolarsOfflineStore.pull_latest_from_table_or_query(
            store.config, source, ["symbol"], ["x"], "timestamp", "known_time", START, end
        )
        answers.append(job.to_arrow()["x"].to_pylist())
        store.materialize(START, end)
        assert store.get_online_features(["x:x"], [{"symbol": "A"}]).to_dict()["x"] == answers[-1]
    assert answers == [[1.0], [2.0], [3.0], [4.0]]
    everything = PolarsOfflineStore.pull_all_from_table_or_query(
        store.config, source, ["symbol"], ["x"], "timestamp", None, START, START + timedelta(hours=1)
    )
    assert sorted(everything.to_arrow()["x"].to_pylist()) == [1.0, 2.0, 3.0]


def test_field_mapping_is_applied(tmp_path):
    one_row(2.0).rename({"x": "raw"}).write_parquet(tmp_path / "x.parquet")
    store = store_over(
        tmp_path / "store", OURS, view("x", tmp_path / "x.parquet", ["x"], field_mapping={"raw": "x"})
    )
    assert store.get_historical_features(LATER, ["x:x"]).to_df()["x"].tolist() == [2.0]


def test_rows_can_be_appended(tmp_path):
    one_row(2.0).write_parquet(tmp_path / "x.parquet")
    store = store_over(tmp_path / "store", OURS, view("x", tmp_path / "x.parquet", ["x"]))
    store.write_to_offline_store(
        "x", one_row(7.0).with_columns(pl.col("timestamp", "known_time") + timedelta(hours=3)).to_pandas()
    )
    assert store.get_historical_features(LATER, ["x:x"]).to_df()["x"].tolist() == [7.0]
    assert pl.read_parquet(tmp_path / "x.parquet").schema == one_row(2.0).schema


def test_a_training_set_can_be_kept_as_a_file(tmp_path):
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    one_row(2.0).write_parquet(tmp_path / "x.parquet")
    store = store_over(tmp_path / "store", OURS, view("x", tmp_path / "x.parquet", ["x"]))
    job = store.get_historical_features(LATER, ["x:x"])
    store.create_saved_dataset(job, "kept", SavedDatasetFileStorage(str(tmp_path / "kept.parquet")))
    assert store.get_saved_dataset("kept").to_df()["x"].tolist() == [2.0]


def test_colliding_names_and_missing_keys_are_refused(stores):
    ours, _, entities = stores
    with pytest.raises(AlphaloopError, match="'a1' of view 'a' is already in the entity frame"):
        ours.get_historical_features(entities.assign(a1=0.0), ["a:a1"]).to_arrow()
    with pytest.raises(AlphaloopError, match="no column 'symbol'"):
        ours.get_historical_features(entities.drop(columns="symbol"), ["a:a1"]).to_arrow()
    with pytest.raises(AlphaloopError, match="SQL text"):
        ours.get_historical_features("select 1", ["a:a1"])
    with pytest.raises(AlphaloopError, match="needs a column 'event_timestamp'"):
        ours.get_historical_features(entities.drop(columns="event_timestamp"), ["a:a1"])
