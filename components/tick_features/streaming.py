"""The features of one symbol as its ticks come: what is in memory, and the samples that fall due."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from components.contracts import TIME
from components.tick_features.catalog import catalog
from components.tick_features.config import Settings
from components.tick_features.errors import TickFeatureError
from components.tick_features.kernel import finish_until, pass_over
from components.tick_features.state import FAULT, INGEST, MICROSECOND_NS, NO_DELAY, new_state

# Columns of ticks that features are made of.
COLUMNS = ("kind", "side", "price", "quantity", "order_id", "message", "ingest_ts")
DELAY = "delay_ns"
# Samples that leave memory together; no power of two, or columns would share lines of the cache.
SAMPLES = 8_000


class Rows(NamedTuple):
    """Columns of ticks as arrays."""

    kind: np.ndarray  # int8
    side: np.ndarray  # int8
    price: np.ndarray
    quantity: np.ndarray
    order_id: np.ndarray
    message: np.ndarray
    ingest: np.ndarray
    delay: np.ndarray  # NO_DELAY where none is known


class Samples(NamedTuple):
    """Samples that fell due: their moments, the newest message in each, both ns, and the values by column of
    the catalog, NaN where not known.
    """

    moments: np.ndarray  # (samples,) int64
    known: np.ndarray  # (samples,) int64
    values: np.ndarray  # (columns, samples) float32


class StreamingFeatures:
    """One symbol's features in memory, fed with its ticks in order.

    The samples have the same bits however the ticks are cut into chunks, within a message too.
    """

    def __init__(self, settings: Settings, first_moment: int):
        """`first_moment`: of the first sample of the clock, nanoseconds since 1970."""
        self.columns = [entry.column for entry in catalog(settings)]
        self._state = new_state(settings, first_moment)
        self._room = Samples(
            np.zeros(SAMPLES, np.int64),
            np.zeros(SAMPLES, np.int64),
            np.zeros((len(self.columns), SAMPLES), np.float32),
        )

    def take(self, rows: Rows) -> Iterator[Samples]:
        """Let rows in; the samples whose moments are over with them.

        Raises
        ------
        TickFeatureError
            If a row is earlier than the one before it.
        """
        row = 0
        while row < len(rows.ingest):
            row, taken = pass_over(self._state, rows, row, self._room, 0)
            if self._state.at[FAULT]:
                raise TickFeatureError(
                    f"a row with ingest_ts {rows.ingest[row]} comes after one with {self._state.at[INGEST]}."
                    " Ticks must stand in the order in which they were collected: validate them first."
                )
            if taken:
                yield self._taken(taken)

    def until(self, moment: int) -> Iterator[Samples]:
        """The samples due up to a moment, this included (ns), by which nothing more will have come: one part
        at least, which is empty where none is due.
        """
        taken = SAMPLES
        while taken == SAMPLES:
            taken = finish_until(self._state, moment, self._room, 0)
            yield self._taken(taken)

    def _taken(self, count: int) -> Samples:
        room = self._room
        return Samples(room.moments[:count].copy(), room.known[:count].copy(), room.values[:, :count].copy())


def rows_of(ticks: pl.DataFrame) -> Rows:
    """The columns of TICKS that features are made of, as arrays."""
    columns = [ticks[name].to_numpy() for name in COLUMNS]
    if DELAY in ticks.columns:
        columns.append(ticks[DELAY].fill_null(NO_DELAY).to_numpy())
    else:
        columns.append(np.full(len(ticks), NO_DELAY, np.int64))
    arrays = [np.ascontiguousarray(column) for column in columns]
    for array in arrays:
        # Some come so. Loops are compiled anew for arrays that can be written to.
        array.setflags(write=False)
    return Rows(*arrays)


def frame_of(samples: Samples, columns: list[str]) -> pl.DataFrame:
    """Samples as a table: `timestamp`, `known_time` and the columns. `known_time` is that of the newest
    message in a sample, or the moment itself where there was none.
    """
    heard = np.where(samples.known > 0, samples.known, samples.moments)
    return pl.DataFrame(
        [
            _time("timestamp", samples.moments),
            _time("known_time", heard),
            *(
                pl.Series(name, column, nan_to_null=True)
                for name, column in zip(columns, samples.values, strict=True)
            ),
        ]
    )


def _time(name: str, moments: np.ndarray) -> pl.Series:
    """Nanoseconds as the first microsecond that is not before them."""
    return pl.Series(name, -(-moments // MICROSECOND_NS)).cast(TIME)
