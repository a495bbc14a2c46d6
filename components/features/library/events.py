"""Flags of events: sessions that open or close a day, week, month or quarter, bursts of volume and range,
gaps.

A flag of an opening looks at the bar before. A flag of a close is known beforehand: the last trading day of a
week (and the last bar of a day) is the latest that the symbol had lately, and the next session follows from
it by the calendar of days. Holidays are not known: the flag is then missing.
"""

import polars as pl

from components.features import kernels as k
from components.features.library.declare import Factor, Measure, c, flag
from components.timeline.periods import DAILY, INTRADAY

GROUP = "events"
BURST_DEVIATIONS = 2.0


def _differs(part: str) -> pl.Expr:
    return flag(c(part) != k.lag(c(part), 1))


MEASURES = (
    Measure("weekday", "row", c("event_time").dt.weekday().cast(pl.Float64)),
    Measure(
        "hour_of_day",
        "row",
        c("event_time").dt.hour().cast(pl.Float64) + c("event_time").dt.minute().cast(pl.Float64) / 60,
    ),
    Measure("day_number", "row", c("event_time").dt.epoch("d").cast(pl.Float64)),
    Measure("week_number", "row", ((c("day_number") + 3) / 7).floor()),
    Measure(
        "month_number",
        "row",
        c("event_time").dt.year().cast(pl.Float64) * 12 + c("event_time").dt.month().cast(pl.Float64) - 1,
    ),
    Measure("quarter_number", "row", (c("month_number") / 3).floor()),
    Measure("last_weekday", "symbol", k.highest(c("weekday"), 10)),
    Measure("latest_hour", "symbol", k.highest(c("hour_of_day"), 48)),
    # The next session's day: tomorrow, or Monday after the week's last trading day.
    Measure(
        "next_day",
        "row",
        c("day_number") + pl.when(c("weekday") >= c("last_weekday")).then(8 - c("weekday")).otherwise(1.0),
    ),
    Measure("next_date", "row", pl.from_epoch(c("next_day").cast(pl.Int64), "d")),
    Measure(
        "next_month_number",
        "row",
        c("next_date").dt.year().cast(pl.Float64) * 12 + c("next_date").dt.month().cast(pl.Float64) - 1,
    ),
    Measure("log_volume_mean_before", "symbol", k.lag(k.mean(c("log_volume"), 20), 1)),
    Measure("log_volume_deviation_before", "symbol", k.lag(k.deviation(c("log_volume"), 20), 1)),
    Measure("log_range_mean_before", "symbol", k.lag(k.mean(c("log_range"), 20), 1)),
    Measure("true_range_before", "symbol", k.lag(c("true_range_mean_14"), 1)),
    Measure(
        "volume_burst",
        "row",
        flag(
            c("log_volume")
            > c("log_volume_mean_before") + BURST_DEVIATIONS * c("log_volume_deviation_before")
        ),
    ),
    Measure("range_burst", "row", flag(c("log_range") > BURST_DEVIATIONS * c("log_range_mean_before"))),
)

FACTORS = (
    Factor(
        "week_open", GROUP, 2, _differs("week_number"), "French 1980; first bar of a week", "symbol", "none"
    ),
    Factor(
        "month_open", GROUP, 2, _differs("month_number"), "Ariel 1987; first bar of a month", "symbol", "none"
    ),
    Factor("quarter_open", GROUP, 2, _differs("quarter_number"), "first bar of a quarter", "symbol", "none"),
    Factor(
        "week_close",
        GROUP,
        10,
        flag(c("weekday") >= c("last_weekday")),
        "French 1980; last session of a week",
        "row",
        "none",
        DAILY,
    ),
    Factor(
        "month_close",
        GROUP,
        10,
        flag(c("next_month_number") != c("month_number")),
        "Lakonishok and Smidt 1988; last session of a month",
        "row",
        "none",
        DAILY,
    ),
    Factor(
        "quarter_close",
        GROUP,
        10,
        flag((c("next_month_number") / 3).floor() != c("quarter_number")),
        "Carhart, Kaniel, Musto and Reed 2002; last session of a quarter",
        "row",
        "none",
        DAILY,
    ),
    Factor(
        "session_open",
        GROUP,
        2,
        _differs("day_number"),
        "Admati and Pfleiderer 1988; first bar of a day (UTC)",
        "symbol",
        "none",
        INTRADAY,
    ),
    Factor(
        "session_close",
        GROUP,
        48,
        flag(c("hour_of_day") >= c("latest_hour")),
        "Admati and Pfleiderer 1988; the latest time of day of the last 48 bars",
        "row",
        "none",
        INTRADAY,
    ),
    Factor(
        "volume_burst",
        GROUP,
        21,
        c("volume_burst"),
        "log volume 2 deviations or more over the 20 bars before",
        "row",
        "none",
    ),
    Factor("volume_bursts_20", GROUP, 40, k.mean(c("volume_burst"), 20), "share of bars with a volume burst"),
    Factor(
        "range_burst",
        GROUP,
        21,
        c("range_burst"),
        "log range of more than twice the mean of the 20 bars before",
        "row",
        "none",
    ),
    Factor("range_bursts_20", GROUP, 40, k.mean(c("range_burst"), 20), "share of bars with a range burst"),
    Factor(
        "gap_event",
        GROUP,
        16,
        pl.when(c("overnight_return").abs() > c("true_range_before"))
        .then(c("overnight_return").sign())
        .when((c("overnight_return") + c("true_range_before")).is_not_null())
        .then(0.0),
        "opening gap of more than the average true range before; its sign",
        "row",
        "none",
    ),
    Factor(
        "gap_size",
        GROUP,
        16,
        k.ratio(c("overnight_return"), c("true_range_before")),
        "opening gap in average true ranges",
        "row",
    ),
)
