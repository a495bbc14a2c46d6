"""Books and events made up for the tests of tick labels."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts.tick_schemas import QUOTE, SNAPSHOT, TICKS
from components.tick_labels.build import label_session
from components.tick_labels.moments import Events

MS = 1_000_000
START = 1_700_000_000_000_000_000
COLUMNS = ("ingest_ts", "message", "kind", "side", "price", "quantity", "order_id")


def ticks_of(rows: Sequence[tuple], symbol: str = "A", session: str = "one") -> pl.DataFrame:
    """A TICKS frame of (ms, message, kind, side, price, quantity, order_id) rows, in their order."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.Int64), orient="row")
    frame = frame.with_columns(
        (pl.col("ingest_ts") * MS + START).alias("ingest_ts"),
        symbol=pl.lit(symbol),
        session=pl.lit(session),
        sequence=pl.int_range(pl.len()),
        update_id=pl.lit(0),
        previous_update_id=pl.lit(0),
    ).with_columns(exchange_ts=pl.col("ingest_ts"))
    return frame.select(pl.col(name).cast(kind) for name, kind in TICKS.columns.items())


def book_rows(at_ms: int, message: int, bids: Sequence[tuple], asks: Sequence[tuple]) -> list[tuple]:
    """A snapshot of (price, quantity) levels."""
    sides = ((1, bids), (-1, asks))
    return [
        (at_ms, message, SNAPSHOT, side, price, lots, 0) for side, levels in sides for price, lots in levels
    ]


def moments(*at_ms: float) -> pl.Series:
    """Samples so many milliseconds after the start."""
    return pl.Series([(START + round(at * MS)) // 1_000 for at in at_ms]).cast(pl.Datetime("us", "UTC"))


def quote_rows(at_ms: int, message: int, bid: tuple, ask: tuple) -> list[tuple]:
    return [(at_ms, message, QUOTE, side, *touch, 0) for side, touch in ((1, bid), (-1, ask))]


def events_of(ticks: pl.DataFrame) -> Events:
    """What the labels look at of a TICKS frame."""
    return Events(*(np.ascontiguousarray(ticks[name].to_numpy()) for name in Events._fields))


def label_all(ticks: pl.DataFrame, *given) -> tuple[pl.DataFrame, np.ndarray]:
    """The blocks of `label_session` together."""
    labels, why = zip(*label_session(events_of(ticks), *given), strict=True)
    return pl.concat(labels), np.concatenate(why)
