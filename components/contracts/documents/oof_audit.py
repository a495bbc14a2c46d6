"""What the audit of the out-of-fold table counted."""

from typing import Literal

from pydantic import Field

from components.contracts.documents import Document

__all__ = ["OofAudit"]


class OofAudit(Document):
    """Counts of one out-of-fold table. `problems` is empty for a table that may be learned from."""

    format: Literal[1] = 1
    rows: int
    experts: list[str]
    failed_experts: dict[str, str]  # the reason by expert that was left out
    rows_by_expert: dict[str, int]
    rows_in_common_share: float  # of the largest expert's rows
    duplicates: int
    time_reversals: int
    missing_scores: int
    longest_gap_bars: int
    unlabelled: int
    problems: list[str] = Field(default_factory=list)
