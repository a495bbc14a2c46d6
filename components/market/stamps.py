"""Turns the times of a file into the three moments of a bar: when it opened, when it was complete, and when
we could have had it.
"""

from datetime import time, timedelta
from pathlib import Path

import polars as pl

from components.contracts import TIME
from components.market.config import Settings
from components.market.errors import MarketError
from components.market.wall_clock import (
    begins_the_evening_before,
    clock_of_bars,
    first_by_grid,
    first_by_order,
    on_clock,
    place,
    place_existing,
    session_edges,
)
from components.reading.place import Place
from components.reading.stamps import Cells, read_stamps
from components.timeline.periods import LENGTHS, is_daily

# Sundays among session dates from which on they show what the dates mean.
MIN_SUNDAYS = 3


def bar_times(frame: pl.DataFrame, settings: Settings, source: str) -> pl.DataFrame:
    """Replace `timestamp` (and `known_time`, where there) by the contract's `timestamp`, `event_time` and
    `known_time`.

    Session dates: the bar lasts from `session_open` to `session_close` on the exchange's clock, dated by its
    close (see `session_edges`). A stamp counts as a session date where it stands at midnight, in UTC (or its
    own zone-less clock) or in the exchange's zone. Half days keep the usual close: late is the safe side.

    Openings and closings: an hourly bar lasts an hour that passes. Bars of 4 hours or a day end where the
    clock of the stamps has moved on so far, so that over a change of clocks they last an hour more or less.
    That clock is the stamps' own, unless their bars begin at the same times of day only on another that the
    settings name, or in UTC: bars cut in UTC and written in local time end as UTC has it.

    A local time that occurs twice is told by the order of the rows (`first_by_order`), for longer bars by
    their grid in UTC (`first_by_grid`), and else by `settings.ambiguous`; one that does not exist is an
    error. A day that begins where clocks change begins with its first moment.

    Raises
    ------
    MarketError
        For stamps that cannot be read, lack a zone, are no session dates though they should be, or whose
        moment is left open.
    """
    symbols = frame["symbol"] if "symbol" in frame.columns else None
    stamp = _moments(frame["timestamp"], settings, source)
    if settings.stamp == "session_date":
        opened, closed = _session(stamp, settings, source)
    else:
        moment = in_utc(stamp, settings, source, symbols)
        opened, closed = _edges(moment, stamp, settings)
    if "known_time" in frame.columns:
        known = in_utc(_moments(frame["known_time"], settings, source), settings, source, symbols)
    else:
        known = closed + timedelta(seconds=settings.publication_lag_s)
    return frame.with_columns(
        closed.cast(TIME).alias("timestamp"),
        opened.cast(TIME).alias("event_time"),
        known.cast(TIME).alias("known_time"),
    )


def _edges(moment: pl.Series, stamp: pl.Series, settings: Settings) -> tuple[pl.Series, pl.Series]:
    """Beginning and end of bars that are stamped with one of the two."""
    length = LENGTHS[settings.period]
    step = length if settings.stamp == "bar_open" else -length
    own_zone = stamp.dtype.time_zone
    if length <= timedelta(hours=1):
        other = moment + step
    else:
        zones = (own_zone, settings.timezone, "UTC", settings.exchange_timezone)
        clock = clock_of_bars(moment, length, [zone for zone in zones if zone])
        # The stamp itself where it is of that clock: a day without midnight is stamped with midnight.
        local = on_clock(moment, clock) if own_zone or clock != settings.timezone else stamp
        other = place(local + step, clock, "earliest" if settings.ambiguous == "earliest" else "latest")
    return (moment, other) if settings.stamp == "bar_open" else (other, moment)


def _session(stamp: pl.Series, settings: Settings, source: str) -> tuple[pl.Series, pl.Series]:
    days = _session_days(stamp, settings, source)
    opens, closes = settings.session_open, settings.session_close
    if begins_the_evening_before(opens, closes):
        _refuse_opening_dates(days.unique(), opens, closes, source)
    return session_edges(days, opens, closes, settings.exchange_timezone)


def _refuse_opening_dates(days: pl.Series, opens: time, closes: time, source: str) -> None:
    """Sessions dated by the evening on which they open would be known a day before they end."""
    fridays, saturdays, sundays = (int((days.dt.weekday() == day).sum()) for day in (5, 6, 7))
    if sundays >= MIN_SUNDAYS and max(fridays, saturdays) * 10 < sundays:
        raise MarketError(
            f"{source}: sessions from {opens:%H:%M} to {closes:%H:%M} are dated on {sundays} Sundays and"
            f" {fridays} Fridays, so by the evening on which they open: they would be known a day too early."
            " Move the dates on by one day: a session is dated by its close, so that of Sunday evening is"
            " Monday's."
        )


