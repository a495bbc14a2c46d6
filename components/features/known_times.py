"""When each row's factors were known, and which rows are too late for others to see them."""

from datetime import timedelta

import numpy as np
import polars as pl

from components.features.raw_values import SYMBOL, TIME


def known_times(
    frame: pl.DataFrame, longest_bars: int, length: timedelta
) -> tuple[pl.Series, np.ndarray | None]:
    """When each row's factors were known, and which rows are late for others (None: none).

    `frame` holds `timestamp`, `known_time`, SYMBOL and TIME in the order of symbol and time, `longest_bars`
    is the longest warm-up, `length` that of a bar.
    """
    own = pl.col("known_time").rolling_max(longest_bars, min_samples=1).over(SYMBOL)
    usual = (
        pl.col("known_time")
        .to_physical()
        .quantile(0.5, "lower")
        .cast(pl.Int64)
        .cast(frame.schema["known_time"])
    )
    rows = frame.select(TIME, own.alias("own"))
    times = frame.group_by(TIME).agg(pl.col("timestamp").first(), usual.alias("usual")).sort(TIME)
    limit = times.select(
        pl.when(pl.col("usual") <= pl.col("timestamp") + length).then("timestamp").otherwise("usual") + length
    ).to_series()
    place = frame[TIME].to_numpy()
    late = rows["own"] > limit.gather(place)
    punctual = rows.filter(~late).group_by(TIME).agg(pl.col("own").max())
    others = times.select(TIME).join(punctual, on=TIME, how="left", maintain_order="left")
    others = others.select(pl.col("own").rolling_max(longest_bars, min_samples=1)).to_series()
    known = pl.DataFrame([rows["own"], others.gather(place).alias("others")]).select(
        pl.max_horizontal("own", "others").alias("known_time")
    )
    return known.to_series(), late.to_numpy() if late.any() else None
