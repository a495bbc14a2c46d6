"""Turns the times of a file into the three moments of a bar: when it opened, when it was complete, and when
we could have had it.
"""

from datetime import time, timedelta

import polars as pl

from components.contracts import TIME
from components.market.config import Settings
from components.market.errors import MarketError
from components.timeline.periods import LENGTHS

LIMIT_US = 4_102_444_800_000_000  # the year 2100
# Forms of a stamp in text that cannot be mistaken for another; the first that reads the first stamp is used
# for all.
TEXT_FORMS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
    "%Y-%m-%dT%H:%M%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y%m%d",
)


def bar_times(frame: pl.DataFrame, settings: Settings, source: str) -> pl.DataFrame:
    """Replace `timestamp` (and `known_time`, where there) by the contract's `timestamp`, `event_time` and
    `known_time`.

    Session dates: the bar opens at `session_open` and is complete at `session_close` of that day in the
    exchange's zone. A stamp counts as a session date where it stands at midnight, in UTC (or its own
    zone-less clock) or in the exchange's zone. Half days keep the usual close: late is the safe side. A local
    time that does not exist is an error; one that occurs twice is treated by `settings.ambiguous`.

    Raises
    ------
    MarketError
        For stamps that cannot be read, lack a zone, or are no session dates though they should be.
    """
    stamp = read_stamps(
        frame["timestamp"], settings, f"{source}: column {settings.columns.get('timestamp', 'timestamp')!r}"
    )
    if settings.stamp == "session_date":
        days = _session_days(stamp, settings, source)
        opened, closed = (
            _local_moment(days, clock, settings) for clock in (settings.session_open, settings.session_close)
        )
    else:
        moment = in_utc(stamp, settings, source)
        length = LENGTHS[settings.period]
        opened, closed = (
            (moment, moment + length) if settings.stamp == "bar_open" else (moment - length, moment)
        )
    if "known_time" in frame.columns:
        known = in_utc(
            read_stamps(
                frame["known_time"],
                settings,
                f"{source}: column {settings.columns.get('known_time', 'known_time')!r}",
            ),
            settings,
            source,
        )
    else:
        known = closed + timedelta(seconds=settings.publication_lag_s)
    return frame.with_columns(
        closed.cast(TIME).alias("timestamp"),
        opened.cast(TIME).alias("event_time"),
        known.cast(TIME).alias("known_time"),
    )


def read_stamps(column: pl.Series, settings: Settings, where: str) -> pl.Series:
    """Stamps as Datetime in microseconds, with a zone where the file gives one."""
    if column.dtype == pl.Date:
        return _refuse_wild(column, 86_400_000_000, where).cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        per_us = {"ms": 1_000, "us": 1, "ns": 1}[column.dtype.time_unit]
        return _refuse_wild(column, per_us, where).dt.cast_time_unit("us")
    if column.dtype == pl.String and settings.timestamp_unit:
        column = _refuse_losses(
            column,
            column.cast(pl.Int64, strict=False),
            where,
            "is not a whole number, though market.timestamp_unit is set",
        )
    if column.dtype.is_integer():
        return _from_numbers(column, settings, where)
    if column.dtype == pl.String:
        return _from_text(column, settings, where)
    raise MarketError(
        f"{where} has type {column.dtype}, expected times, dates, text or whole numbers. Map the right column"
        " with market.columns.timestamp."
    )


def _refuse_wild(column: pl.Series, unit_us: int, where: str) -> pl.Series:
    """`column`, unless it holds moments beyond the year 2100 or as far back, as a damaged file may:

    Polars can't convert or even show some of these.
    """
    limit = (
        LIMIT_US * 1000
        if column.dtype == pl.Datetime("ns", getattr(column.dtype, "time_zone", None))
        else LIMIT_US // unit_us
    )
    wild = int((~column.to_physical().cast(pl.Int64).is_between(-limit, limit)).sum())
    if wild:
        raise MarketError(
            f"{where}: {wild:,} of {len(column):,} times lie beyond the year 2100. The file is damaged or its"
            " unit of time is wrong: export it again."
        )
    return column


