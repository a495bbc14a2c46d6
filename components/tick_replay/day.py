"""One symbol's session: all strategies replayed over its events, and what came of it as tables in money."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument
from components.contracts.tick_schemas import CURVE, FILLS
from components.order_book.desk import LEFT
from components.order_book.state import new_book
from components.tick_replay import arrays
from components.tick_replay.arrays import (
    AT_ONCE_POLICY,
    POLICIES,
    Decisions,
    Delays,
    Rows,
    Rules,
    Scene,
    new_scene,
)
from components.tick_replay.config import Settings
from components.tick_replay.delays import AT_ONCE

NS_A_SECOND = 1_000_000_000
# Millionths in a basis point.
BASIS_POINT = 100
ROW_COLUMNS = ("ingest_ts", "kind", "side", "price", "quantity", "order_id", "message")
COUNTS = {
    "orders": arrays.ORDERS,
    "sent_lots": arrays.SENT_LOTS,
    "filled_lots": arrays.FILLED_LOTS,
    "maker_lots": arrays.MAKER_LOTS,
    "cancelled_lots": arrays.CANCELLED_LOTS,
    "cancels": arrays.CANCELS,
    "failed_cancels": arrays.FAILED_CANCELS,
    "missed_trades": arrays.MISSED,
}


@dataclass(frozen=True)
class Plan:
    """The strategies by number: expert, policy and latency of each; paper comes first for every expert."""

    experts: Sequence[str]
    latencies: Sequence[str]
    strategies: Sequence[tuple[str, str, str]]

    @classmethod
    def of(cls, experts: Sequence[str], latencies: Sequence[str], settings: Settings) -> "Plan":
        later = [name for name in latencies if name != AT_ONCE]
        found = []
        for expert in experts:
            found.append((expert, AT_ONCE_POLICY, AT_ONCE))
            found += [(expert, policy, name) for policy in settings.policies for name in later]
        return cls(experts, latencies, found)

    def numbers(self) -> np.ndarray:
        """(strategies, 3), as `Scene.plan`."""
        rows = [
            (self.experts.index(expert), POLICIES.index(policy), self.latencies.index(latency))
            for expert, policy, latency in self.strategies
        ]
        return np.array(rows, np.int64).reshape(-1, 3)


@dataclass(frozen=True)
class Replayed:
    """FILLS and CURVE rows of one symbol's session, unsorted, and what became of orders: a row a strategy."""

    fills: pl.DataFrame
    curve: pl.DataFrame
    orders: pl.DataFrame


def rules_of(settings: Settings, instrument: Instrument) -> Rules:
    """The settings as the loop takes them."""
    return Rules(
        capital=settings.capital / unit_of(instrument),
        most=settings.max_position,
        patience_ns=round(settings.patience_ms * 1e6),
        trades_at_once=settings.trades_at_once,
        renews=settings.same_side == "renew",
        in_proportion=settings.cancels == "proportional",
        apart_ns=round(settings.apart_ms * 1e6),
        at_touch=settings.paper_price == "touch",
        maker_millionths=round(settings.maker_fee_bps * BASIS_POINT),
        taker_millionths=round(settings.taker_fee_bps * BASIS_POINT),
    )


def unit_of(instrument: Instrument) -> float:
    """What half a tick times a lot is worth."""
    return instrument.tick_size * instrument.lot_size / 2


def rows_of(columns: dict[str, np.ndarray]) -> Rows:
    """The events by their columns ROW_COLUMNS, which are taken out."""
    return Rows(*(columns.pop(name).astype(np.int64, copy=False) for name in ROW_COLUMNS))


def spreads(rows: Rows, at: np.ndarray) -> np.ndarray:
    """Best ask less best bid at moments (ns, rising), over the mid; NaN where nothing can be traded."""
    from components.tick_replay.kernel import touches

    touch = np.zeros((len(at), 2), np.int64)
    touches(rows, new_book(), at, touch)
    bid, ask = touch.T.astype(float)
    return np.divide(ask - bid, (bid + ask) / 2, out=np.full(len(at), np.nan), where=bid > 0)


