"""What a simulated order-book market really is: what can be forecast in it, its clock, its faults. For
judging only: nothing that learns may read it.
"""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure

__all__ = [
    "TRUTH",
    "Attainable",
    "CollectorClock",
    "PlantedFault",
    "RegimeStart",
    "SessionTruth",
    "TickTruth",
]

TRUTH = "truth.json"


class Attainable(Part):
    """Rank correlation (Spearman) of the mid's return over a horizon with its expectation given the planted
    state: all of it, its linear part alone, and its non-linear part alone. None where nothing is planted.
    """

    horizon_ms: int
    moments: int
    rank_correlation: Figure
    linear: Figure
    nonlinear: Figure


class CollectorClock(Part):
    """`offset_ns` is what the collector's clock is ahead by at `at_ts` (exchange's clock), the least delay in
    it; it gains `drift_ns_per_s`.
    """

    at_ts: int
    offset_ns: int
    drift_ns_per_s: float
    least_delay_ns: int


class PlantedFault(Part):
    """A fault, by the first moment (exchange's and collector's clock) and the number of its rows."""

    kind: str
    exchange_ts: int
    ingest_ts: int
    rows: int


class RegimeStart(Part):
    """From when on (exchange's clock) which regime holds."""

    exchange_ts: int
    regime: str


class SessionTruth(Part):
    """One symbol's session."""

    symbol: str
    session: str
    attainable: list[Attainable]
    clock: CollectorClock
    regimes: list[RegimeStart]
    faults: list[PlantedFault]


class TickTruth(Document):
    """`planted` is what was asked for over one second; `attainable` the mean over symbols and sessions."""

    format: Literal[1] = 1
    seed: int
    planted: float
    attainable: list[Attainable]
    sessions: list[SessionTruth]
