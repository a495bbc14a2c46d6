"""The rows of one symbol's session while they are examined, and what is known of them so far."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from components.contracts.tick_schemas import DEPTH, QUOTE, SNAPSHOT, TRADE
from components.ticks.config import Settings
from components.ticks.rules import QUARANTINED

MS, DAY_NS = 1_000_000, 86_400_000_000_000
OK = -1
# Rows that are looked at together, about.
PART_ROWS = 1 << 20
CODE = {reason: code for code, reason in enumerate(QUARANTINED)}
LEVELS, NUMBERED = (SNAPSHOT, DEPTH), (QUOTE, TRADE)


class Work:
    """`rows` as the source has them; `of` is the number of each row's message, `heads` the first row of each
    message; `why` a code of CODE for each row, OK where nothing is wrong; `told` what there is to tell.
    """

    def __init__(self, raw: pl.DataFrame, settings: Settings) -> None:
        self.settings = settings
        self.rows = raw
        starts = np.zeros(len(raw), bool)
        starts[:1] = True
        for name in ("message", "ingest_ts", "exchange_ts"):
            starts[1:] |= np.diff(raw[name].to_numpy()) != 0
        self.of = np.cumsum(starts, dtype=place_type(len(raw)))
        self.of -= 1
        self.heads = np.flatnonzero(starts).astype(self.of.dtype)
        self.why = np.full(len(raw), OK, np.int8)
        self.told: list[pl.DataFrame] = []

    def column(self, name: str) -> np.ndarray:
        return self.rows[name].to_numpy()

    def fault(self, rows: np.ndarray, reason: str) -> None:
        """Mark rows, given as booleans; the first reason of a row stands."""
        self.why[rows & (self.why == OK)] = CODE[reason]

    def sound(self, *kinds: int) -> np.ndarray:
        """The rows, by their places, of which nothing is wrong so far, of all kinds or some."""
        sound = self.why == OK
        return np.flatnonzero(sound & self.is_of(*kinds) if kinds else sound)

    def is_of(self, *kinds: int) -> np.ndarray:
        return np.isin(self.column("kind"), kinds)

    def first_of_messages(self, rows: np.ndarray) -> np.ndarray:
        """Of rows by their places, those with which a message begins."""
        return rows[np.diff(self.of[rows], prepend=-1) != 0]

    def parts(self) -> Iterator[slice]:
        """All rows, a part of whole messages after another."""
        first = 0
        while first < len(self.why):
            last = first + PART_ROWS
            if last < len(self.why):
                following = np.searchsorted(self.heads, last)
                last = int(self.heads[following]) if following < len(self.heads) else len(self.why)
            yield slice(first, last)
            first = last

    def tell(self, reason: str, rows: np.ndarray, amounts: np.ndarray | int = 1) -> None:
        """Note things to tell, each by the place of the raw row at which it is seen."""
        seen = self.rows[rows].select("sequence", "ingest_ts")
        values = np.broadcast_to(np.asarray(amounts, np.int64), len(seen))
        self.told.append(
            seen.select(pl.lit(reason).alias("reason"), pl.all(), pl.Series("amount", values.copy()))
        )


def place_type(rows: int) -> type[np.signedinteger]:
    """What places of so many rows are counted in: there are several for each row, so they are kept narrow."""
    return np.int32 if rows < 2**31 else np.int64


def among(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Which of `values` are among the `chosen`."""
    return np.isin(values, chosen) if len(chosen) else np.zeros(len(values), bool)


def marked(count: int, places: np.ndarray) -> np.ndarray:
    """Booleans that are true at `places`."""
    flags = np.zeros(count, bool)
    flags[places] = True
    return flags
