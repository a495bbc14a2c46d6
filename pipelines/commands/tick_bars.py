"""Bars of recorded or simulated ticks, by way of the store that keeps them."""

from pathlib import Path

import polars as pl

from components.contracts.files import atomic_path
from components.contracts.tick_days import read_day, tick_days
from components.tick_stores.address import open_store
from components.tick_stores.protocol import MINUTE_NS, SECOND_NS, TickStore


def write_bars(ticks: Path, out: Path, store: str, *, minutes: bool) -> str:
    """Put a folder of ticks into the store at an address and write the bars of all its sessions.

    What was written, in a sentence.
    """
    bars = stored_bars(ticks, open_store(store), MINUTE_NS if minutes else SECOND_NS)
    with atomic_path(out) as path:
        bars.write_parquet(path)
    sessions = bars.select("symbol", "session").n_unique()
    return f"Wrote {bars.height:,} bars of {sessions} sessions to {out}; the ticks are kept in {store}"


def stored_bars(ticks: Path, store: TickStore, step_ns: int) -> pl.DataFrame:
    """Put a folder of ticks into a store, and give the bars of all its symbols and sessions."""
    bars = []
    for day in tick_days(ticks):
        rows = read_day(day)
        store.require_same(rows)
        store.append(rows)
        store.seal(day.symbol, day.session)
        bars.append(store.bars(day.symbol, day.session, step_ns))
    return pl.concat(bars)
