"""The files of a source of events, found where they lie, and brought to this disk from an object store for as
long as they are read.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.contracts.source_files import require_file
from components.reading.object_store import SCHEME, Address, StoredFile, desk, is_address, one_stored
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.sources.recorded import recorded_files


def files_of(settings: Settings) -> dict[str, str]:
    """The key that names each file of the source, by its path; none of a simulator."""
    messages = settings.depth_messages
    return {
        "simulator": {},
        "recorded": {},
        "lobster": {settings.lobster.path: "ticks.lobster.path"},
        "depth_messages": {
            messages.events: "ticks.depth_messages.events",
            messages.levels: "ticks.depth_messages.levels",
        },
    }[settings.source]


def found_files(settings: Settings, data_folder: Path) -> list[Path | StoredFile]:
    """The files of the source, and beside LOBSTER's own file of messages that of its order book.

    Raises
    ------
    TicksError
        If one is missing, empty or unreadable, or a store does not answer or refuses.
    """
    if settings.source == "recorded":
        return list(recorded_files(settings, data_folder))
    found: list[Path | StoredFile] = []
    for path, key in files_of(settings).items():
        for name in (path, book_name(path)) if path.lower().endswith(".csv") else (path,):
            if is_address(name):
                found.append(one_stored(Address(name, key, TicksError)))
            else:
                found.append(require_file(Path(data_folder) / name, key, TicksError))
    return list(dict.fromkeys(found))


def book_name(messages: str) -> str:
    """The path or address of LOBSTER's order book beside that of its messages."""
    folder, slash, name = messages.rpartition("/")
    return f"{folder}{slash}{re.sub('message', 'orderbook', name, flags=re.IGNORECASE)}"


@contextmanager
def at_hand(settings: Settings, data_folder: Path) -> Iterator[Settings]:
    """`settings` with paths of this disk in place of addresses, while the context lasts; errors that pass
    name the addresses, and are those of `found_files`.
    """
    stored = [file for file in found_files(settings, data_folder) if isinstance(file, StoredFile)]
    if not stored:
        yield settings
        return
    with desk() as here:
        here.bring(stored)

        def local(path: str) -> str:
            return str(here.folder / path.removeprefix(SCHEME)) if is_address(path) else path

        messages = settings.depth_messages
        yield settings.model_copy(
            update={
                "lobster": settings.lobster.model_copy(update={"path": local(settings.lobster.path)}),
                "depth_messages": messages.model_copy(
                    update={"events": local(messages.events), "levels": local(messages.levels)}
                ),
            }
        )
