"""The order in which a session's rows count: the chain of depth updates followed, and what crosses
touch or book taken out.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts import mapped_columns
from components.contracts.tick_schemas import BUY, SNAPSHOT, TICKS
from components.ticks.chain import (
    BREAKS,
    DUPLICATE,
    HELD,
    LATE,
    SUPERSEDED,
    UNKNOWN,
    Chained,
    Messages,
    chained,
)
from components.ticks.clock import Followed
from components.ticks.crossed import SHOWN, crossed
from components.ticks.work import LEVELS, OK, Work, among, marked

# What stands where the book becomes unknown.
CLEARED = {"kind": SNAPSHOT, "side": BUY, "price": 0, "quantity": 0}


@dataclass(frozen=True)
class Ordered:
    """Rows in the order in which they count: `row` is the place among the raw rows, `anchor` the message with
    which it counts, in its `turn`; where it `clears`, a snapshot of nothing stands for it.
    """

    row: np.ndarray
    anchor: np.ndarray
    turn: np.ndarray
    clears: np.ndarray

    def at(self, places: np.ndarray) -> "Ordered":
        return Ordered(self.row[places], self.anchor[places], self.turn[places], self.clears[places])

    def messages(self) -> np.ndarray:
        """Messages counted from 0."""
        starts = np.ones(len(self.row), bool)
        starts[1:] = (np.diff(self.anchor) != 0) | (np.diff(self.turn) != 0)
        messages = np.cumsum(starts, dtype=np.int64)
        messages -= 1
        return messages


def in_order(work: Work) -> Ordered:
    """The sound rows in the order in which they count; others go to quarantine, or are told of."""
    heads = work.first_of_messages(work.sound(*LEVELS))
    columns = (work.column(name)[heads] for name in ("ingest_ts", "update_id", "previous_update_id"))
    keep = work.settings.checks.after_broken_chain == "keep"
    link = chained(Messages(work.column("kind")[heads] == SNAPSHOT, *columns), keep_after_break=keep)
    levels = work.sound(*LEVELS)
    number = work.of[heads]
    _judge_chain(work, link, heads, keep)
    elsewhere = (link.fate == HELD) | (link.fate == SUPERSEDED) | (link.fate == UNKNOWN)
    gone = work.is_of(*LEVELS) & among(work.of, number[elsewhere])
    stays = np.flatnonzero((work.why == OK) & ~gone).astype(work.of.dtype)
    parts, of_levels = [_together(stays, work.of[stays], 0)], work.of[levels]
    for turn, (moved, anchor) in enumerate(zip(link.moved, link.anchor, strict=True), start=1):
        first, last = np.searchsorted(of_levels, [number[moved], number[moved] + 1])
        parts.append(_together(levels[first:last], np.full(last - first, number[anchor]), turn))
    if not keep:
        parts.append(_clearing(work, number[link.fate == BREAKS]))
    return _sorted(parts)


def _judge_chain(work: Work, link: Chained, heads: np.ndarray, keep: bool) -> None:
    """Mark and tell what the chain says of its messages."""
    fate, number = link.fate, work.of[heads]
    moved = marked(len(fate), link.moved)
    breaks, held = fate == BREAKS, fate == HELD
    gone = (fate == UNKNOWN) | (breaks & (not keep))
    of_levels = work.is_of(*LEVELS)
    faults = ((fate == DUPLICATE, "duplicate"), (fate == LATE, "late"), (gone, "after_broken_chain"))
    for which, reason in faults:
        work.fault(of_levels & among(work.of, number[which & ~moved]), reason)
    work.tell("broken_chain", heads[breaks])
    work.tell("put_in_order", heads[held])
    work.tell("superseded", heads[(fate == SUPERSEDED) & ~moved])
    work.tell("numbering_reset", heads[link.resets])
    work.tell("replayed", heads[link.moved[~held[link.moved]]])


def without_crossed(work: Work, ordered: Ordered) -> tuple[Ordered, int, int]:
    """The rows without those that cross touch or book; how many states there were, and how many were crossed.
    A snapshot of which nothing is left still clears.
    """
    found = crossed(pl.DataFrame([_shown(work, ordered, name) for name in SHOWN]))
    for rows, reason in ((found.quotes, "crossed_quote"), (found.levels, "crossed_book")):
        work.fault(marked(len(work.why), ordered.row[rows & ~ordered.clears]), reason)
    sent = (work.why[ordered.row] == OK) | ordered.clears
    left = ordered.at(sent)
    is_snapshot = work.column("kind")[ordered.row] == SNAPSHOT
    lost = np.unique(work.of[ordered.row[~sent & is_snapshot]])
    emptied = lost[~np.isin(lost, work.of[ordered.row[sent & is_snapshot]])]
    if len(emptied):
        left = _sorted([left, _clearing(work, emptied)])
    return left, found.states, found.crossed_states


def as_ticks(work: Work, ordered: Ordered, clock: Followed) -> pl.DataFrame:
    """TICKS with rows and messages counted anew, and the clock as it was known when they were received; made
    a column at a time, and mapped.
    """
    of_clock = {"offset_ns": clock.offset_ns, "delay_ns": clock.delay_ns}

    def column(name: str) -> pl.Series:
        if name in of_clock:
            return pl.Series(name, of_clock[name][work.of[ordered.row]])
        if name == "sequence":
            return pl.int_range(len(ordered.row), dtype=pl.Int64, eager=True).alias(name)
        if name == "ingest_ts":
            return pl.Series(name, work.column(name)[work.heads[ordered.anchor]])
        return _shown(work, ordered, name)

    names = [*TICKS.columns, *of_clock]
    return mapped_columns(lambda some: pl.DataFrame(map(column, some)), names, len(ordered.row))


def _shown(work: Work, ordered: Ordered, name: str) -> pl.Series:
    """A column of ordered rows, with messages counted anew."""
    if name == "message":
        return pl.Series(name, ordered.messages())
    column = work.rows[name][ordered.row]
    if name not in CLEARED or not ordered.clears.any():
        return column
    clearing = pl.Series([CLEARED[name]], dtype=column.dtype)
    return clearing.zip_with(pl.Series(ordered.clears), column).alias(name)


def _clearing(work: Work, messages: np.ndarray) -> Ordered:
    """A row for each message at which the book becomes unknown."""
    rows = work.heads[messages]
    return _together(rows, messages, 0, clears=True)


def _together(rows: np.ndarray, anchor: np.ndarray, turn: int, *, clears: bool = False) -> Ordered:
    return Ordered(rows, anchor, np.full(len(rows), turn, np.int32), np.full(len(rows), clears))


def _sorted(parts: list[Ordered]) -> Ordered:
    """The rows of all parts by anchor, turn and place."""
    some = [part for part in parts if len(part.row)] or parts[:1]
    if len(some) == 1:
        return some[0]
    names = ("row", "anchor", "turn", "clears")
    whole = Ordered(*(np.concatenate([getattr(part, name) for part in some]) for name in names))
    return whole.at(np.lexsort((whole.row, whole.turn, whole.anchor)))
