"""The store of ticks that an address names."""

from pathlib import Path

from components.credentials import without_secrets
from components.tick_stores.clickhouse_server import EXAMPLE, SCHEMES, open_clickhouse
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError
from components.tick_stores.protocol import TickStore


def open_store(address: str) -> TickStore:
    """The store at a path or file:// address (files of this machine), or at a clickhouse:// address.

    Raises
    ------
    TickStoreError
        Where the address is of no kind that is known, or the server at it can't be used.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return EmbeddedStore(Path(address))
    if scheme == "file" and rest.startswith("/"):
        return EmbeddedStore(Path(rest))
    if scheme in SCHEMES:
        return open_clickhouse(address)
    raise TickStoreError(
        f"{without_secrets(address)} is no address of a store of ticks. Give a folder, file:///folder, or"
        f" {EXAMPLE}."
    )
