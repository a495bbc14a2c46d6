"""When observations end and become known: worked out by hand, over month ends, clock changes and both kinds
of stamp; the plain Python of the oracle agrees.
"""

from datetime import UTC, date, datetime, time, timedelta

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings
from small_tables import small_table

from components.contracts import TIME
from components.fusion.feed import ENDS, KNOWN
from components.fusion.oracle import _at, _last_day
from components.fusion.read import from_frame
from components.fusion.times import day_moment, last_day


def times(stamp, **changes):
    table = small_table(
        **{"known": "", "release_lag_days": 0, "key": "market", "column": {"normalisation": "none"}} | changes
    )
    frame = pl.DataFrame(
        {"observed": [stamp], "value": [1.0]},
        schema={"observed": pl.Date if type(stamp) is date else TIME, "value": pl.Float64},
    )
    row = from_frame(table, frame).feeds[0].rows.row(0, named=True)
    return row[ENDS], row[KNOWN]


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "changes", "ends", "known"),
    [
        (
            date(2024, 3, 1),
            {
                "frequency": "month",
                "release_lag_days": 12,
                "known_clock": "08:30",
                "timezone": "America/New_York",
            },
            utc(2024, 4, 1, 4),
            utc(2024, 4, 12, 12, 30),
        ),
        (
            date(2024, 1, 1),
            {
                "frequency": "month",
                "release_lag_days": 12,
                "known_clock": "08:30",
                "timezone": "America/New_York",
            },
            utc(2024, 2, 1, 5),
            utc(2024, 2, 12, 13, 30),
        ),
        (date(2024, 2, 1), {"frequency": "month"}, utc(2024, 3, 1), utc(2024, 3, 1)),
        (
            date(2023, 10, 1),
            {"frequency": "quarter", "release_lag_days": 30},
            utc(2024, 1, 1),
            utc(2024, 1, 31),
        ),
        (date(2023, 1, 1), {"frequency": "year", "release_lag_days": 1}, utc(2024, 1, 1), utc(2024, 1, 2)),
        (date(2024, 1, 1), {"frequency": "week", "release_lag_days": 3}, utc(2024, 1, 8), utc(2024, 1, 11)),
        (date(2024, 1, 5), {"frequency": "day"}, utc(2024, 1, 6), utc(2024, 1, 6)),
        (
            utc(2024, 1, 5),
            {
                "frequency": "day",
                "observed_clock": "16:15",
                "known_clock": "16:15",
                "timezone": "America/New_York",
            },
            utc(2024, 1, 5, 21, 15),
            utc(2024, 1, 5, 21, 15),
        ),
        (
            utc(2024, 1, 5, 8),
            {"frequency": "hour", "release_lag_days": 0.5},
            utc(2024, 1, 5, 9),
            utc(2024, 1, 5, 21),
        ),
        (utc(2024, 1, 5, 8), {"frequency": "instant"}, utc(2024, 1, 5, 8), utc(2024, 1, 5, 8)),
    ],
)
def test_ends_and_known_times_by_rule(stamp, changes, ends, known):
    assert times(stamp, **changes) == (ends, known)


def test_clocks_that_occur_twice_or_not_at_all_take_the_later_moment():
    days = pl.DataFrame({"day": [date(2024, 11, 3), date(2024, 3, 10)]})
    assert days.select(day_moment(pl.col("day"), time(1, 30), "America/New_York"))["day"].to_list() == [
        utc(2024, 11, 3, 6, 30),
        utc(2024, 3, 10, 6, 30),
    ]
    assert days.select(day_moment(pl.col("day"), time(2, 30), "America/New_York"))["day"].to_list() == [
        utc(2024, 11, 3, 7, 30),
        utc(2024, 3, 10, 7, 30),
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dates(date(1995, 1, 1), date(2030, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(["day", "week", "month", "quarter", "year"]),
    st.sampled_from(["end", time(2, 30), time(8, 30)]),
    st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "America/Sao_Paulo"]),
)
def test_plain_python_agrees(days, frequency, clock, zone):
    frame = pl.DataFrame({"day": days})
    lasts = frame.select(last_day(pl.col("day"), frequency))["day"].to_list()
    assert lasts == [_last_day(day, frequency) for day in days]
    assert frame.select(day_moment(pl.col("day"), clock, zone))["day"].to_list() == [
        _at(day, clock, zone) for day in days
    ]


def test_a_series_keeps_its_own_lag_and_frequency():
    table = small_table(
        known="",
        release_lag_days=10,
        frequency="month",
        key="market",
        layout="long",
        columns=[
            {"name": "slow", "column": "M", "normalisation": "none"},
            {
                "name": "fast",
                "column": "D",
                "normalisation": "none",
                "frequency": "day",
                "release_lag_days": 1,
            },
        ],
    )
    frame = pl.DataFrame(
        {
            "series": ["M", "D", "M"],
            "observed": [date(2024, 1, 1)] * 2 + [date(2024, 2, 1)],
            "value": [1.0, 2.0, None],
        }
    )
    slow, fast = from_frame(table, frame).feeds
    assert slow.rows[KNOWN].to_list() == [utc(2024, 2, 11), utc(2024, 3, 11)]
    assert fast.rows[KNOWN].to_list() == [utc(2024, 1, 3)]


def test_dates_of_publication_count_from_the_end_of_their_day():
    table = small_table(
        known="known",
        frequency="day",
        key="market",
        column={"normalisation": "none"},
        timezone="America/New_York",
    )
    frame = pl.DataFrame({"observed": [date(2024, 1, 1)], "known": [date(2024, 2, 1)], "value": [1.0]})
    row = from_frame(table, frame).feeds[0].rows.row(0, named=True)
    assert row[KNOWN] == utc(2024, 2, 2, 5)
    assert row[KNOWN] - row[ENDS] == timedelta(days=31)
