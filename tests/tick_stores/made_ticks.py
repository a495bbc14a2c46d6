"""Ticks of a made-up session that tests of stores share."""

import polars as pl

from components.contracts.tick_schemas import BUY, DEPTH, TICKS, TRADE
from components.tick_stores.protocol import SECOND_NS

MIDNIGHT = 1_721_347_200_000_000_000


def ticks(*rows: tuple[int, int, int, int], start: int = 0) -> pl.DataFrame:
    """TICKS of rows (ns after midnight, kind, price, quantity), numbered from `start` on."""
    return pl.DataFrame(
        [
            {
                **dict.fromkeys(TICKS.columns, 0),
                "symbol": "X",
                "session": "a",
                "sequence": start + n,
                "message": start + n,
                "ingest_ts": MIDNIGHT + at,
                "exchange_ts": MIDNIGHT + at,
                "kind": kind,
                "side": BUY,
                "price": price,
                "quantity": quantity,
            }
            for n, (at, kind, price, quantity) in enumerate(rows)
        ],
        schema=TICKS.columns,
    )


TRADED = ticks(
    (0, TRADE, 100, 2),
    (5, DEPTH, 900, 9),
    (999_999_999, TRADE, 98, 1),
    (SECOND_NS, TRADE, 101, 4),
    (61 * SECOND_NS, TRADE, 103, 5),
)