def _from_numbers(column: pl.Series, settings: Settings, where: str) -> pl.Series:
    if settings.timestamp_unit is None:
        raise MarketError(
            f"{where} holds numbers (first {column.drop_nulls().first()}), and nothing says in which unit."
            " Set market.timestamp_unit to s, ms, us or ns."
        )
    per_us = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[settings.timestamp_unit]
    values = column.cast(pl.Int64, strict=False)
    inside = values.abs() <= (LIMIT_US * 1000 if settings.timestamp_unit == "ns" else LIMIT_US // per_us)
    bad = values.filter(~inside)
    if len(bad):
        raise MarketError(
            f"{where}: {bad[0]} in {settings.timestamp_unit} lies beyond the year 2100. Check"
            " market.timestamp_unit."
        )
    micros = values // 1000 if settings.timestamp_unit == "ns" else values * per_us
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _from_text(column: pl.Series, settings: Settings, where: str) -> pl.Series:
    text = column.str.strip_chars()
    text = text.set(text.str.len_bytes() == 0, None) if text.len() else text
    samples = text.drop_nulls()
    if samples.is_empty():
        raise MarketError(
            f"{where} holds no time at all. Map the right column with market.columns.timestamp."
        )
    sample = samples.head(1)
    forms = (settings.timestamp_format,) if settings.timestamp_format else TEXT_FORMS
    form = next((form for form in forms if _parse(sample, form).is_not_null().all()), None)
    if form is None:
        tried = (
            f"the format {settings.timestamp_format!r}"
            if settings.timestamp_format
            else "an ISO time such as 2024-07-01 or 2024-07-01T15:00:00+00:00"
        )
        raise MarketError(
            f"{where}: {_shown(sample[0])} is not {tried}. Set market.timestamp_format, for example '%d.%m.%Y"
            " %H:%M' (or market.timestamp_unit for numbers)."
        )
    return _refuse_losses(
        text, _parse(text, form), where, f"can't be read in the form {form!r} of the first stamp"
    )


def _parse(text: pl.Series, form: str) -> pl.Series:
    dated = not any(code in form for code in ("%H", "%I", "%T", "%R", "%s", "%c", "%+"))
    try:
        return (
            text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
            if dated
            else text.str.to_datetime(form, time_unit="us", strict=False, ambiguous="null")
        )
    except pl.exceptions.PolarsError:
        return pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))


def _refuse_losses(before: pl.Series, after: pl.Series, where: str, why: str) -> pl.Series:
    """`after`, unless it lost values that `before` had."""
    lost = (before.is_not_null() & after.is_null()).arg_true()
    if len(lost):
        examples = ", ".join(f"{_shown(before[int(row)])} (row {int(row) + 1:,})" for row in lost[:3])
        raise MarketError(
            f"{where}: {len(lost):,} of {len(before):,} values: {examples} {why}. Mend the file, or see"
            " market.timestamp_format."
        )
    return after


def in_utc(stamp: pl.Series, settings: Settings, source: str) -> pl.Series:
    """Stamps with or without a zone as UTC."""
    if stamp.dtype.time_zone:
        return stamp.dt.convert_time_zone("UTC")
    if settings.timezone is None:
        raise MarketError(
            f"{source}: the stamps carry no time zone (first {stamp.drop_nulls().first()}). Set"
            " market.timezone, for example UTC or America/New_York."
        )
    latest = stamp.dt.replace_time_zone(settings.timezone, ambiguous="latest", non_existent="null")
    _refuse_clock_change(
        stamp,
        latest,
        settings,
        source,
        "does not exist",
        "The file's zone is probably another: set market.timezone.",
    )
    if settings.ambiguous == "raise":
        unique = stamp.dt.replace_time_zone(settings.timezone, ambiguous="null", non_existent="null")
        _refuse_clock_change(
            stamp,
            unique,
            settings,
            source,
            "occurs twice",
            "Set market.ambiguous to earliest or latest, or export the data in UTC.",
        )
    chosen = (
        stamp.dt.replace_time_zone(settings.timezone, ambiguous="earliest", non_existent="null")
        if settings.ambiguous == "earliest"
        else latest
    )
    return chosen.dt.convert_time_zone("UTC")


def _refuse_clock_change(
    stamp: pl.Series, placed: pl.Series, settings: Settings, source: str, what: str, remedy: str
) -> None:
    bad = stamp.filter(stamp.is_not_null() & placed.is_null())
    if len(bad):
        raise MarketError(
            f"{source}: {len(bad):,} stamps, first {bad[0]}: this local time {what} in {settings.timezone},"
            f" where clocks change. {remedy}"
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


def _local_moment(days: pl.Series, clock: time, settings: Settings) -> pl.Series:
    """`clock` of each day in the exchange's zone, as UTC; where clocks change just then, the later moment."""
    since_midnight = timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second)
    local = days.cast(pl.Datetime("us")) + since_midnight
    return local.dt.replace_time_zone(
        settings.exchange_timezone, ambiguous="latest", non_existent="null"
    ).dt.convert_time_zone("UTC")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
