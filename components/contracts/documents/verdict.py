"""What the gates say of a candidate: each gate with its number, its threshold and its reason."""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure

__all__ = ["Comparator", "Gate", "Luck", "Verdict", "VerdictStamp"]

Comparator = Literal[">=", ">", "<="]


class Gate(Part):
    """One question.

    `level` says what it guards: entry to the registry (approval) or the champion's place (promotion). A
    number that could not be computed is None and does not pass, but for a gate that is not asked of so few
    models. `needed` says in words what would have let it pass.
    """

    name: str
    value: float | None
    threshold: float
    comparison: Comparator
    passed: bool
    reason: str
    level: Literal["approval", "promotion"] = "approval"
    needed: str = ""

    @property
    def asked(self) -> bool:
        """Whether there was something to ask: a gate that passes without a number was not."""
        return not self.passed or self.value is not None


class Luck(Part):
    """How many models were tried on the test window, and what the candidate is worth after so many."""

    models: int  # that were ever traded there, each once
    earlier: int  # of them, traded by other runs
    unseen: int  # further ones whose returns nobody knows: none were kept, or they were scored alone
    chance: Figure  # that the best of so many does as well though none is any good
    sharpe: Figure  # of the candidate, net, annual
    lucky_sharpe: Figure  # what the best of so many without skill is expected to reach, annual
    bars: int
    bars_needed: Figure  # for a Sharpe ratio like this to be above the lucky one; None: never, or unknown


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
    luck: Luck | None = None  # verdicts of before trials were kept judge one model by itself
