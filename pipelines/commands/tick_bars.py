"""Bars of recorded or simulated ticks, by way of the store that keeps them."""

from pathlib import Path

from components.contracts.files import atomic_path
from components.ticks.stores.embedded import EmbeddedStore, stored_bars
from components.ticks.stores.protocol import MINUTE_NS, SECOND_NS


def write_bars(ticks: Path, out: Path, store: Path, *, minutes: bool) -> str:
    """Put a folder of ticks into the store and write the bars of all its sessions; says what was written."""
    bars = stored_bars(ticks, EmbeddedStore(store), MINUTE_NS if minutes else SECOND_NS)
    with atomic_path(out) as path:
        bars.write_parquet(path)
    sessions = bars.select("symbol", "session").n_unique()
    return f"Wrote {bars.height:,} bars of {sessions} sessions to {out}; the ticks are kept in {store}"
