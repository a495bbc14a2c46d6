"""The periods: which lengths of a bar there are, how long each is, and which of them are shorter than a
day.
"""

from datetime import timedelta
from typing import Literal

import polars as pl

Period = Literal["1d", "4h", "1h", "15m", "1m"]

LENGTHS: dict[Period, timedelta] = {
    "1d": timedelta(days=1),
    "4h": timedelta(hours=4),
    "1h": timedelta(hours=1),
    "15m": timedelta(minutes=15),
    "1m": timedelta(minutes=1),
}
PERIODS: tuple[Period, ...] = tuple(LENGTHS)
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


def is_coarser(period: str, than: str) -> bool:
    """Whether bars of `period` are longer than those of the other one."""
    return LENGTHS[period] > LENGTHS[than]


def stretch_end(moment: pl.Expr, period: str) -> pl.Expr:
    """The end of the stretch of `period`, counted from midnight UTC, in which a bar lies that ends at
    `moment`: a bar that ends at midnight belongs to the day before.
    """
    return (moment - timedelta(microseconds=1)).dt.truncate(period) + LENGTHS[period]


def stretch_begun(moment: pl.Expr, period: str) -> pl.Expr:
    """Where the newest stretch of `period` that is over at `moment` ends, and the next one begins."""
    return moment.dt.truncate(period)
