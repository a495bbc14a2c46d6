"""Faults planted into simulated events, each at a moment of its own and told in the truth."""

from dataclasses import dataclass

import numpy as np

from components.contracts.documents.tick_truth import PlantedFault
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, SELL
from components.ticks.sources.simulator_config import SimulatorSettings

# Share of the session at both ends that stays clean.
CLEAN_ENDS = 0.05
# Kinds after which the collector asks for the whole book again, and when, in seconds.
ASKED_AGAIN = ("gaps", "out_of_order")
ASKED_AFTER_S = 2.0
LOST_MESSAGES = 5
HALTED_SHARE = 0.05
CROSSED_TICKS = 2


@dataclass
class Events:
    """The rows of a session, all arrays of one length; times in nanoseconds since the session's start, on the
    exchange's and the collector's clock. A message has one `ingest` of its own.
    """

    exchange: np.ndarray
    ingest: np.ndarray
    kind: np.ndarray
    side: np.ndarray
    price: np.ndarray
    quantity: np.ndarray
    update: np.ndarray
    previous: np.ndarray

    def take(self, rows: np.ndarray) -> "Events":
        """These rows, by mask or by number."""
        return Events(**{name: values[rows] for name, values in vars(self).items()})

    def with_more(self, more: "Events") -> "Events":
        """Followed by `more`, in the order of arrival; rows of one moment stay in the order given."""
        joined = {name: np.concatenate([values, getattr(more, name)]) for name, values in vars(self).items()}
        return Events(**joined).in_order()

    def in_order(self) -> "Events":
        """In the order of arrival."""
        return self.take(np.argsort(self.ingest, kind="stable"))


def fault_times(settings: SimulatorSettings, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """When which fault happens, seconds since the session's start: spread out evenly, in a drawn order."""
    counts = {kind: 1 if kind == "halt" else settings.fault_count for kind in settings.faults}
    counts.pop("numbering_reset", None)
    kinds = np.repeat(np.array(list(counts), dtype="U16"), list(counts.values()))
    kinds = rng.permutation(kinds)
    place = (np.arange(len(kinds)) + 0.5 + 0.5 * (rng.random(len(kinds)) - 0.5)) / max(len(kinds), 1)
    times = 60 * settings.session_minutes * (CLEAN_ENDS + (1 - 2 * CLEAN_ENDS) * place)
    return {kind: times[kinds == kind] for kind in counts}


def asked_again(times: dict[str, np.ndarray]) -> np.ndarray:
    """When the collector asks for the whole book, as it does after a broken chain; seconds, in order."""
    after = [times[kind] + ASKED_AFTER_S for kind in ASKED_AGAIN if kind in times]
    return np.sort(np.concatenate([np.empty(0), *after]))


def plant_faults(events: Events, times: dict[str, np.ndarray]) -> tuple[Events, list[PlantedFault]]:
    """The events with the faults of `times` in them, and what was planted. Halts are the kernel's, and a
    reset of the numbering is made where messages are numbered.
    """
    planted = []
    for kind, plant in PLANTED_HERE.items():
        for moment in times.get(kind, ()):
            events, fault = plant(events, int(moment * 1e9))
            planted.append(fault)
    return events, planted


def told(kind: str, events: Events, rows: np.ndarray) -> PlantedFault:
    """A fault in these rows; its moment is that of the first."""
    first = int(np.flatnonzero(rows)[0]) if rows.dtype == bool else int(rows[0])
    count = int(rows.sum()) if rows.dtype == bool else len(rows)
    exchange, ingest = int(events.exchange[first]), int(events.ingest[first])
    return PlantedFault(kind=kind, exchange_ts=exchange, ingest_ts=ingest, rows=count)


def _messages(events: Events, kind: int, moment: int, number: int) -> np.ndarray:
    """Moments of arrival of the next `number` messages of a kind from `moment` (exchange's clock) on."""
    rows = (events.kind == kind) & (events.exchange >= moment)
    return np.unique(events.ingest[rows])[:number]


def _lose(events: Events, moment: int) -> tuple[Events, PlantedFault]:
    """Depth messages that never arrived: the chain of updates is broken."""
    lost = np.isin(events.ingest, _messages(events, DEPTH, moment, LOST_MESSAGES))
    return events.take(~lost), told("gaps", events, lost)


def _repeat(events: Events, moment: int) -> tuple[Events, PlantedFault]:
    """A depth message that arrives a second time, after the next one."""
    first, following = _messages(events, DEPTH, moment, 2)
    again = events.take(events.ingest == first)
    again.ingest = np.full_like(again.ingest, following + 1)
    return events.with_more(again), told("duplicates", again, np.ones(len(again.kind), bool))


def _swap(events: Events, moment: int) -> tuple[Events, PlantedFault]:
    """Two depth messages that arrive in the wrong order."""
    early, late = _messages(events, DEPTH, moment, 2)
    first, second = events.ingest == early, events.ingest == late
    events.ingest = np.where(first, late, np.where(second, early, events.ingest))
    events = events.in_order()
    return events, told("out_of_order", events, events.ingest == early)


def _cross(events: Events, moment: int) -> tuple[Events, PlantedFault]:
    """An ask below the best bid, in the depth of one message until another takes it away, and in a quote."""
    quoted = _messages(events, QUOTE, moment, 1)[0]
    first, *_, last = _messages(events, DEPTH, moment, 6)
    bid = events.price[(events.ingest == quoted) & (events.side == BUY)][0]
    price = int(bid) - CROSSED_TICKS
    events.price = np.where((events.ingest == quoted) & (events.side == SELL), price, events.price)
    ends = [int(np.flatnonzero(events.ingest == moment)[-1]) for moment in (first, last)]
    rows = events.take(np.array(ends))
    rows.side, rows.price = np.full_like(rows.side, SELL), np.full_like(rows.price, price)
    rows.quantity = np.array([7, 0])
    events = events.with_more(rows)
    wrong = (events.price == price) & (events.side == SELL)
    wrong &= np.isin(events.ingest, [quoted, first, last])
    return events, told("crossed", events, wrong)


# A message that comes twice is one that was not lost, and so on: later kinds find what earlier ones left.
PLANTED_HERE = {"crossed": _cross, "out_of_order": _swap, "duplicates": _repeat, "gaps": _lose}
