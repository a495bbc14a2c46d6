"""The documents that stages hand over, as types: each names its format, and one that does not fit says which
file and key.
"""

import json
import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.contracts.errors import ContractError
from components.contracts.files import atomic_write_text

__all__ = ["Document", "Part"]

MOST_PROBLEMS = 5


class Part(BaseModel):
    """A piece of a document: unknown keys and numbers in quotes are refused, what was read never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="null")


class Document(Part):
    """A document on disk, JSON in UTF-8. A subclass declares `format: Literal[n] = n`, counted up by hand
    when its keys change.
    """

    @classmethod
    def read(cls, path: str | os.PathLike) -> Self:
        """The document in the file `path`.

        Raises
        ------
        ContractError
            If the file is missing, is no JSON, or lacks a key, has one too many, or another format; the
            message names the file and each key.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ContractError(
                f"{path} can't be read ({error.strerror}). Run the stage that writes it again."
            ) from error
        except ValidationError as error:
            problems = [_problem(one) for one in error.errors()]
            more = f"\n… and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
            raise ContractError(
                f"{path} is no {cls.__name__} as this version writes it. Run the stage that writes it"
                " again.\n" + "\n".join(problems[:MOST_PROBLEMS]) + more
            ) from error

    def write(self, path: str | os.PathLike) -> None:
        """Write the document to `path`, atomically; numbers that JSON does not know become null."""
        plain = json.loads(self.model_dump_json())
        atomic_write_text(path, json.dumps(plain, indent=1, allow_nan=False))


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "the whole file"
    return f"  {place}: {error['msg']}"
