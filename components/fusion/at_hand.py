"""Brings slow tables that lie in an object store to this disk for as long as they are read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from components.fusion.config import Settings, TableSettings
from components.fusion.errors import FusionError
from components.reading.object_store import Address, desk, is_address, one_stored


@contextmanager
def at_hand(settings: Settings) -> Iterator[tuple[Settings, Callable[[str], str]]]:
    """`settings` with paths of this disk in place of addresses, while the context lasts; and a function that
    puts the addresses back into a text. Errors that pass name the addresses.

    Raises
    ------
    FusionError
        If nothing lies at an address, or the store does not answer or refuses.
    """
    stored = {path: owner for path, owner in wanted_files(settings).items() if is_address(path)}
    if not stored:
        yield settings, str
        return
    with desk() as here:
        asked = {path: Address(path, owner, FusionError) for path, owner in stored.items()}
        here.bring(map(one_stored, asked.values()))
        local = {path: here.place(address) for path, address in asked.items()}
        tables = tuple(_moved(table, local) for table in settings.tables)
        yield settings.model_copy(update={"tables": tables}), here.shown


def wanted_files(settings: Settings) -> dict[str, str]:
    """Each file that the slow tables read, those of identities included, and what it is called in errors."""
    tables = {table.path: f"fusion table {table.name!r}" for table in settings.tables}
    identities = {
        table.identity.path: f"identity of fusion table {table.name!r}"
        for table in settings.tables
        if table.identity
    }
    return {**identities, **tables}


def _moved(table: TableSettings, local: dict[str, str]) -> TableSettings:
    moved = {"path": local.get(table.path, table.path)}
    if table.identity:
        path = local.get(table.identity.path, table.identity.path)
        moved["identity"] = table.identity.model_copy(update={"path": path})
    return table.model_copy(update=moved)
