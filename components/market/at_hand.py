"""Brings what lies in an object store to this disk for as long as a market is read from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from components.market.config import Settings
from components.market.errors import MarketError
from components.market.files import find_files
from components.market.qlib_folder import stored_qlib
from components.reading.object_store import Address, desk, is_address, one_stored


@contextmanager
def at_hand(settings: Settings) -> Iterator[tuple[Settings, Callable[[str], str]]]:
    """`settings` with paths of this disk in place of addresses, while the context lasts; and a function that
    puts the addresses back into a text. Errors that pass name the addresses.

    Raises
    ------
    MarketError
        If nothing lies at an address, or the store does not answer or refuses.
    """
    sectors = settings.sectors and settings.sectors.path
    if not any(path and is_address(path) for path in (settings.path, sectors)):
        yield settings, str
        return
    with desk() as here:
        local = {}
        if is_address(settings.path):
            found = stored_qlib(settings) if settings.source == "qlib" else find_files(settings, None)
            here.bring(found.paths)
            local["path"] = here.place(Address(settings.path, "market.path", MarketError))
        if sectors and is_address(sectors):
            asked = Address(sectors, "market.sectors.path", MarketError)
            here.bring([one_stored(asked)])
            local["sectors"] = settings.sectors.model_copy(update={"path": here.place(asked)})
        yield settings.model_copy(update=local), here.shown
