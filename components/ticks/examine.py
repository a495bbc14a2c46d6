"""One symbol's session examined: its rows parted into those that can be relied on and the quarantine, the
book's chain put in order, its clock followed, and what else there is to tell.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.tick_schemas import (
    ADD,
    BUY,
    EXECUTE,
    HALT,
    HIDDEN,
    QUOTE,
    REDUCE,
    RESUME,
    SELL,
    SNAPSHOT,
    TICKS,
    TRADE,
)
from components.ticks.clock import Followed, follow
from components.ticks.config import Settings
from components.ticks.far import far_prices
from components.ticks.in_order import as_ticks, in_order, without_crossed
from components.ticks.order import ANEW, BEHIND, REPEATED, order_of_ids, out_of_time
from components.ticks.rules import QUARANTINED
from components.ticks.work import DAY_NS, LEVELS, MS, NUMBERED, OK, Work, among, marked

TRADED = (TRADE, EXECUTE, HIDDEN)
SHOWN = ("of", "kind", "side", "price", "quantity", "update_id")
# Whether a row came before in its message. Hashes of 64 bits: two rows of a message differ and hash alike
# once in more days than anybody records.
SAID_ONCE = pl.col("kind").is_in([*LEVELS, QUOTE]) | ((pl.col("kind") == TRADE) & (pl.col("update_id") != 0))
SAID_AGAIN = ~pl.struct(SHOWN).hash().is_first_distinct() & SAID_ONCE


@dataclass(frozen=True)
class Examined:
    """`ticks`: TICKS with offset and delay; `quarantine`: raw rows with their `reason`; `told`: a row
    (reason, sequence, ingest_ts, amount) for each thing that is told; `states` of touch and book, and how
    many of them were crossed; `clock` over the messages as they came, `heads` the first raw row of each, and
    which of them are `stamped`.
    """

    ticks: pl.DataFrame
    quarantine: pl.DataFrame
    told: pl.DataFrame
    states: int
    crossed_states: int
    clock: Followed
    heads: np.ndarray
    stamped: np.ndarray


def examine(raw: pl.DataFrame, settings: Settings) -> Examined:
    """Examine the RAW_TICKS of one symbol's session."""
    work = Work(raw.rechunk(), settings)
    _check_values(work)
    _check_times(work)
    _check_repeats(work)
    _check_ids(work)
    _check_halts(work)
    _check_far(work)
    clock, stamped = _clock(work)
    left, states, bad_states = without_crossed(work, in_order(work))
    _tell_numbers(work)
    _tell_times(work)
    _tell_drift(work, clock, stamped)
    return Examined(
        as_ticks(work, left, clock),
        _set_aside(work),
        pl.concat(work.told),
        states,
        bad_states,
        clock,
        work.heads,
        stamped,
    )


def _set_aside(work: Work) -> pl.DataFrame:
    rows = np.flatnonzero(work.why != OK)
    codes = pl.Series("reason", work.why[rows])
    reasons = codes.replace_strict(dict(enumerate(QUARANTINED)), return_dtype=pl.String)
    return work.rows[rows].select(*TICKS.columns, reasons)


def _check_values(work: Work) -> None:
    """Values that can't be."""
    kind, side = pl.col("kind"), pl.col("side")
    sided = ~kind.is_in([TRADE, HALT, RESUME])
    must_have = kind.is_in([TRADE, ADD, REDUCE, EXECUTE, HIDDEN])
    empty = (pl.col("quantity") == 0) & kind.is_in([SNAPSHOT, QUOTE])
    wrong = (
        ~kind.is_between(SNAPSHOT, RESUME)
        | (pl.col("quantity") < 0)
        | (must_have & (pl.col("quantity") == 0))
        | ((pl.col("price") <= 0) & ~kind.is_in([HALT, RESUME]) & ~empty)
        | ~side.is_in([BUY, SELL, 0])
        | (sided & (side == 0) & ~empty)
    )
    work.fault(work.rows.select(wrong).to_series().to_numpy(), "impossible_value")


def _check_times(work: Work) -> None:
    """Messages whose clock falls, or whose two clocks are too far apart."""
    ingest, exchange = (work.column(name)[work.heads] for name in ("ingest_ts", "exchange_ts"))
    work.fault(out_of_time(ingest)[work.of], "time_back")
    apart = np.abs(ingest - exchange) > work.settings.checks.max_offset_ms * MS
    work.fault((apart & (exchange != 0))[work.of], "exchange_clock_off")


def _check_repeats(work: Work) -> None:
    """Rows that stand twice in one message, and orders that came before."""
    repeated = np.zeros(len(work.why), bool)
    for part in work.parts():
        rows = work.rows[part].with_columns(pl.Series("of", work.of[part])).select(SHOWN)
        repeated[part] = rows.select(SAID_AGAIN).to_series().to_numpy()
    work.fault(repeated, "duplicate")
    added = np.flatnonzero(work.is_of(ADD))
    again = ~work.rows["order_id"][added].is_first_distinct().to_numpy()
    work.fault(marked(len(work.why), added[again]), "duplicate")


