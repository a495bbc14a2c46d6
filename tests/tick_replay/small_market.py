"""Small markets and single decisions: what tests of the replay have in common. Times are in milliseconds."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL
from components.tick_replay.arrays import Decisions, Delays, Rows
from components.tick_replay.config import Settings
from components.tick_replay.day import Plan, Replayed, replay

MS = 1_000_000
# Whole seconds, so that times are easy to read off.
START = 1_700_000_000_000 * MS
# A tick is a cent, a lot one share: half a tick times a lot is half a cent.
CENTS = Instrument(tick_size=0.01, lot_size=1.0)
ABOUT = {"symbol": "X", "session": "day"}


def events(*messages: tuple[float, list[tuple[int, ...]]]) -> Rows:
    """Messages (ms, rows), a row being (kind, side, price, quantity, order number)."""
    flat = [
        (START + round(at * MS), *row[:4], row[4] if len(row) > 4 else 0, number)
        for number, (at, rows) in enumerate(messages)
        for row in rows
    ]
    return Rows(*np.array(flat, np.int64).reshape(-1, 7).T.copy())


def quote(bid: int, bid_lots: int, ask: int, ask_lots: int) -> list[tuple[int, ...]]:
    return [(QUOTE, BUY, bid, bid_lots), (QUOTE, SELL, ask, ask_lots)]


def depth(bids: dict[int, int], asks: dict[int, int]) -> list[tuple[int, ...]]:
    return [(DEPTH, BUY, *one) for one in bids.items()] + [(DEPTH, SELL, *one) for one in asks.items()]


def decisions(
    wanted: dict[float, float] | Sequence[dict[float, float]], holds_ms: float = 1_000
) -> Decisions:
    """Shares of the capital by moment, of one expert or of several."""
    experts = [wanted] if isinstance(wanted, dict) else list(wanted)
    moments = sorted(set().union(*experts))
    at = np.array([START + round(moment * MS) for moment in moments], np.int64)
    shares = np.array([[own.get(moment, 0.0) for moment in moments] for own in experts], float)
    return Decisions(at, np.full(len(at), round(holds_ms * MS), np.int64), shares)


def delays(made: Decisions, *, feed_ms: float = 0, order_ms: float = 0, cancel_ms: float = 0) -> Delays:
    """None for paper, and these for the one other latency."""

    def both(milliseconds: float | Sequence[float]) -> np.ndarray:
        values = np.broadcast_to(np.array(milliseconds, float) * MS, len(made.at)).astype(np.int64)
        return np.stack([np.zeros_like(values), values])

    feed = both(feed_ms)
    known = made.at + feed
    which = np.argsort(known, axis=1, kind="stable")
    return Delays(feed, both(order_ms), both(cancel_ms), np.take_along_axis(known, which, axis=1), which)


def settings(policy: str, *, capital: float = 1_000.0, **more) -> Settings:
    """With a capital of 1,000, a share of 0.1 at a price of 100 is a lot."""
    fees = {"maker_fee_bps": 0.0, "taker_fee_bps": 0.0}
    return Settings(policies=(policy,), capital=capital, **{**fees, **more})


def replayed(rows: Rows, made: Decisions, policy: str, *, late: Delays | None = None, **more) -> Replayed:
    """Paper and one policy over a market of CENTS."""
    given = settings(policy, **more)
    experts = [chr(ord("a") + n) for n in range(len(made.wanted))]
    plan = Plan.of(experts, ["none", "late"], given)
    return replay(rows, made, late or delays(made), plan, given, CENTS, ABOUT)


def fills(found: Replayed, policy: str, expert: str = "a") -> list[tuple]:
    """`entry`, `maker`, `side`, ms, half ticks and lots of each fill."""
    own = found.fills.filter((pl.col("policy") == policy) & (pl.col("expert") == expert)).sort("fill")
    at = (own["filled_ts"] - START) / MS
    columns = (own["entry"], own["maker"], own["side"], at, own["half_ticks"], own["lots"])
    return list(zip(*columns, strict=True))


def total(found: Replayed, policy: str, *columns: str) -> float:
    """Of the curve; what is earned less fees where no column is named."""
    own = found.curve.filter(pl.col("policy") == policy)
    if columns:
        return sum(own[name].sum() for name in columns)
    return own["gross"].sum() - own["fees"].sum()


def counts(found: Replayed, policy: str) -> dict[str, int]:
    return found.orders.filter(pl.col("policy") == policy).row(0, named=True)
