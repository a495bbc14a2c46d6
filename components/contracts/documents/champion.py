"""What the registry hands on: who is champion and was, and what became of a judged model."""

import os
from typing import Literal, Self

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Moment
from components.contracts.files import read_json

__all__ = ["ChampionRecord", "NewestBars", "NoChampion", "Registration", "Reign", "read_champion_record"]


class Reign(Part):
    """One change of champion."""

    version: int
    previous: int | None
    when: Moment
    who: str
    why: str
    kind: Literal["promotion", "rollback"] = "promotion"  # the oldest entries do not say
    sequence: int | None = None  # place in the history, from 1; those of before 0.6 are ordered by `when`


class NewestBars(Part):
    """The bars after its training on which a champion was scored for the comparison."""

    bars: int
    first: Moment | None
    last: Moment | None
    not_scored: str | None  # why it can't be scored on these rows


class ChampionRecord(Document):
    """The champion, as the registry knew it when asked."""

    format: Literal[1] = 1
    version: int
    run_id: str
    bundle_sha256: str
    inputs: dict[str, str]  # content hashes of what it was made from
    horizon: int
    known_until: Moment  # the newest moment that it has learned from
    train_window: str  # YYYY-MM-DD..YYYY-MM-DD; empty in the oldest bundles
    history: list[Reign]
    newest: NewestBars | None  # None where it was not scored

    @classmethod
    def find(cls, path: str | os.PathLike) -> Self | None:
        """The champion in the file `path`; None where the file says that there is none.

        Raises
        ------
        ContractError
            As `read`.
        """
        found = read_champion_record(path)
        return found if isinstance(found, cls) else None


class NoChampion(Document):
    """What stands in the champion's file while there is none."""

    format: Literal[1] = 1
    version: None = None


def read_champion_record(path: str | os.PathLike) -> ChampionRecord | NoChampion:
    """What stands in the champion's file; raises as `Document.read`."""
    found = read_json(path)
    if found is not None and found.get("version", 0) is None:
        return NoChampion.read(path)
    return ChampionRecord.read(path)


class Registration(Document):
    """What became of a judged model."""

    format: Literal[1] = 1
    status: Literal["registered", "unchanged", "rejected"]
    name: str
    version: int | None
    aliases: list[str]
    run_id: str
    bundle_sha256: str
    trials: int  # judged models of the same kind whose test windows overlap with this one's, itself included
    champion_before: int | None
    champion_after: int | None
    reason: str
    history: list[Reign]
    tracking_uri: str

    @property
    def place(self) -> str:
        """The version with its aliases, or that there is none."""
        named = f"version {self.version} {'/'.join(self.aliases)}".strip()
        return named if self.version else "not registered"
