"""Every fault that the checks of events know: its name, how grave it is, and what to do about it.

`quarantine`: the rows are set aside. `told`: counted and shown, the rows stay (or are put where they belong).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """One kind of fault."""

    reason: str
    severity: Literal["quarantine", "told"]
    says: str
    remedy: str


RULES = (
    Rule(
        "impossible_value",
        "quarantine",
        "a price of 0 or less, a quantity below 0, or 0 where something came or was traded, or no such side",
        "Look at the source's reader or export; ticks.instruments may name a wrong tick or lot size.",
    ),
    Rule(
        "duplicate",
        "quarantine",
        "a row or message that came before, by its content or its update id",
        "The collector took one stream twice, or the recording was joined with itself.",
    ),
    Rule(
        "time_back",
        "quarantine",
        "the collector's clock falls: the fewest messages without which it never does are set aside",
        "Sort the recording by the collector's clock if it was written out of order, else mend its clock.",
    ),
    Rule(
        "exchange_clock_off",
        "quarantine",
        "the exchange's time is further from the collector's than ticks.checks.max_offset_ms",
        "Check unit and zone of both times; raise the limit if the collector's clock is known to be off.",
    ),
    Rule(
        "late",
        "quarantine",
        "a quote, trade or depth update whose id is below one that came before",
        "Messages overtook each other on their way; one stream a connection keeps them in order.",
    ),
    Rule(
        "after_broken_chain",
        "quarantine",
        "a depth update after one that was lost, and before the next snapshot: the book is unknown there",
        "Let the collector fetch a snapshot after a break, or set ticks.checks.after_broken_chain to keep.",
    ),
    Rule(
        "crossed_quote",
        "quarantine",
        "a best bid at or above the best ask",
        "A touch that can be traded with itself was never quoted: check how the two sides were joined.",
    ),
    Rule(
        "crossed_book",
        "quarantine",
        "a level on one side that lies at or beyond the best of the other side after its message",
        "Levels that should have been deleted were lost, or two books were mixed: check the update chain.",
    ),
    Rule(
        "while_halted",
        "quarantine",
        "something traded between a halt and the resumption",
        "Check the source's messages of halts.",
    ),
    Rule(
        "far_price",
        "quarantine",
        "a quote or trade further than ticks.checks.max_price_jump from the median of the 511 before it",
        "Look at the rows; raise the limit if the market did move that far.",
    ),
    Rule("broken_chain", "told", "a depth update does not continue the one before it: some were lost", ""),
    Rule(
        "put_in_order",
        "told",
        "a depth update overtook its forerunner and counts from that one's arrival",
        "",
    ),
    Rule("replayed", "told", "a depth update from before a snapshot, applied to it because it is newer", ""),
    Rule("superseded", "told", "a depth update that the snapshot contains already, left out", ""),
    Rule("lost_messages", "told", "numbers that the collector gave and that are not there", ""),
    Rule("numbering_reset", "told", "the collector's numbers, or update ids, start anew with a new day", ""),
    Rule("numbering_back", "told", "the collector's numbers fall within a day", ""),
    Rule(
        "exchange_time_back",
        "told",
        "the exchange's time falls between messages of one kind",
        "",
    ),
    Rule("silence", "told", "no event for longer than ticks.checks.silence_ms", ""),
    Rule("halt", "told", "the exchange halted the symbol", ""),
    Rule("drift", "told", "the collector's clock drifts more than ticks.checks.max_drift_ms_a_minute", ""),
)
QUARANTINED = tuple(rule.reason for rule in RULES if rule.severity == "quarantine")
BY_REASON = {rule.reason: rule for rule in RULES}
