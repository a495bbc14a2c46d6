"""Whether labels begin where the order could arrive: log returns of sampled rows, found again from the events
by another way.
"""

import numpy as np
import polars as pl

from components.compiling import compiled
from components.contracts.errors import ContractError
from components.order_book.measures import mid
from components.order_book.state import apply_rows, new_book
from components.tick_labels.build import NS_A_US
from components.tick_labels.moments import Events

ROWS = 64
# Of log returns, from the order of additions.
TOLERANCE = 1e-9


def check_arrivals(labels: pl.DataFrame, events: Events, latency_ns: int, sample_ms: int, seed: int) -> None:
    """Refuse labels that do not say what the mid did from the arrival of the order on.

    Parameters
    ----------
    labels : LABELS rows of one symbol and session, of which some are looked at
    events : those of the same

    Raises
    ------
    ContractError
        Naming how many of the rows that were looked at differ, the first of them, and whether they begin at
        the sample itself, before any order could have arrived.
    """
    known = labels.filter(pl.col("log_return").is_not_null())
    rows = known.sample(min(ROWS, len(known)), seed=seed).sort("timestamp", "horizon")
    if rows.is_empty():
        return
    sampled = rows["timestamp"].to_physical().to_numpy() * NS_A_US
    arrival = sampled + latency_ns
    leave = arrival + rows["horizon"].to_numpy().astype(np.int64) * (sample_ms * 1_000_000)
    at = np.unique(np.concatenate([sampled, arrival, leave, leave - latency_ns]))
    mids = np.log(_mids(events, at))

    def move(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return mids[np.searchsorted(at, end)] - mids[np.searchsorted(at, start)]

    moved, early = move(arrival, leave), move(sampled, leave - latency_ns)
    found = rows["log_return"].to_numpy()
    wrong = np.flatnonzero(~(np.abs(moved - found) <= TOLERANCE))
    if not wrong.size:
        return
    first = int(wrong[0])
    begins = ", which is the move from the sample on: no order could have arrived by then" * bool(
        abs(early[first] - found[first]) <= TOLERANCE
    )
    symbol, moment, horizon = rows.select("symbol", "timestamp", "horizon").row(first)
    raise ContractError(
        f"{len(wrong):,} of {len(rows):,} labels that were looked at do not begin where the order arrives,"
        f" {latency_ns / 1e6:g} ms after the sample: {symbol} at {moment}, horizon {horizon}, says"
        f" {found[first]:.9f}{begins}; from the arrival on the mid moved {moved[first]:.9f}. Make the labels"
        " again."
    )


def _mids(events: Events, at: np.ndarray) -> np.ndarray:
    """The mid in ticks at each of these moments (ns, ascending), NaN where there is none."""
    stops = np.searchsorted(events.ingest_ts, at, side="right")
    return _mids_before(events, new_book(), stops)


@compiled()
def _mids_before(events, book, stops):
    """The mid after so many rows, NaN where a side is empty."""
    mids, row = np.full(len(stops), np.nan), 0
    for place in range(len(stops)):
        apply_rows(
            book,
            events.kind,
            events.side,
            events.price,
            events.quantity,
            events.order_id,
            events.message,
            row,
            stops[place],
        )
        row = stops[place]
        mids[place] = mid(book)
    return mids