def ages_ns(times: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How long before each moment the last event by then came; NEVER where none has."""
    last = np.searchsorted(times, at, side="right") - 1
    return (
        np.where(last >= 0, at - times[last], arrays.NEVER) if len(times) else np.full(len(at), arrays.NEVER)
    )


def replay(
    rows: Rows,
    decisions: Decisions,
    delays: Delays,
    plan: Plan,
    settings: Settings,
    instrument: Instrument,
    about: Mapping[str, str],
) -> Replayed:
    """All strategies over the events of one symbol's session; `about` holds `symbol` and `session`."""
    bounds = step_ends(rows.time, settings.step_seconds)
    scene = new_scene(rows, decisions, delays, rules_of(settings, instrument), plan.numbers(), bounds)
    log = _run(scene)
    names = pl.DataFrame(list(plan.strategies), schema=["expert", "policy", "latency"], orient="row")
    names = names.with_columns(**{name: pl.lit(value) for name, value in about.items()})
    return Replayed(
        _fills(log, names, decisions.at, settings, instrument),
        _curve(scene, names, instrument),
        _orders(scene, names),
    )


def step_ends(times: np.ndarray, step_seconds: float) -> np.ndarray:
    """The ends of the steps of a session in ns, whole multiples of their length."""
    if not len(times):
        return np.zeros(0, np.int64)
    step = round(step_seconds * NS_A_SECOND)
    return np.arange(times[0] // step + 1, -(-(times[-1] + 1) // step) + 1) * step


def _run(scene: Scene) -> np.ndarray:
    """Go through all events; what was filled."""
    # Imported here: what compiles comes late, for numba is slow to load.
    from components.tick_replay.kernel import run

    parts, over = [], False
    while not over:
        over = run(scene)
        parts.append(scene.log[: scene.cursor[arrays.LOGGED]].copy())
        scene.cursor[arrays.LOGGED] = 0
    return np.concatenate(parts)


def _fills(
    log: np.ndarray, names: pl.DataFrame, at: np.ndarray, settings: Settings, instrument: Instrument
) -> pl.DataFrame:
    strategy, maker = log[:, arrays.LOG_STRATEGY], log[:, arrays.LOG_MAKER].astype(bool)
    price, lots = log[:, arrays.LOG_PRICE], log[:, arrays.LOG_LOTS]
    rate = np.where(maker, settings.maker_fee_bps, settings.taker_fee_bps) / 1e4
    paper = (names["policy"] == AT_ONCE_POLICY).to_numpy()[strategy]
    half = instrument.tick_size / 2
    frame = names[strategy].with_columns(
        trade=log[:, arrays.LOG_TRADE],
        entry=pl.Series(log[:, arrays.LOG_ENTRY].astype(bool)),
        maker=pl.Series(maker),
        side=log[:, arrays.LOG_SIDE].astype(np.int8),
        decision_ts=at[log[:, arrays.LOG_DECISION]] if len(log) else np.zeros(0, np.int64),
        sent_ts=log[:, arrays.LOG_SENT_AT],
        filled_ts=log[:, arrays.LOG_AT],
        half_ticks=price,
        lots=lots,
        price=price * half,
        mid=log[:, arrays.LOG_MID] * half,
        quantity=lots * instrument.lot_size,
        fee=np.where(paper, 0.0, price * lots * unit_of(instrument) * rate),
    )
    number = pl.int_range(pl.len()).over("expert", "policy", "latency").alias("fill")
    return frame.with_columns(number).select(*FILLS.columns)


def _curve(scene: Scene, names: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """What each strategy earned in each step: (strategies x steps) rows, by strategy."""
    steps, strategies = scene.curve.shape[:2]
    unit, mid = unit_of(instrument), scene.curve_mid[:, None]
    position = scene.curve[:, :, arrays.POSITION]
    worth = position * mid
    gross = _changes(scene.curve[:, :, arrays.CASH] + worth) * unit
    at_mid = _changes(scene.curve[:, :, arrays.CASH_AT_MID] + worth) * unit
    whole, rest = (_changes(scene.curve[:, :, field]) for field in (arrays.FEES, arrays.FEES_REST))
    figures = {
        "mid": np.broadcast_to(mid * instrument.tick_size / 2, (steps, strategies)),
        "position": position * instrument.lot_size,
        "traded": _changes(scene.curve[:, :, arrays.TRADED]) * unit,
        "at_mid": at_mid,
        "gross": gross,
        "fees": (whole + rest / arrays.MILLION) * unit,
    }
    frame = names[np.repeat(np.arange(strategies), steps)]
    ends = pl.Series(np.tile(scene.bounds // 1_000, strategies)).cast(CURVE.columns["timestamp"])
    frame = frame.with_columns(timestamp=ends, **{name: values.T.ravel() for name, values in figures.items()})
    return frame.select(*CURVE.columns)


def _changes(values: np.ndarray) -> np.ndarray:
    """From one bound to the next, all that came before the first one in the first."""
    return np.diff(values, axis=0, prepend=np.zeros((1, *values.shape[1:]), values.dtype))


def _orders(scene: Scene, names: pl.DataFrame) -> pl.DataFrame:
    counts = {name: scene.ledger[:, field] for name, field in COUNTS.items()}
    left = scene.desk.orders[:, :, LEFT].sum(axis=1)
    on_the_way = scene.trades[:, :, arrays.ORDER] == arrays.SENT
    left = left + (scene.trades[:, :, arrays.ORDER_LOTS] * on_the_way).sum(axis=1)
    held = (scene.trades[:, :, arrays.HELD] > 0) & (scene.trades[:, :, arrays.STATE] != arrays.FREE)
    return names.with_columns(**counts, open_lots=left, open_trades=held.sum(axis=1))