def _check_ids(work: Work) -> None:
    """Quotes and trades whose update ids do not count up."""
    for kind in NUMBERED:
        rows = work.sound(kind)
        heads = work.first_of_messages(rows)
        ids, day = work.column("update_id")[heads], work.column("ingest_ts")[heads] // DAY_NS
        if not ids.any():
            continue
        found = order_of_ids(ids, _seen(work, rows, heads, ids), day)
        for verdict, reason in ((REPEATED, "duplicate"), (BEHIND, "late")):
            own = work.is_of(kind) & among(work.of, work.of[heads[found == verdict]])
            work.fault(own, reason)
        work.tell("numbering_reset", heads[found == ANEW])


def _seen(work: Work, rows: np.ndarray, heads: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Which messages of a kind came before, by id and content; asked only of those whose ids do not count up,
    of the others False.
    """
    seen = np.zeros(len(heads), bool)
    behind = np.flatnonzero(ids[1:] <= np.maximum.accumulate(ids)[:-1]) + 1
    alike = among(ids, np.unique(ids[behind]))
    if not alike.any():
        return seen
    counts = np.diff(np.searchsorted(rows, heads), append=len(rows))
    own, firsts = rows[np.repeat(alike, counts)], np.cumsum(counts[alike]) - counts[alike]
    said = work.rows.select("side", "price", "quantity")[own].select(pl.struct(pl.all()).hash())
    content = np.add.reduceat(said.to_series().to_numpy(), firsts)
    messages = pl.DataFrame({"id": ids[alike], "content": content})
    seen[alike] = ~messages.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return seen


def _check_halts(work: Work) -> None:
    """What is traded between a halt and the resumption."""
    state = pl.when(pl.col("kind") == HALT).then(1).when(pl.col("kind") == RESUME).then(0)
    halted = state.cast(pl.Int8).forward_fill().fill_null(0) == 1
    traded = work.rows.select(halted & pl.col("kind").is_in(TRADED)).to_series().to_numpy()
    work.fault(traded, "while_halted")
    work.tell("halt", np.flatnonzero(work.is_of(HALT)))


def _check_far(work: Work) -> None:
    """Quotes and trades far from where those before them were."""
    prints, most = work.is_of(QUOTE, *TRADED), work.settings.checks.max_price_jump
    work.fault(far_prices(work.column("price"), prints, work.is_of(SNAPSHOT), most), "far_price")


def _clock(work: Work) -> tuple[Followed, np.ndarray]:
    """The clock over all messages, and which of them say how long they were under way.

    A snapshot was asked for and is no message of the stream; and where both clocks are one there is nothing
    to follow.
    """
    ingest, exchange, kind = (work.column(name)[work.heads] for name in ("ingest_ts", "exchange_ts", "kind"))
    sound = np.zeros(len(work.heads), bool)
    sound[work.of[work.why == OK]] = True
    one_clock = (ingest == exchange).all()
    stamped = sound & (exchange != 0) & (kind != SNAPSHOT) & (not one_clock)
    # Messages out of time are none of the clock's.
    rising = np.maximum.accumulate(np.where(sound, ingest, 0))
    return follow(exchange, rising, stamped, work.settings.clock), stamped


def _tell_numbers(work: Work) -> None:
    """Numbers of the collector that are missing (what stands in quarantine was there), or begin anew."""
    steps = np.diff(work.column("message")[work.heads], prepend=0)
    lost = np.flatnonzero(steps[1:] > 1) + 1
    work.tell("lost_messages", work.heads[lost], steps[lost] - 1)
    heads = work.first_of_messages(work.sound())
    falls = np.diff(work.column("message")[heads]) < 0
    new_day = np.diff(work.column("ingest_ts")[heads] // DAY_NS) > 0
    work.tell("numbering_reset", heads[1:][falls & new_day])
    work.tell("numbering_back", heads[1:][falls & ~new_day])


def _tell_times(work: Work) -> None:
    """Silences, and an exchange's time that falls between messages of one kind."""
    sound = work.sound()
    gaps = np.diff(work.column("ingest_ts")[sound]) // MS
    silent = np.flatnonzero(gaps > work.settings.checks.silence_ms)
    work.tell("silence", sound[silent + 1], gaps[silent])
    exchange = work.column("exchange_ts")
    for kind in np.setdiff1d(np.unique(work.column("kind")), [SNAPSHOT]):
        own = work.sound(kind)
        own = own[exchange[own] != 0]
        work.tell("exchange_time_back", own[1:][np.diff(exchange[own]) < 0])


def _tell_drift(work: Work, clock: Followed, stamped: np.ndarray) -> None:
    a_minute = float(np.abs(clock.drift[-1])) * 60e9 / MS
    if stamped.any() and a_minute > work.settings.checks.max_drift_ms_a_minute:
        work.tell("drift", np.array([len(work.rows) - 1]), round(a_minute))