def _moments(column: pl.Series, settings: Settings, source: str) -> pl.Series:
    """Cells of times as Datetime in microseconds, with a zone where they carry one."""
    cells = Cells(
        Place(Path(source), MarketError, section="market"),
        settings.columns.get(column.name, column.name),
        f"market.columns.{column.name}",
    )
    return read_stamps(column, cells, settings.timestamp_format, settings.timestamp_unit).moments


def in_utc(stamp: pl.Series, settings: Settings, source: str, symbols: pl.Series | None = None) -> pl.Series:
    """Stamps with or without a zone as UTC; `symbols` are those of the rows, None where all are of one."""
    if stamp.dtype.time_zone:
        return stamp.dt.convert_time_zone("UTC")
    zone = settings.timezone
    if zone is None:
        raise MarketError(
            f"{source}: the stamps carry no time zone (first {stamp.drop_nulls().first()}). Set"
            " market.timezone, for example UTC or America/New_York."
        )
    earliest, latest = (place_existing(stamp, zone, twice) for twice in ("earliest", "latest"))
    if is_daily(settings.period):
        # A day that begins where clocks change has no midnight, or two.
        at_midnight = (stamp.dt.time() == time(0)).fill_null(False)
        begun = place(stamp, zone, "earliest")
        earliest, latest = (begun.zip_with(at_midnight, side) for side in (earliest, latest))
    _refuse_clock_change(
        stamp,
        latest,
        zone,
        source,
        "does not exist",
        "The stamps are probably of another zone: set market.timezone, UTC for bars round the clock. If only"
        " these rows are wrong, mend or remove them.",
    )
    if settings.ambiguous == "raise":
        once = latest.set((earliest != latest).fill_null(False), None)
        _refuse_clock_change(
            stamp,
            once,
            zone,
            source,
            "occurs twice",
            "Set market.ambiguous to infer, earliest or latest, or export the data in UTC.",
        )
        return latest
    first = first_by_order(stamp, stamp.is_null() if symbols is None else symbols, zone)
    if LENGTHS[settings.period] > timedelta(hours=1):
        by_grid = first_by_grid(earliest, latest, LENGTHS[settings.period])
        first = first.zip_with(first.is_not_null(), by_grid)
    if settings.ambiguous == "infer":
        open_still = ((earliest != latest) & first.is_null()).fill_null(False)
        _refuse_clock_change(
            stamp,
            latest.set(open_still, None),
            zone,
            source,
            "occurs twice",
            "The order of the rows does not tell which of the two is meant: a bar is missing, or rows are out"
            " of order. Set market.ambiguous to earliest or latest for these, or export the data in UTC.",
        )
    return earliest.zip_with(first.fill_null(settings.ambiguous == "earliest"), latest)


def _refuse_clock_change(
    stamp: pl.Series, placed: pl.Series, zone: str, source: str, what: str, remedy: str
) -> None:
    bad = stamp.filter(stamp.is_not_null() & placed.is_null())
    if len(bad):
        raise MarketError(
            f"{source}: {len(bad):,} stamps, first {bad[0]}: this local time {what} in {zone}, where clocks"
            f" change. {remedy}"
        )


def _session_days(stamp: pl.Series, settings: Settings, source: str) -> pl.Series:
    own = stamp.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if stamp.dtype.time_zone else stamp
    days = own.to_frame("own").select(
        pl.when(pl.col("own").dt.time() == time(0)).then(pl.col("own").dt.date()).alias("day")
    )["day"]
    if stamp.dtype.time_zone:
        local = (
            stamp.dt.convert_time_zone(settings.exchange_timezone)
            .dt.replace_time_zone(None)
            .to_frame("local")
        )
        local_days = local.select(
            pl.when(pl.col("local").dt.time() == time(0)).then(pl.col("local").dt.date()).alias("day")
        )["day"]
        days = days.zip_with(days.is_not_null(), local_days)
    bad = stamp.filter(stamp.is_not_null() & days.is_null())
    if len(bad):
        raise MarketError(
            f"{source}: {len(bad):,} stamps, first {bad[0]}, are not at midnight (UTC or"
            f" {settings.exchange_timezone}), so they are no session dates. Set market.stamp to bar_open or"
            " bar_close."
        )
    return days
