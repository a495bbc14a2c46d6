"""The empirical distribution of delays by symbol and hour of the day."""

import os
from collections.abc import Iterator

import numpy as np
import polars as pl

from components.contracts.tick_days import tick_days
from components.contracts.tick_schemas import DELAYS, SNAPSHOT

# Thousandths, and closer where the tail is: a replay draws from what lies between two of them.
QUANTILES = np.array([*np.arange(1000) / 1000, 0.9995, 0.9999, 1.0])
HOUR_NS = 3_600_000_000_000


def delay_table(ticks: str | os.PathLike) -> pl.DataFrame:
    """The DELAYS of a folder of validated ticks, of messages that carry the exchange's time; empty where none
    does.
    """
    return pl.concat([pl.DataFrame(schema=DELAYS.columns), *_of_symbols(ticks)]).sort(DELAYS.key)


def _of_symbols(ticks: str | os.PathLike) -> Iterator[pl.DataFrame]:
    days = tick_days(ticks)
    for symbol in sorted({day.symbol for day in days}):
        rows = pl.scan_parquet([day.path for day in days if day.symbol == symbol])
        first = pl.struct("session", "message").rle_id().diff().fill_null(1) != 0
        stamped = (pl.col("exchange_ts") != 0) & (pl.col("kind") != SNAPSHOT)
        hour = (pl.col("ingest_ts") // HOUR_NS % 24).cast(pl.Int8)
        delays = rows.filter(first).filter(stamped).select(hour.alias("hour"), "delay_ns").collect()
        for (hour_of_day,), own in delays.group_by("hour"):
            values = np.quantile(own["delay_ns"].to_numpy(), QUANTILES)
            yield pl.DataFrame(
                {
                    "symbol": [symbol] * len(QUANTILES),
                    "hour": [hour_of_day] * len(QUANTILES),
                    "quantile": QUANTILES,
                    "delay_ns": np.rint(values).astype(np.int64),
                },
                schema=DELAYS.columns,
            )
