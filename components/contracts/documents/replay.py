"""What a replay found: rows that were lost on the way to a live answer, and scores that differ."""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure, Moment

__all__ = ["Held", "ReplayReport", "ReplayedBar"]


class Held(Part):
    """Rows held against the backtest's: how many there should be, how many are missing, how many have another
    score.

    `largest` is the largest difference of two scores, as a share of the spread of scores within their bar;
    None where no row is on both sides.
    """

    rows: int
    lost: int
    differing: int
    largest: Figure


class ReplayedBar(Part):
    """One bar of the live path."""

    bar: Moment
    held: Held


class ReplayReport(Document):
    """The champion's newest bars again, by the live path and by the backtest's.

    `live`: rows as the online store would have held them, bar by bar. `answered`: what the service did answer
    on these bars, held against the scores that the present data gives.
    """

    format: Literal[1] = 1
    same: bool
    reason: str
    version: int
    bundle_sha256: str
    tolerance: float
    live: Held
    answered: Held
    bars: tuple[ReplayedBar, ...]
