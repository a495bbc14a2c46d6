"""What Feast knows about the factors: entity, sources, views and services, made from the description of a
publication.

The pipeline calls `define`; the feast command line finds the same objects through `published.py`.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bytes, Float32, Int64, String

from components.contracts import require_json

SEQUENCE = "sequence"
TIMESTAMP, KNOWN_TIME = "timestamp", "known_time"

symbol = Entity(name="symbol", value_type=ValueType.STRING, description="one traded instrument")


def define(publication: Mapping[str, Any], place: str) -> list[Entity | FeatureView | FeatureService]:
    """Feast objects of a publication in the store at `place`, an absolute folder, an address, or "." for the
    folder of the feature_store.yaml that is used: the entity, a view for each factor group, the view
    `sequence`, and two services.

    `alpha_v<schema>` serves the model's inputs and context columns, `raw_v<schema>` the raw factors for
    people. Both carry the order of their columns in the tag `columns`, because Feast returns them view by
    view. The view `sequence` holds three values that are read in one round trip: `window` (bytes,
    little-endian float32, lookback_bars x inputs, oldest bar first, NaN where there is none), `row` (bytes of
    the newest bar: its times, the schema, inputs and context in catalog order, past returns;
    `components.feature_store.publication.row_type`), and `known_at_us`, when that bar became known
    (microseconds since 1970, UTC).
    """
    views = {
        name: _group_view(name, columns, publication, place) for name, columns in publication["views"].items()
    }
    sequence = _sequence_view(publication, place)
    alpha = [*publication["columns"], *publication["context"]]
    services = [
        _service(publication["service"], alpha, views, publication),
        _service(publication["raw_service"], publication["raw_columns"], views, publication),
    ]
    return [symbol, *views.values(), sequence, *(service for service in services if service is not None)]


def published(folder: Path, place: str) -> dict[str, Entity | FeatureView | FeatureService]:
    """Objects of what is published in a store's `folder`, by names of no meaning: Feast looks for them among
    the names of a module. `place` as in `define`.
    """
    objects = define(require_json(folder / "current.json"), place)
    return {f"published_{number}": item for number, item in enumerate(objects)}


def _group_view(name: str, columns: list[str], publication: Mapping[str, Any], place: str) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[symbol],
        ttl=timedelta(days=publication["ttl_days"]),
        schema=[
            Field(name="symbol", dtype=String),
            *(Field(name=column, dtype=Float32) for column in columns),
        ],
        source=_source(name, publication, place),
        tags={"factors_sha256": publication["factors_sha256"], "period": publication["period"]},
    )


def _sequence_view(publication: Mapping[str, Any], place: str) -> FeatureView:
    return FeatureView(
        name=SEQUENCE,
        entities=[symbol],
        ttl=timedelta(days=publication["ttl_days"]),
        schema=[
            Field(name="symbol", dtype=String),
            Field(name="window", dtype=Bytes),
            Field(name="row", dtype=Bytes),
            Field(name="known_at_us", dtype=Int64),
        ],
        source=_source(SEQUENCE, publication, place),
        tags={
            "schema": publication["schema"],
            "lookback_bars": str(publication["lookback_bars"]),
            "columns": json.dumps(publication["columns"]),
        },
    )


def _source(name: str, publication: Mapping[str, Any], place: str) -> FileSource:
    return FileSource(
        name=f"{name}_source",
        path=f"{place}/data/{publication['publication']}/{name}.parquet",
        timestamp_field=TIMESTAMP,
        created_timestamp_column=KNOWN_TIME,
    )


def _service(
    name: str, columns: list[str], views: Mapping[str, FeatureView], publication: Mapping[str, Any]
) -> FeatureService | None:
    wanted = set(columns)
    parts = {view: [column for column in publication["views"][view] if column in wanted] for view in views}
    if not wanted:
        return None
    return FeatureService(
        name=name,
        features=[views[view][names] for view, names in parts.items() if names],
        tags={
            "schema": publication["schema"],
            "columns": json.dumps(columns),
            "factors_sha256": publication["factors_sha256"],
        },
    )
