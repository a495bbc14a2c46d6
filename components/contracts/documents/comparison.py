"""What the stack compared on the validation window, and what it chose."""

from typing import Literal

from components.contracts.documents import Document
from components.contracts.documents.fields import Figure

__all__ = ["Comparison"]


class Comparison(Document):
    """The combiners that were tried, and the chosen one with its weights."""

    format: Literal[1] = 1
    chosen: str
    reason: str
    validation_rank_ic: dict[str, Figure]  # mean RankIC by expert and combiner
    validation_start: str
    validation_end: str
    experts: list[str]  # that the combiners saw
    weights: dict[str, Figure]  # of the chosen combiner; empty where it has none
