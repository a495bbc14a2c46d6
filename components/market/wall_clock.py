"""Times of a wall clock as moments in UTC: hours that occur twice or never where clocks change, and sessions
that last until a time of day.
"""

from collections.abc import Sequence
from datetime import time, timedelta
from typing import Literal

import polars as pl

Twice = Literal["earliest", "latest"]
# Share of bars on one grid from which on it tells what lies beside it.
GRID_SHARE = 0.9
# Back from a time that does not exist to one that does: Samoa once left out a whole day.
BEFORE_A_CHANGE = timedelta(hours=25)


def place(local: pl.Series, zone: str, twice: Twice = "latest") -> pl.Series:
    """Times of `zone`'s clock, without a zone, in UTC.

    One that occurs twice is the earliest or latest of the two; one that does not exist is as long after the
    change of clocks as the clock says that it would have been.
    """
    placed = place_existing(local, zone, twice)
    if placed.null_count() == local.null_count():
        return placed
    carried_over = place_existing(local - BEFORE_A_CHANGE, zone, twice) + BEFORE_A_CHANGE
    return placed.zip_with(placed.is_not_null(), carried_over)


def place_existing(local: pl.Series, zone: str, twice: Twice = "latest") -> pl.Series:
    """As `place`; null where the time does not exist."""
    return local.dt.replace_time_zone(zone, ambiguous=twice, non_existent="null").dt.convert_time_zone("UTC")


def on_clock(moments: pl.Series, zone: str) -> pl.Series:
    """What `zone`'s clock says at `moments`, without a zone."""
    return moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def first_by_order(local: pl.Series, symbols: pl.Series, zone: str) -> pl.Series:
    """Whether a time that occurs twice is the first of the two, told by the order of rows; null where it
    occurs once or the order leaves it open.

    A symbol's times rise through the file (or fall: newest first). Where clocks go back they step back once,
    within the hour that occurs twice: rows before this step are of the first pass, those from it on of the
    second. A symbol without such a step (a bar is missing) is placed by the rows around it, where the file
    holds the hour of all symbols in one piece.
    """
    rows = pl.DataFrame({"local": local, "symbol": symbols}).with_row_index("row")
    twice = place_existing(local, zone, "earliest") != place_existing(local, zone, "latest")
    rows = rows.with_columns(twice.fill_null(False).alias("twice"))
    if not rows["twice"].any():
        return pl.Series([None] * len(local), dtype=pl.Boolean)
    affected = rows.filter("twice").select("symbol").unique()
    rows = rows.join(affected, on="symbol", how="semi", nulls_equal=True, maintain_order="left")
    step = pl.col("local").diff().over("symbol").dt.total_microseconds().sign()
    upwards = pl.when(step.sum().over("symbol") < 0).then(-1).otherwise(1)
    rows = rows.with_columns(
        (step * upwards).alias("step"),
        upwards.alias("upwards"),
        pl.int_range(pl.len()).over("symbol").alias("place"),
    ).with_columns(pl.col("step").shift(-1).over("symbol").alias("next_step"))
    passes = _by_rows_around(_by_own_step(rows.filter("twice")))
    first = (pl.col("seen_second") != (pl.col("upwards") == 1)).alias("first")
    found = passes.select("row", first)
    return pl.DataFrame({"row": pl.arange(0, len(local), dtype=pl.UInt32, eager=True)}).join(
        found, on="row", how="left", maintain_order="left"
    )["first"]


def _by_own_step(rows: pl.DataFrame) -> pl.DataFrame:
    """Add `change` (its day) and `seen_second`: whether a row lies behind its symbol's one step back."""
    block = ["symbol", "change"]
    rows = rows.with_columns(pl.col("local").dt.date().alias("change"))
    first, last = pl.col("place").min().over(block), pl.col("place").max().over(block)
    inside = pl.col("place") > first
    back = inside & (pl.col("step") <= 0)
    in_one_piece = last - first + 1 == pl.len().over(block)
    enters = (inside | (pl.col("step").fill_null(1) > 0)).all().over(block)
    leaves = ((pl.col("place") < last) | (pl.col("next_step").fill_null(1) > 0)).all().over(block)
    told = in_one_piece & enters & leaves & (back.sum().over(block) == 1)
    return rows.with_columns(pl.when(told).then(back.cum_sum().over(block) > 0).alias("seen_second"))


def _by_rows_around(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with `seen_second` also where rows of other symbols on the nearer side tell it."""
    second, row = pl.col("seen_second"), pl.col("row")
    in_one_piece = row.max() - row.min() + 1 == pl.len()
    in_turn = row.filter(~second).max() < row.filter(second).min()
    before_a_first = ~second.backward_fill()
    behind_a_second = second.forward_fill()
    told = (
        pl.when(second.is_null() & (in_one_piece & in_turn).over("change"))
        .then(
            pl.when(before_a_first.over("change")).then(False).when(behind_a_second.over("change")).then(True)
        )
        .otherwise(second)
    )
    return rows.with_columns(told.alias("seen_second"))


def first_by_grid(earliest: pl.Series, latest: pl.Series, length: timedelta) -> pl.Series:
    """Whether a time that occurs twice is the first of the two, told by the grid of bars in UTC; null where
    it occurs once, bars of `length` keep no grid in UTC, or both or neither lie on it.

    Parameters
    ----------
    earliest, latest : the two moments; equal where the time occurs once
    length : more than the hour that lies between the two
    """
    length_us = int(length / timedelta(microseconds=1))
    moments = pl.DataFrame({"first": earliest, "second": latest}).with_columns(
        pl.all().dt.cast_time_unit("us").to_physical() % length_us
    )
    sure = moments.filter(earliest == latest)["first"].value_counts(sort=True)
    on_grid = sure["count"].first() or 0
    if on_grid == 0 or on_grid < GRID_SHARE * sure["count"].sum():
        return pl.Series([None] * len(earliest), dtype=pl.Boolean)
    first, second = (pl.col(name) == sure["first"][0] for name in ("first", "second"))
    return moments.select(pl.when(first != second).then(first).alias("told"))["told"]


def clock_of_bars(moments: pl.Series, length: timedelta, zones: Sequence[str]) -> str:
    """The zone on whose clock bars of `length` begin most regularly; the first of `zones` among equals."""
    distinct, length_us = moments.drop_nulls().unique(), int(length / timedelta(microseconds=1))

    def regular(zone: str) -> int:
        phases = on_clock(distinct, zone).dt.cast_time_unit("us").to_physical() % length_us
        return phases.value_counts()["count"].max() or 0

    return max(dict.fromkeys(zones), key=regular)


def session_edges(days: pl.Series, opens: time, closes: time, zone: str) -> tuple[pl.Series, pl.Series]:
    """Beginning and end, in UTC, of the sessions dated `days`, half-open.

    The date is the one on which the session closes (the trade date); a close at midnight is the midnight
    that ends that day. So a session that opens at or after the time at which it closes began the evening
    before; equal times make one of 24 hours.
    """
    midnight = days.cast(pl.Datetime("us"))
    day = timedelta(days=1)
    closed = midnight + _since_midnight(closes) + (day if closes == time(0) else timedelta(0))
    opened = (
        midnight
        + _since_midnight(opens)
        - (day if begins_the_evening_before(opens, closes) else timedelta(0))
    )
    return place(opened, zone), place(closed, zone)


def begins_the_evening_before(opens: time, closes: time) -> bool:
    """Whether a session's opening lies on the day before its date."""
    return opens >= closes != time(0)


def _since_midnight(clock: time) -> timedelta:
    return timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second)
