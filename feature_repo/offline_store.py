"""Feast offline store over Parquet whose point-in-time join runs in Polars and respects when a row became
known.

Feast's own stores return the same rows when asked to filter by created timestamp, but take tens of times
longer on a panel.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_view import FeatureView
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import get_pyarrow_schema_from_batch_source
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import _get_requested_feature_views_to_features_dict, _get_requested_on_demand_feature_views

from components.contracts import AlphaloopError, atomic_path
from feature_repo.point_in_time import as_moment, match_rows

_ENTITY_TIME = "event_timestamp"


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """Named in feature_store.yaml as `type: feature_repo.offline_store.PolarsOfflineStore`; it has no
    options.
    """

    type: Literal["feature_repo.offline_store.PolarsOfflineStore"] = (
        "feature_repo.offline_store.PolarsOfflineStore"
    )


class PolarsRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for; rows keep the order of the entity frame."""

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        *,
        repo_path: Path | None,
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
    ):
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._metadata = metadata
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # Feast's materialisation reads only the first record batch of a table, so there must be no second
        # one.
        return self._evaluate().rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()

    def _to_df_internal(self, timeout: int | None = None):
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool | None = False, timeout: int | None = None
    ) -> None:
        if not isinstance(storage, SavedDatasetFileStorage):
            raise AlphaloopError(
                f"A training set can be kept in a file only, not in a {type(storage).__name__}. Pass a"
                " SavedDatasetFileStorage."
            )
        path = Path(_location(storage.file_options.uri, self._repo_path))
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        table = self.to_arrow()
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)


