"""What the gates say of a candidate: each gate with its number, its threshold and its reason."""

from typing import Literal

from components.contracts.documents import Document, Part

__all__ = ["Comparator", "Gate", "Verdict", "VerdictStamp"]

Comparator = Literal[">=", ">", "<="]


class Gate(Part):
    """One question.

    `level` says what it guards: entry to the registry (approval) or the champion's place (promotion). A
    number that could not be computed is None and does not pass.
    """

    name: str
    value: float | None
    threshold: float
    comparison: Comparator
    passed: bool
    reason: str
    level: Literal["approval", "promotion"] = "approval"


class VerdictStamp(Part):
    """What the verdict was made by."""

    code_version: str
    config_hash: str


class Verdict(Document):
    """`approved`: fit for the registry.

    `beats_champion`: may take its place; True where there is no champion.
    """

    format: Literal[1] = 1
    candidate: str
    champion_version: str | None
    approved: bool
    beats_champion: bool
    reason: str
    gates: tuple[Gate, ...]
    stamp: VerdictStamp
