"""When an observation was complete and when it became known, from the stamps of a slow table."""

from datetime import time

import polars as pl

from components.contracts import TIME
from components.fusion.config import INTRADAY, Clock, Frequency, TableSettings

PERIODS = {"day": "1d", "week": "1w", "month": "1mo", "quarter": "1q", "year": "1y"}


def observation_end(stamp: pl.Expr, frequency: Frequency, table: TableSettings) -> pl.Expr:
    """The moment at which the observation was complete; null where the stamp is.

    Stamps are dates or moments in UTC.
    """
    if frequency in INTRADAY:
        moment = stamp.cast(TIME)
        return moment if frequency == "instant" else moment.dt.offset_by("1h")
    return day_moment(last_day(stamp, frequency), table.observed_clock, table.timezone)


def last_day(stamp: pl.Expr, frequency: Frequency) -> pl.Expr:
    """The last day that the observation covers, by the stamp's own clock."""
    return stamp.dt.date().dt.offset_by(PERIODS[frequency]).dt.offset_by("-1d")


def end_day(end: pl.Expr, timezone: str) -> pl.Expr:
    """The local day that the end of an observation belongs to: midnight ends the day before."""
    return (end - pl.duration(microseconds=1)).dt.convert_time_zone(timezone).dt.date()


def known_by_rule(stamp: pl.Expr, frequency: Frequency, lag_days: float, table: TableSettings) -> pl.Expr:
    """When the observation became known:

    `lag_days` after its last day at the table's known_clock; intraday, after its end.
    """
    if frequency in INTRADAY:
        return observation_end(stamp, frequency, table) + pl.duration(
            microseconds=round(lag_days * 86_400_000_000)
        )
    return day_moment(
        last_day(stamp, frequency).dt.offset_by(f"{int(lag_days)}d"), table.known_clock, table.timezone
    )


def known_by_column(stamp: pl.Expr, dtype: pl.DataType, table: TableSettings) -> pl.Expr:
    """When the row became known, as its file says; dates count from the table's known_clock on."""
    return day_moment(stamp, table.known_clock, table.timezone) if dtype == pl.Date else stamp.cast(TIME)


def day_moment(day: pl.Expr, clock: Clock, timezone: str) -> pl.Expr:
    """`clock` of a day in `timezone` as UTC, `end` being midnight after it.

    Of a local time that occurs twice the later; one that does not exist is an hour later.
    """
    if clock == "end":
        day, clock = day.dt.offset_by("1d"), time(0)
    local = day.cast(pl.Datetime("us")) + pl.duration(
        hours=clock.hour, minutes=clock.minute, seconds=clock.second
    )
    return _placed(local, timezone)


def _placed(local: pl.Expr, timezone: str) -> pl.Expr:
    placed = local.dt.replace_time_zone(timezone, ambiguous="latest", non_existent="null")
    later = local.dt.offset_by("1h").dt.replace_time_zone(timezone, ambiguous="latest", non_existent="null")
    return pl.coalesce(placed, later).dt.convert_time_zone("UTC")
