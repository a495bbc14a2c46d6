"""A piece of work: the arguments of a function, and the folder in which what it makes appears as a whole,
with a seal that says which piece it is of and what it holds.
"""

import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from components.contracts.documents import Document
from components.contracts.errors import ContractError
from components.contracts.files import atomic_path
from components.progress import EVENTS_VARIABLE
from components.spread.attempts import Attempt, all_events, events_of

SEAL = "piece.json"


class Seal(Document):
    """What a finished folder was made for, and the SHA-256 of each file by its path below the folder."""

    format: Literal[1] = 1
    key: str
    files: dict[str, str]


@dataclass(frozen=True)
class Piece:
    """`key` is a hash over all that the piece's result depends on, `folder` where the result appears,
    `arguments` JSON: paths, which are absolute, numbers and text.
    """

    key: str
    folder: Path
    arguments: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps({"key": self.key, "folder": str(self.folder), "arguments": dict(self.arguments)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(values["key"], Path(values["folder"]), values["arguments"])


def is_finished(piece: Piece) -> bool:
    """Whether the folder was made for this piece and all of it is as it was made."""
    try:
        seal = Seal.read(piece.folder / SEAL)
        return seal.key == piece.key and seal.files == _hashes(piece.folder)
    except (OSError, ContractError):
        return False


def make(function: str, piece: Piece, *, elsewhere: bool = False) -> None:
    """Make the folder of a piece, unless it is finished; `function`, "module:name", is called with the
    arguments and an empty folder to fill. `elsewhere`: not in the driver's process, which listens to a file.
    """
    if is_finished(piece):
        return
    attempt = Attempt.begin(piece.folder)
    if elsewhere:
        os.environ[EVENTS_VARIABLE] = str(events_of(piece.folder, attempt.number))
    try:
        with atomic_path(piece.folder) as temporary:
            temporary.mkdir()
            _named(function)(piece.arguments, temporary)
            Seal(key=piece.key, files=_hashes(temporary)).write(temporary / SEAL)
    except Exception as error:
        attempt.add("failed", message=f"{type(error).__name__}: {error}")
        raise
    attempt.add("ended")


def sweep(piece: Piece) -> None:
    """Remove what attempts left beside the folder: those that were killed, and what they said."""
    for events in all_events(piece.folder):
        events.unlink(missing_ok=True)
    for stray in piece.folder.parent.glob(f".{piece.folder.name}.*"):
        shutil.rmtree(stray, ignore_errors=True)


def _named(function: str) -> Callable[[Mapping[str, Any], Path], None]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder but the seal, by its path there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL)
    found = {}
    for path in paths:
        with path.open("rb") as handle:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found
