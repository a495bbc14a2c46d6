"""Rows of the recordings in the folder ALPHALOOP_DATA, for a book to take: (kind, side, price, quantity,
number of the order, message), int64, in ticks and lots.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    DELETE,
    DEPTH,
    EXECUTE,
    HIDDEN,
    QUOTE,
    REDUCE,
    SELL,
    SNAPSHOT,
)

FOLDER = Path(os.environ.get("ALPHALOOP_DATA", "data"))
LOBSTER = FOLDER / "lobster_amzn_2012-06-21_l1.parquet"
EVENTS, LEVELS = FOLDER / "lob_events.parquet", FOLDER / "lob_levels.parquet"
COLUMNS = ("kind", "side", "price", "quantity", "order_id", "message")
# Tick and lot of a symbol.
STEPS = {"BTCUSDT.USDM": (0.1, 0.001), "ETHUSDT.USDM": (0.01, 0.001), "BTCUSDT.SPOT": (0.01, 0.00001)}
LOBSTER_KINDS = {1: ADD, 2: REDUCE, 3: DELETE, 4: EXECUTE, 5: HIDDEN}
CENT = 0.01


def lobster_touch() -> pl.DataFrame:
    """LOBSTER's best bid and ask after each message: bid, bid_lots, ask, ask_lots."""
    frame = pl.read_parquet(LOBSTER)
    return frame.select(
        _whole("bid_price", CENT).alias("bid"),
        pl.col("bid_size").cast(pl.Int64).alias("bid_lots"),
        _whole("ask_price", CENT).alias("ask"),
        pl.col("ask_size").cast(pl.Int64).alias("ask_lots"),
    )


def lobster_orders() -> np.ndarray:
    """LOBSTER's messages of orders, shape (6, messages)."""
    frame = pl.read_parquet(LOBSTER).with_row_index("message")
    return _columns(
        frame.select(
            pl.col("type").replace_strict(LOBSTER_KINDS).alias("kind"),
            pl.col("direction").alias("side"),
            _whole("price", CENT).alias("price"),
            pl.col("size").alias("quantity"),
            "order_id",
            "message",
        )
    )


def depth_messages(symbol: str, session: str, *, quotes: bool = True) -> np.ndarray:
    """Depth, snapshots and quotes of an exchange, shape (6, rows)."""
    tick, lot = STEPS[symbol]
    wanted = (pl.col("symbol") == symbol) & (pl.col("session") == session)
    # `seq` begins anew at midnight: only together with the time does it tell a message.
    events = _numbered(pl.read_parquet(EVENTS).filter(wanted))
    levels = pl.scan_parquet(LEVELS).filter(wanted).collect()
    depth = levels.join(events.select("local_ts", "seq", "message"), on=["local_ts", "seq"]).select(
        pl.when(pl.col("kind") == "snapshot").then(SNAPSHOT).otherwise(DEPTH).alias("kind"),
        pl.when(pl.col("side") == "B").then(BUY).otherwise(SELL).alias("side"),
        _whole("price", tick).alias("price"),
        _whole("qty", lot).alias("quantity"),
        pl.lit(0).alias("order_id"),
        "message",
    )
    touches = [
        events.filter(pl.col("kind") == "bbo").select(
            pl.lit(QUOTE).alias("kind"),
            pl.lit(side).alias("side"),
            _whole(price, tick).alias("price"),
            _whole(quantity, lot).alias("quantity"),
            pl.lit(0).alias("order_id"),
            "message",
        )
        for side, price, quantity in ((BUY, "price", "qty"), (SELL, "ask_price", "ask_qty"))
    ]
    frame = pl.concat([depth, *touches] if quotes else [depth], how="vertical_relaxed")
    return _columns(frame.sort("message", maintain_order=True))


def _numbered(events: pl.DataFrame) -> pl.DataFrame:
    """Messages in the order in which a book takes them: a snapshot before updates that are newer than it."""
    events = events.sort("local_ts", "seq").with_columns(message=2 * pl.int_range(pl.len(), dtype=pl.Int64))
    is_depth, is_snapshot = pl.col("kind") == "depth", pl.col("kind") == "snapshot"
    newer = is_depth & (pl.col("update_id") > pl.col("update_id").filter(is_snapshot).first())
    first = pl.col("message").filter(newer).min() - 1
    return events.with_columns(message=pl.when(is_snapshot).then(first).otherwise("message")).sort("message")


def _whole(column: str, step: float) -> pl.Expr:
    return (pl.col(column) / step).round().cast(pl.Int64)


def _columns(frame: pl.DataFrame) -> np.ndarray:
    return np.ascontiguousarray(frame.select(pl.col(*COLUMNS).cast(pl.Int64)).to_numpy().T)
