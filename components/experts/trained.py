"""Which trainings ended well, kept where it outlasts a run: so a cache answers with a trained expert, never
with one that failed.

A cache answers with what a task handed over, and a training that failed hands over that it failed. So each
training has a token among its arguments: that under which the same training ended well, where one did, else
one that was never used before. Each pipeline and each image has a cache of its own: a training that fails
there under a token that is kept takes it back, or that cache would answer with the failure ever after.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.contracts import atomic_write_text
from components.lasting.folder import fetched, opened

# The experts of a run at most, and so the outputs of the task that gives out tokens.
MOST_EXPERTS = 8


@dataclass(frozen=True)
class Token:
    """What a training is told apart by: `key`, a hash over all that it is made from, and `attempt`."""

    key: str
    attempt: str

    @classmethod
    def parsed(cls, text: str) -> "Token":
        key, _, attempt = text.partition(".")
        return cls(key, attempt)

    def __str__(self) -> str:
        return f"{self.key}.{self.attempt}"


def give_tokens(lineages: Mapping[str, str], sources: tuple[str, ...], folder: str) -> dict[str, str]:
    """The token of each training, by the names of `lineages`.

    Parameters
    ----------
    lineages : of each training a hash over all that it is made from, but for the content of the data
    sources : content hashes of the data
    folder : where trainings that ended well are kept, a path or an address
    """
    keys = {
        name: hashlib.sha256("\0".join([lineage, *sources]).encode()).hexdigest()[:32]
        for name, lineage in lineages.items()
    }
    with fetched(folder, list(keys.values())) as place:
        kept = {key: _attempt(place / key) for key in keys.values()}
    return {name: str(Token(key, kept[key] or uuid.uuid4().hex)) for name, key in keys.items()}


def keep_token(token: str, folder: str) -> None:
    """Keep that the training with this token ended well."""
    made = Token.parsed(token)
    with opened(folder, [made.key]) as place:
        atomic_write_text(place / made.key, made.attempt)


def forget_token(token: str, folder: str) -> None:
    """Take back a token under which a training failed; one that another training kept since stays."""
    made = Token.parsed(token)
    with opened(folder, [made.key]) as place:
        if _attempt(place / made.key) == made.attempt:
            (place / made.key).unlink()


def _attempt(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
