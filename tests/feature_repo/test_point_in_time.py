"""The point-in-time join against numbers worked out by hand and against a brute-force loop."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.point_in_time import match_rows

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def hour(number: float | None) -> datetime | None:
    return None if number is None else NOON + timedelta(hours=number)


def feature_frame(rows: list[tuple[str, float, float]]) -> pl.DataFrame:
    data = [(symbol, hour(timestamp), hour(known)) for symbol, timestamp, known in rows]
    return pl.DataFrame(
        data, schema={"symbol": pl.String, "timestamp": TIME, "known_time": TIME}, orient="row"
    )


def entity_frame(rows: list[tuple[str, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(symbol, hour(moment)) for symbol, moment in rows],
        schema={"symbol": pl.String, "event_timestamp": TIME},
        orient="row",
    )


def match(
    entities: pl.DataFrame,
    features: pl.DataFrame,
    ttl_hours: float | None = None,
    known_time: str | None = "known_time",
) -> list[int | None]:
    ttl = timedelta(hours=ttl_hours) if ttl_hours else None
    return match_rows(
        entities,
        features,
        keys=["symbol"],
        entity_time="event_timestamp",
        timestamp="timestamp",
        known_time=known_time,
        ttl=ttl,
    ).to_list()


def brute_force(entities: pl.DataFrame, features: pl.DataFrame, ttl_hours: float | None) -> list[int | None]:
    answers = []
    for symbol, moment in entities.rows():
        best = None
        for number, (name, timestamp, known) in enumerate(features.rows()):
            visible = name == symbol and timestamp <= moment and known is not None and known <= moment
            alive = ttl_hours is None or timestamp >= moment - timedelta(hours=ttl_hours)
            if visible and alive and (best is None or (timestamp, known, number) > best):
                best = (timestamp, known, number)
        answers.append(None if best is None else best[2])
    return answers


def test_newest_row_at_or_before_the_moment():
    features = feature_frame([("A", 0, 0), ("A", 2, 2), ("B", 1, 1)])
    assert match(entity_frame([("A", -1), ("A", 0), ("A", 1.9), ("A", 2), ("B", 5), ("C", 5)]), features) == [
        None,
        0,
        0,
        1,
        2,
        None,
    ]


def test_a_row_known_later_is_not_seen_before():
    features = feature_frame([("A", 0, 0), ("A", 2, 4)])
    assert match(entity_frame([("A", 3), ("A", 4)]), features) == [0, 1]
    assert match(entity_frame([("A", 3), ("A", 4)]), features, known_time=None) == [1, 1]


def test_a_late_row_does_not_replace_a_newer_one():
    features = feature_frame([("A", 0, 9), ("A", 2, 2)])
    assert match(entity_frame([("A", 1), ("A", 3), ("A", 10)]), features) == [None, 1, 1]


def test_a_revision_counts_from_when_it_was_known_and_the_last_of_equals_wins():
    features = feature_frame([("A", 0, 0), ("A", 0, 3), ("B", 0, 0), ("B", 0, 0)])
    assert match(entity_frame([("A", 2), ("A", 3), ("B", 0)]), features) == [0, 1, 3]


def test_ttl_includes_its_last_moment():
    features = feature_frame([("A", 0, 0)])
    assert match(entity_frame([("A", 2), ("A", 2.001)]), features, ttl_hours=2) == [0, None]


def test_rows_keep_the_order_of_the_entities_and_duplicates_stay():
    features = feature_frame([("A", 0, 0), ("B", 0, 0)])
    assert match(entity_frame([("B", 3), ("A", 1), ("B", 3), ("A", 1)]), features) == [1, 0, 1, 0]


def test_a_row_never_known_is_never_seen():
    features = feature_frame([("A", 0, 0), ("A", 1, None)])
    assert match(entity_frame([("A", 2)]), features) == [0]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_time_units_and_zones_do_not_matter(unit, zone):
    features = feature_frame([("A", 0, 0), ("A", 2, 4)])
    moments = pl.col("event_timestamp").dt.cast_time_unit(unit)
    moments = moments.dt.convert_time_zone(zone) if zone else moments.dt.replace_time_zone(None)
    assert match(entity_frame([("A", 3), ("A", 4)]).with_columns(moments), features) == [0, 1]


def test_empty_tables_match_nothing():
    assert match(entity_frame([]), feature_frame([("A", 0, 0)])) == []
    assert match(entity_frame([("A", 0)]), feature_frame([])) == [None]


moments = st.integers(0, 12)
feature_rows = st.lists(st.tuples(st.sampled_from("ABC"), moments, moments), max_size=25)
entity_rows = st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(-1, 14)), max_size=15)


@settings(max_examples=150, deadline=None)
@given(feature_rows, entity_rows, st.sampled_from([None, 1, 4]))
def test_equals_the_brute_force_loop(features, entities, ttl_hours):
    feature_table, entity_table = feature_frame(features), entity_frame(entities)
    assert match(entity_table, feature_table, ttl_hours) == brute_force(
        entity_table, feature_table, ttl_hours
    )


@settings(max_examples=50, deadline=None)
@given(feature_rows, entity_rows, st.integers(0, 12))
def test_rows_known_after_a_moment_change_nothing_at_it(features, entities, cut):
    past = [row for row in features if max(row[1], row[2]) <= cut]
    later = [row for row in features if max(row[1], row[2]) > cut]
    asked = entity_frame([row for row in entities if row[1] <= cut])
    assert match(asked, feature_frame(past + later)) == match(asked, feature_frame(past))
