"""The periods: which lengths of a bar there are, how long each is, and which of them are shorter than a
day; and how far apart the moments are at which order books are sampled.
"""

from datetime import timedelta
from typing import Literal

import polars as pl

Period = Literal["1d", "4h", "1h", "15m", "1m"]
# Of samples of order books. They are no bars: a market of bars has none of these.
TickPeriod = Literal["1s", "250ms", "50ms"]

LENGTHS: dict[Period, timedelta] = {
    "1d": timedelta(days=1),
    "4h": timedelta(hours=4),
    "1h": timedelta(hours=1),
    "15m": timedelta(minutes=15),
    "1m": timedelta(minutes=1),
}
PERIODS: tuple[Period, ...] = tuple(LENGTHS)
TICK_LENGTHS: dict[TickPeriod, timedelta] = {
    "1s": timedelta(seconds=1),
    "250ms": timedelta(milliseconds=250),
    "50ms": timedelta(milliseconds=50),
}
# Samples of a symbol that are further apart lie in two sessions, or on both sides of a hole.
WIDEST_STEP_PERIODS = 5
DAILY = tuple(period for period in PERIODS if LENGTHS[period] == timedelta(days=1))
INTRADAY = tuple(period for period in PERIODS if LENGTHS[period] < timedelta(days=1))
# On a market that never closes; one with sessions has fewer.
BARS_A_DAY = {period: timedelta(days=1) // length for period, length in LENGTHS.items()}
# Of periods that whole hours make up.
HOURS_A_BAR = {
    period: LENGTHS[period] // timedelta(hours=1)
    for period in INTRADAY
    if not LENGTHS[period] % timedelta(hours=1)
}


def is_daily(period: str) -> bool:
    """Whether bars of this period are whole days, which have a session's open and close."""
    return period in DAILY


def is_of_ticks(period: str) -> bool:
    """Whether these are samples of order books, not bars."""
    return period in TICK_LENGTHS


def widest_step(period: str) -> timedelta | None:
    """How far apart two samples of order books may be that still follow each other; None for bars, which
    follow each other over nights and holidays.
    """
    return WIDEST_STEP_PERIODS * TICK_LENGTHS[period] if is_of_ticks(period) else None


def samples_in(milliseconds: int, period: str) -> int | None:
    """How many samples of `period` so much time holds, 1 at least and for bars; None where they don't fill
    it.
    """
    step, length = timedelta(milliseconds=milliseconds), TICK_LENGTHS.get(period)
    if length is None or step <= length:
        return 1
    return None if step % length else step // length


def is_coarser(period: str, than: str) -> bool:
    """Whether bars of `period` are longer than those of the other one, or samples further apart."""
    lengths = {**LENGTHS, **TICK_LENGTHS}
    return lengths[period] > lengths[than]


def stretch_end(moment: pl.Expr, period: str) -> pl.Expr:
    """The end of the stretch of `period`, counted from midnight UTC, in which a bar lies that ends at
    `moment`: a bar that ends at midnight belongs to the day before.
    """
    return (moment - timedelta(microseconds=1)).dt.truncate(period) + LENGTHS[period]


def stretch_begun(moment: pl.Expr, period: str) -> pl.Expr:
    """Where the newest stretch of `period` that is over at `moment` ends, and the next one begins."""
    return moment.dt.truncate(period)
