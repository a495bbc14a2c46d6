"""What was read of order-book events, and what their validation found."""

from typing import Any, Literal

from components.contracts.documents import Document, Part

__all__ = [
    "ClockQuality",
    "DayQuality",
    "Expectation",
    "Finding",
    "ReadDay",
    "TickQuality",
    "TickReport",
]


class ReadDay(Part):
    """One symbol's session as its source had it; times are the collector's, nanoseconds since 1970."""

    symbol: str
    session: str
    rows: int
    messages: int
    first_ts: int
    last_ts: int
    kinds: dict[str, int]


class TickReport(Document):
    """What `ingest_ticks` read."""

    format: Literal[1] = 1
    source: str
    days: list[ReadDay]
    notes: list[str]


class Finding(Part):
    """One thing that was found in a symbol's session: in how many rows (quarantine), or how often (told), and
    some of them.

    `amount` adds up what is told of: messages that are lost, milliseconds of silence.
    """

    reason: str
    severity: Literal["quarantine", "told"]
    count: int
    amount: int
    examples: list[dict[str, Any]]


class ClockQuality(Part):
    """The collector's clock against the exchange's in milliseconds, and the delays of messages beyond the
    fastest. `known` is false where a source has one clock only; then all is 0.

    `offset_first_ms` is what it was after a hundredth of the messages; `course`: (seconds since the start,
    offset in ms) at moments from there on.
    """

    known: bool
    stamped_messages: int
    offset_first_ms: float
    offset_last_ms: float
    drift_ms_a_minute: float
    delay_p50_ms: float
    delay_p95_ms: float
    delay_p99_ms: float
    delay_max_ms: float
    course: list[tuple[float, float]]


class DayQuality(Part):
    """One symbol's session. `states` are those of touch and book after messages."""

    symbol: str
    session: str
    rows_in: int
    rows_out: int
    rows_quarantined: int
    messages: int
    first_ts: int
    last_ts: int
    states: int
    crossed_states: int
    longest_silence_ms: float
    findings: list[Finding]
    clock: ClockQuality


class Expectation(Part):
    """One expectation of Great Expectations over the symbol-sessions, and how it came out."""

    check: str
    column: str
    critical: bool
    passed: bool
    says: str
    remedy: str
    observed: str
    days: list[str]


class TickQuality(Document):
    """What `validate_ticks` found; `floor_ms` is what the fastest message is taken to need, which is in no
    delay.
    """

    format: Literal[1] = 1
    verdict: Literal["passed", "failed"]
    floor_ms: float
    days: list[DayQuality]
    expectations: list[Expectation]