class PolarsOfflineStore(OfflineStore):
    """Parquet sources joined in Polars.

    Feature rows known after the entity's moment are never returned, asked or not.
    """

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = True,
        **unsupported: Any,
    ) -> RetrievalJob:
        """Feature values as known at each entity row; rows and their order are those of `entity_df`.

        `entity_df` is a pandas or Polars frame or an Arrow table with the join keys and `event_timestamp` (or
        one only datetime column). A view whose source names a created_timestamp_column is always filtered by
        it.
        """
        entities = _entity_frame(entity_df)
        entity_time = _entity_time(entities)
        on_demand = _get_requested_on_demand_feature_views(feature_refs, project, registry)
        wanted, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        moments = _moments(entities, entity_time)
        return PolarsRetrievalJob(
            lambda: _join_views(entities, entity_time, wanted, config, full_feature_names),
            repo_path=config.repo_path,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in entities.columns if column != entity_time],
                min_event_timestamp=moments.min(),
                max_event_timestamp=moments.max(),
            ),
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity with start_date <= timestamp <= end_date, leaving out rows known
        after `end_date`.
        """
        columns = _unique(
            [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        )

        def evaluate() -> pl.DataFrame:
            source = _scan(data_source, config)
            schema = source.collect_schema()
            order = _unique([timestamp_field, created_timestamp_column])
            within = _within(schema, timestamp_field, created_timestamp_column, start_date, end_date)
            known = source.select(_unique([*join_key_columns, *order])).with_row_index("__row").filter(within)
            # Few rows have their entity's newest time: those alone are put in order.
            last = pl.col(timestamp_field).max()
            last = last.over(join_key_columns) if join_key_columns else last
            newest = known.filter(pl.col(timestamp_field) == last).sort(*order, "__row").collect()
            newest = newest.unique(join_key_columns, keep="last") if join_key_columns else newest.tail(1)
            # A panel's newest rows stand at the end of its file: what lies before them is not read.
            rows = newest["__row"].sort()
            first = rows[0] if len(rows) else 0
            return source.select(columns).slice(first).collect()[rows - first]

        return PolarsRetrievalJob(evaluate, repo_path=config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows with start_date <= timestamp <= end_date, in the order of the file."""
        columns = _unique(
            [*join_key_columns, *feature_name_columns, timestamp_field, created_timestamp_column]
        )

        def evaluate() -> pl.DataFrame:
            source = _scan(data_source, config)
            return (
                source.filter(_within(source.collect_schema(), timestamp_field, None, start_date, end_date))
                .select(columns)
                .collect()
            )

        return PolarsRetrievalJob(evaluate, repo_path=config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to the Parquet file of a view, atomically."""
        _, names = get_pyarrow_schema_from_batch_source(config, feature_view.batch_source)
        if table.column_names != names:
            raise AlphaloopError(
                f"Rows for view {feature_view.name!r} have the columns {table.column_names}; its file has"
                f" {names}. Give them in that order."
            )
        path = Path(_location(feature_view.batch_source.path, config.repo_path))
        before = pq.read_table(path)
        joined = pa.concat_tables([before, table.cast(before.schema)])
        with atomic_path(path) as temporary:
            pq.write_table(joined, temporary, compression="zstd")
        if progress:
            progress(table.num_rows)


def _join_views(
    entities: pl.DataFrame,
    entity_time: str,
    wanted: Mapping[FeatureView, list[str]],
    config: RepoConfig,
    full_names: bool,
) -> pl.DataFrame:
    moments = _moments(entities, entity_time)
    joined = [entities]
    taken = set(entities.columns)
    previous_keys, previous_match, rows = None, None, None
    for view, names in wanted.items():
        source = view.batch_source
        features = _scan(source, config)
        key_map = {
            key.name: view.projection.join_key_map.get(key.name, key.name) for key in view.entity_columns
        }
        features = _in_sight(features.rename(dict(key_map)), source.timestamp_field, moments, view.ttl)
        keys = list(key_map.values())
        _require(keys, entities, view)
        times = _unique([source.timestamp_field, source.created_timestamp_column])
        key_frame = features.select(_unique([*keys, *times])).collect()
        match = {
            "keys": keys,
            "timestamp": source.timestamp_field,
            "known_time": source.created_timestamp_column,
            "ttl": view.ttl,
        }
        # Views of one factors table share their key columns: what was matched once holds for all of them.
        if match != previous_match or not key_frame.equals(previous_keys):
            rows = match_rows(entities, key_frame, entity_time=entity_time, **match)
            previous_keys, previous_match = key_frame, match
        prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
        values = _take(features.select(pl.col(name).alias(prefix + name) for name in names).collect(), rows)
        repeated = taken.intersection(values.columns)
        if repeated:
            raise AlphaloopError(
                f"Column {min(repeated)!r} of view {view.name!r} is already in the entity frame or in another"
                " view. Rename it, or ask for full_feature_names=True."
            )
        taken.update(values.columns)
        joined.append(values)
    return pl.concat(joined, how="horizontal")


def _moments(entities: pl.DataFrame, entity_time: str) -> pl.Series:
    return entities.select(as_moment(entity_time, entities.schema[entity_time]).alias("moment")).to_series()


def _in_sight(
    features: pl.LazyFrame, timestamp: str, moments: pl.Series, ttl: timedelta | None
) -> pl.LazyFrame:
    """The feature rows of which some entity may see one, by their time: of a file in the order of time no
    others are read.
    """
    dtype = features.collect_schema()[timestamp]
    if not isinstance(dtype, pl.Datetime) or moments.min() is None:
        return features

    def at(moment: datetime) -> pl.Expr:
        known = pl.lit(moment, pl.Datetime("us", "UTC"))
        return (known if dtype.time_zone else known.dt.replace_time_zone(None)).cast(dtype)

    # Moments are told in nanoseconds, these bounds in microseconds.
    oldest, newest = moments.min() - ttl if ttl else None, moments.max() + timedelta(microseconds=1)
    seen = pl.col(timestamp) <= at(newest)
    return features.filter(seen if oldest is None else seen & (pl.col(timestamp) >= at(oldest)))


def _take(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """The rows of `frame` by number, nulls for a null number; without copying where they follow on each
    other.
    """
    first = rows.first()
    if first is not None and not rows.null_count():
        following = pl.int_range(first, first + len(rows), dtype=rows.dtype, eager=True)
        if (rows == following).all():
            return frame.slice(first, len(rows))
    return frame.select(pl.all().gather(rows))


def _require(keys: list[str], entities: pl.DataFrame, view: FeatureView) -> None:
    missing = [key for key in keys if key not in entities.columns]
    if missing:
        raise AlphaloopError(
            f"View {view.name!r} is joined by {', '.join(keys)}, but the entity frame has no column"
            f" {missing[0]!r} (found: {', '.join(entities.columns)}). Add it."
        )


def _entity_frame(entity_df: Any) -> pl.DataFrame:
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pa.Table):
        return pl.from_arrow(entity_df)
    if entity_df is None or isinstance(entity_df, str):
        raise AlphaloopError(
            "This offline store needs the entity rows as a pandas or Polars frame or an Arrow table; SQL text"
            " and retrieval without entities are not supported."
        )
    return pl.from_pandas(entity_df)


def _entity_time(entities: pl.DataFrame) -> str:
    if _ENTITY_TIME in entities.columns:
        return _ENTITY_TIME
    moments = [name for name, dtype in entities.schema.items() if isinstance(dtype, pl.Datetime)]
    if len(moments) != 1:
        raise AlphaloopError(
            f"The entity frame needs a column {_ENTITY_TIME!r} or exactly one datetime column; it has"
            f" {moments or 'none'}. Name the moment of each row {_ENTITY_TIME!r}."
        )
    return moments[0]


def _scan(source: DataSource, config: RepoConfig) -> pl.LazyFrame:
    """The source's Parquet file, folder or glob, with Feast's field mapping applied."""
    if not isinstance(source, FileSource):
        raise AlphaloopError(
            f"Source {source.name!r} is a {type(source).__name__}; this offline store reads Parquet files"
            " only. Use a FileSource."
        )
    options = {"aws_endpoint_url": source.s3_endpoint_override} if source.s3_endpoint_override else None
    frame = pl.scan_parquet(_location(source.path, config.repo_path), storage_options=options)
    return frame.rename(dict(source.field_mapping)) if source.field_mapping else frame


def _location(uri: str, repo_path: Path | str | None) -> str:
    return str(FileSource.get_uri_for_file_path(repo_path=repo_path, uri=uri))


def _within(
    schema: pl.Schema, timestamp: str, known_time: str | None, start: datetime | None, end: datetime | None
) -> pl.Expr:
    condition = pl.lit(True)
    if start:
        condition = condition & (as_moment(timestamp, schema[timestamp]) >= _moment(start))
    if end:
        condition = condition & (as_moment(timestamp, schema[timestamp]) <= _moment(end))
        if known_time:
            condition = condition & (as_moment(known_time, schema[known_time]) <= _moment(end))
    return condition


def _moment(value: datetime) -> pl.Expr:
    literal = pl.lit(value)
    return literal.dt.convert_time_zone("UTC") if value.tzinfo else literal.dt.replace_time_zone("UTC")


def _unique(names: list[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))
