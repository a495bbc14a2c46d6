"""Simulated order books as a source of events: symbols, sessions, regimes, a collector with a clock of its
own, and the truth about them. The same seed gives the same bytes, whichever sessions are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.documents.instruments import Instrument, Instruments
from components.contracts.documents.tick_truth import (
    CollectorClock,
    PlantedFault,
    RegimeStart,
    SessionTruth,
    TickTruth,
)
from components.contracts.tick_schemas import HALT, RAW_TICKS
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources import simulator_faults as faults
from components.ticks.sources import simulator_flow as flow
from components.ticks.sources.protocol import RecordedDay, Recording
from components.ticks.sources.simulator_alpha import GRID_S, attainable, mean_attainable, planted_flow
from components.ticks.sources.simulator_clock import arrivals
from components.ticks.sources.simulator_config import SimulatorSettings

TICK_SIZE = 0.01
LOT_SIZE = 1.0
# Symbols differ in how much a tick is worth: each starts this share of the first one's price higher.
PRICE_STEP = 0.25
# Events in a regime, over those in a calm market, and odds that a chance to widen the spread is taken.
ACTIVITY = {"calm": 1.0, "volatile": 2.0, "trending": 1.0}
WIDE = {"calm": 0.1, "volatile": 0.4, "trending": 0.1}
# Streams of random numbers, so that a switch leaves what it does not concern as it is.
REGIMES, FLOW, COLLECTOR, FAULTS = range(4)
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Made:
    """A simulated session of one symbol: its events as recorded, the truth, and the book at the end (prices
    of bid and ask in ticks; lots by side and level).
    """

    ticks: pl.DataFrame
    truth: SessionTruth
    touch: np.ndarray
    book: np.ndarray


def read(settings: Settings, data_folder: Path, seed: int) -> Recording:
    """Simulated events of `settings.symbols` and `settings.sessions`; see `protocol.py`."""
    simulator = settings.simulator
    symbols = _chosen("symbols", settings.symbols, symbol_names(simulator))
    sessions = _chosen("sessions", settings.sessions, session_names(simulator))
    told = _Told(simulator, seed)
    instrument = Instrument(tick_size=TICK_SIZE, lot_size=LOT_SIZE)
    return Recording(
        instruments=Instruments(symbols=dict.fromkeys(symbols, instrument)),
        days=told.days(symbols, sessions),
        truth=told.truth,
    )


@dataclass
class _Told:
    """The sessions as they are made, and the truth about those that were."""

    settings: SimulatorSettings
    seed: int
    sessions: list[SessionTruth] = field(default_factory=list)

    def days(self, symbols: list[str], sessions: list[str]) -> Iterator[RecordedDay]:
        for symbol in symbols:
            for session in sessions:
                made = simulate_session(self.settings, self.seed, symbol, session)
                self.sessions.append(made.truth)
                yield RecordedDay(symbol, session, made.ticks)

    def truth(self) -> TickTruth:
        return TickTruth(
            seed=self.seed,
            planted=self.settings.alpha.planted,
            attainable=mean_attainable([one.attainable for one in self.sessions]),
            sessions=self.sessions,
        )


def symbol_names(simulator: SimulatorSettings) -> list[str]:
    """Such as S1 to S4."""
    digits = len(str(simulator.symbols))
    return [f"S{number + 1:0{digits}d}" for number in range(simulator.symbols)]


def session_names(simulator: SimulatorSettings) -> list[str]:
    """The days on which sessions start, such as 2026-01-05."""
    days = [simulator.start + timedelta(days=number) for number in range(simulator.sessions)]
    return [f"{day:%Y-%m-%d}" for day in days]


def _chosen(what: str, wanted: tuple[str, ...] | None, there: list[str]) -> list[str]:
    unknown = sorted(set(wanted or ()) - set(there))
    if unknown:
        raise TicksError(
            f"ticks.{what} names {unknown[0]!r}, which the simulator does not make: it makes {there[0]} to"
            f" {there[-1]}. Name one of these, or ask for more in ticks.simulator."
        )
    return [name for name in there if wanted is None or name in wanted]


def simulate_session(simulator: SimulatorSettings, seed: int, symbol: str, session: str) -> Made:
    """One symbol's session. Regimes are the same for all symbols, everything else is drawn by symbol."""
    number, day = symbol_names(simulator).index(symbol), session_names(simulator).index(session)
    draws = [np.random.default_rng([seed, stream, day, number]) for stream in (FLOW, COLLECTOR, FAULTS)]
    start_ns = int((simulator.start + timedelta(days=day)).timestamp()) * 10**9
    planned = faults.fault_times(simulator, draws[2])
    if number != simulator.symbols - 1:
        planned.pop("halt", None)
    regimes, plan = _plan(simulator, np.random.default_rng([seed, REGIMES, day]), planned)
    planted = planted_flow(simulator)
    price = round(simulator.price_ticks * (1 + PRICE_STEP * number))
    rows, states, touch, book = flow.simulate_flow(draws[0], planted, plan, price, GRID_S)
    events = _recorded(rows, simulator, draws[1])
    events, there = faults.plant_faults(events, planned)
    ticks, resets = _frame(events, simulator, start_ns, symbol, session)
    there += [faults.told("halt", events, events.kind == HALT)] if "halt" in planned else []
    truth = SessionTruth(
        symbol=symbol,
        session=session,
        attainable=attainable(states, planted, 60 * simulator.regime_minutes),
        clock=_clock(simulator, start_ns),
        regimes=[RegimeStart(exchange_ts=start_ns + int(at * 1e9), regime=name) for at, name in regimes],
        faults=[_since_1970(fault, start_ns) for fault in there] + resets,
    )
    return Made(ticks, truth, touch, book)


