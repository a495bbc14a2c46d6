"""When each row's factors were known, and which rows are too late for others to see them."""

from datetime import timedelta

import numpy as np
import polars as pl

from components.contracts.cut import SYMBOL, TIME


def known_times(
    frame: pl.DataFrame, longest_bars: int, length: timedelta
) -> tuple[pl.Series, np.ndarray | None]:
    """When each row's factors were known, and which rows are late for others (None: none).

    `frame` holds `timestamp`, `known_time`, SYMBOL and TIME in the order of symbol and time, `longest_bars`
    is the longest warm-up, `length` that of a bar.
    """
    own = own_known_times(frame, longest_bars)
    late, punctual = late_rows(frame.with_columns(own), length)
    others = others_known_times(punctual, longest_bars)
    known_time = latest(own, others.gather(frame[TIME]))
    return known_time, late if late.any() else None


def own_known_times(frame: pl.DataFrame, longest_bars: int) -> pl.Series:
    """When a symbol's own bars within the longest warm-up were known: `own`, one value a row."""
    own = pl.col("known_time").rolling_max(longest_bars, min_samples=1).over(SYMBOL)
    return frame.select(own.alias("own")).to_series()


def late_rows(rows: pl.DataFrame, length: timedelta) -> tuple[np.ndarray, pl.Series]:
    """Which rows are late, (rows,), bool; and for each timestamp, in order, the latest `own` of the others
    (null: none).

    `rows` are all those of some timestamps, in any order, with `timestamp`, `known_time`, TIME and `own`.
    """
    usual = (
        pl.col("known_time")
        .to_physical()
        .quantile(0.5, "lower")
        .cast(pl.Int64)
        .cast(rows.schema["known_time"])
    )
    times = rows.group_by(TIME).agg(pl.col("timestamp").first(), usual.alias("usual")).sort(TIME)
    limit = times.select(
        pl.when(pl.col("usual") <= pl.col("timestamp") + length).then("timestamp").otherwise("usual") + length
    ).to_series()
    place = rows[TIME].to_numpy() - times[TIME][0]
    late = rows["own"] > limit.gather(place)
    punctual = rows.filter(~late).group_by(TIME).agg(pl.col("own").max())
    others = times.select(TIME).join(punctual, on=TIME, how="left", maintain_order="left")
    return late.to_numpy(), others["own"]


def others_known_times(punctual: pl.Series, longest_bars: int) -> pl.Series:
    """When the punctual rows of all symbols within the longest warm-up were known; one value a timestamp."""
    return punctual.to_frame("own").select(pl.col("own").rolling_max(longest_bars, min_samples=1)).to_series()


def latest(own: pl.Series, others: pl.Series) -> pl.Series:
    """The later of both, row by row: `known_time`."""
    both = pl.DataFrame([own.alias("own"), others.alias("others")])
    return both.select(pl.max_horizontal("own", "others").alias("known_time")).to_series()
