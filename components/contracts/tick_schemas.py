"""The tables of the tick lane: events of order books, and what they are called.

Times of events are int64 nanoseconds since 1970 (UTC); prices are whole ticks and quantities whole lots of
their instrument (`components/contracts/documents/instruments.py`), so that sums are exact.
"""

from typing import Final

import polars as pl

from components.contracts.schemas import Table

# What a row says. SNAPSHOT: a level of a whole book; the message's first row clears what stood before; one of
# quantity 0 is no level, it only clears, and the book is unknown until the next one. DEPTH: the quantity that
# now rests at a price, 0 for none. QUOTE: the touch of a side, quantity 0 for an empty one.
# TRADE: what changed hands; `side` is the aggressor's. ADD to HIDDEN: an order by its number: it came, lost a
# part, was deleted, was executed (`quantity` is what came or went, `side` the resting order's), or an order
# that nobody saw was hit. HALT and RESUME: no order is taken between them.
SNAPSHOT: Final = 0
DEPTH: Final = 1
QUOTE: Final = 2
TRADE: Final = 3
ADD: Final = 4
REDUCE: Final = 5
DELETE: Final = 6
EXECUTE: Final = 7
HIDDEN: Final = 8
HALT: Final = 9
RESUME: Final = 10
BUY: Final = 1
SELL: Final = -1

# Events of one symbol and session in the order in which the collector had them. Rows of one `message` arrived
# together: what stands between them nobody saw. `exchange_ts` is of the exchange's clock, `ingest_ts` of the
# collector's, which orders everything; a source without the second has both equal, and 0 is the `exchange_ts`
# of what the exchange did not stamp. `update_id` and
# `previous_update_id` chain depth messages, 0 where a source has none. `delay_ns` is the excess of a
# message's way over the least one, `offset_ns` what the collector's clock is ahead by (ticks/clock.py).
TICKS = Table(
    name="ticks",
    version=1,
    columns={
        "symbol": pl.String(),
        "session": pl.String(),
        "sequence": pl.Int64(),
        "message": pl.Int64(),
        "exchange_ts": pl.Int64(),
        "ingest_ts": pl.Int64(),
        "kind": pl.Int8(),
        "side": pl.Int8(),
        "price": pl.Int64(),
        "quantity": pl.Int64(),
        "order_id": pl.Int64(),
        "update_id": pl.Int64(),
        "previous_update_id": pl.Int64(),
    },
    key=("symbol", "session", "sequence"),
    optional={"offset_ns": pl.Int64(), "delay_ns": pl.Int64()},
)

# The same as a source has them, before validation: rows in the collector's order, `sequence` counted from 0,
# `message` the number that the collector gave (it may leave some out, and start anew at midnight).
RAW_TICKS = Table(name="raw_ticks", version=1, columns=TICKS.columns, key=TICKS.key)

# The distribution of `delay_ns` by symbol and hour of the day (UTC): its quantiles, 0 and 1 among them, in
# steps of a thousandth and closer in the tail.
DELAYS = Table(
    name="delays",
    version=1,
    columns={
        "symbol": pl.String(),
        "hour": pl.Int8(),
        "quantile": pl.Float64(),
        "delay_ns": pl.Int64(),
    },
    key=("symbol", "hour", "quantile"),
)

# What a replay's orders were filled at, one row a fill. `policy` is `paper` where decisions are filled at
# once without costs (then `latency` is `none`). `trade` counts the trades of a strategy and session, `fill`
# its fills. `decision_ts` is the sample moment whose decision opened the trade, `sent_ts` when the order left
# the trader, all on the collector's clock. `half_ticks` and `lots` are exact; `price`, `mid` (at the fill),
# `quantity` and `fee` are in quote currency and units of what is traded. `side` is that of the own order.
FILLS = Table(
    name="fills",
    version=1,
    columns={
        "expert": pl.String(),
        "policy": pl.String(),
        "latency": pl.String(),
        "symbol": pl.String(),
        "session": pl.String(),
        "fill": pl.Int64(),
        "trade": pl.Int64(),
        "entry": pl.Boolean(),
        "maker": pl.Boolean(),
        "side": pl.Int8(),
        "decision_ts": pl.Int64(),
        "sent_ts": pl.Int64(),
        "filled_ts": pl.Int64(),
        "half_ticks": pl.Int64(),
        "lots": pl.Int64(),
        "price": pl.Float64(),
        "mid": pl.Float64(),
        "quantity": pl.Float64(),
        "fee": pl.Float64(),
    },
    key=("expert", "policy", "latency", "symbol", "session", "fill"),
)

# What a replay's strategies earned in each step of time, in quote currency, marked at the mid: their sums are
# curves. `timestamp` is the end of the step on the collector's clock; `mid` and `position` (units of what is
# traded) are of that moment, `traded` is the value of the step's fills. `gross` less `fees` is net; `at_mid`
# is what the same fills would have earned at the mid of their moment.
CURVE = Table(
    name="curve",
    version=1,
    columns={
        "expert": pl.String(),
        "policy": pl.String(),
        "latency": pl.String(),
        "symbol": pl.String(),
        "timestamp": pl.Datetime("us", "UTC"),
        "session": pl.String(),
        "mid": pl.Float64(),
        "position": pl.Float64(),
        "traded": pl.Float64(),
        "at_mid": pl.Float64(),
        "gross": pl.Float64(),
        "fees": pl.Float64(),
    },
    key=("expert", "policy", "latency", "symbol", "timestamp"),
)
