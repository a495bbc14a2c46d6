"""Reads one file of the review folder: what it holds, or in a few words what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

EntryT = TypeVar("EntryT")


class BrokenEntry(Exception):
    """A file of the review folder does not hold what it should; the message says what is wrong."""


def read_entry(path: Path, validate: Callable[[bytes], EntryT]) -> EntryT:
    """What `validate` makes of the file's JSON, such as `Decision.model_validate_json`.

    Raises
    ------
    BrokenEntry
        If the file can't be read, is no JSON, or lacks a key, has one too many, or another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        # Halves of characters, as a terminal in another encoding leaves them, are no text to anybody.
        return validate(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BrokenEntry(f"{place}: {first['msg']}") from error
    except OSError as error:
        raise BrokenEntry(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BrokenEntry(f"not JSON: {error}") from error
