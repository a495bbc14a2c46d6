"""The store of ticks that an address names."""

from pathlib import Path

from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import TickStore


def open_store(address: str) -> TickStore:
    """The store at a path or file:// address: files of this machine.

    Raises
    ------
    TickStoreError
        Where the address is of no kind that is known.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return EmbeddedStore(Path(address))
    if scheme == "file" and rest.startswith("/"):
        return EmbeddedStore(Path(rest))
    raise TickStoreError(f"{address} is no address of a store of ticks. Give a folder, or file:///folder.")