def _plan(
    simulator: SimulatorSettings, rng: np.random.Generator, planned: dict[str, np.ndarray]
) -> tuple[list[tuple[float, str]], flow.Plan]:
    """Regimes by their start in seconds, and what the kernel needs to know beforehand."""
    seconds = 60 * simulator.session_minutes
    regimes, directions, at = [], [], 0.0
    while at < seconds:
        others = [one for one in simulator.regimes if not regimes or one != regimes[-1][1]]
        name = str(rng.choice(others or simulator.regimes))
        regimes.append((at, name))
        directions.append(rng.choice([-1.0, 1.0]) if name == "trending" else 0.0)
        at += rng.exponential(60 * simulator.regime_minutes)
    halts = planned.get("halt", np.empty(0))
    plan = flow.Plan(
        seconds=seconds,
        regime_starts=np.array([at for at, _ in regimes] + [np.inf]),
        activity=np.array([ACTIVITY[name] for _, name in regimes]),
        trend=np.array(directions),
        wide=np.array([WIDE[name] for _, name in regimes]),
        snapshots=np.append(faults.asked_again(planned), np.inf),
        halts=np.array([*([at, at + faults.HALTED_SHARE * seconds] for at in halts), [np.inf, np.inf]]),
    )
    return regimes, plan


def _recorded(rows: np.ndarray, simulator: SimulatorSettings, rng: np.random.Generator) -> faults.Events:
    """The kernel's rows with the moments of their arrival."""
    message = rows[:, flow.MESSAGE] - rows[0, flow.MESSAGE]
    firsts = np.flatnonzero(np.diff(message, prepend=-1))
    arrived = arrivals(
        rows[firsts, flow.TIME],
        rows[firsts, flow.EVENT],
        simulator.collector,
        60 * simulator.session_minutes,
        rng,
    )
    columns = (flow.KIND, flow.SIDE, flow.PRICE, flow.QUANTITY, flow.UPDATE, flow.PREVIOUS)
    return faults.Events(rows[:, flow.TIME], arrived[message], *(rows[:, column] for column in columns))


def _frame(
    events: faults.Events, simulator: SimulatorSettings, start_ns: int, symbol: str, session: str
) -> tuple[pl.DataFrame, list[PlantedFault]]:
    """RAW_TICKS, and the reset of its numbering where one was asked for: at midnight of the collector."""
    message = np.cumsum(np.diff(events.ingest, prepend=events.ingest[0]) != 0)
    ingest = start_ns + events.ingest
    resets = []
    if "numbering_reset" in simulator.faults:
        after = ingest // DAY_NS > ingest[0] // DAY_NS
        if after.any():
            resets = [_since_1970(faults.told("numbering_reset", events, after), start_ns)]
            message = np.where(after, message - message[after][0], message)
    frame = pl.DataFrame(
        {
            "symbol": pl.repeat(symbol, len(message), eager=True),
            "session": pl.repeat(session, len(message), eager=True),
            "sequence": np.arange(len(message)),
            "message": message,
            "exchange_ts": start_ns + events.exchange,
            "ingest_ts": ingest,
            "kind": events.kind,
            "side": events.side,
            "price": events.price,
            "quantity": events.quantity,
            "order_id": np.zeros(len(message), np.int64),
            "update_id": events.update,
            "previous_update_id": events.previous,
        }
    )
    return frame.cast(RAW_TICKS.columns), resets


def _clock(simulator: SimulatorSettings, start_ns: int) -> CollectorClock:
    collector = simulator.collector
    return CollectorClock(
        at_ts=start_ns,
        offset_ns=round((collector.offset_ms + collector.least_delay_ms) * 1e6),
        drift_ns_per_s=collector.drift_ms_a_minute / 60 * 1e6,
        least_delay_ns=round(collector.least_delay_ms * 1e6),
    )


def _since_1970(fault: PlantedFault, start_ns: int) -> PlantedFault:
    moments = {"exchange_ts": fault.exchange_ts + start_ns, "ingest_ts": fault.ingest_ts + start_ns}
    return fault.model_copy(update=moments)
