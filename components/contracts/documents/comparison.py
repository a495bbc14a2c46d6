"""What the stack compared on the validation window, and what it chose."""

from typing import Literal

from pydantic import Field

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure
from components.contracts.documents.tasks import PredictedTask

__all__ = ["Candidate", "Comparison", "FurtherStack"]


class Candidate(Part):
    """A combiner against equal weights, on bars that it was not fitted on."""

    name: str
    rank_ic: Figure
    """Mean over bars."""
    difference: Figure
    """Mean RankIC less that of equal weights."""
    t: Figure
    """Of the difference, as a normal deviate; None where there are too few bars, or no difference."""
    p: Figure
    """Chance that the best of all that were tried is as far ahead by luck; None for equal weights."""
    bars: int
    folds: int
    folds_better: int
    """Folds in which it was ahead of equal weights."""
    rmse: Figure = None
    """Of the score, in the target's unit, over the validation bars of the walk-forward; None for classes."""
    pr_auc: Figure = None
    """Average precision of the chance of a rise, over the same bars; None where the target is a number."""
    ece: Figure = None
    """Calibration error of that chance."""


class FurtherStack(PredictedTask):
    """The stack of a task that is predicted beside the judged one; fields as in `Comparison`."""

    chosen: str
    reason: str
    experts: list[str]
    weights: dict[str, Figure]


class Comparison(Document):
    """The combiners that were tried, and the chosen one with its weights."""

    format: Literal[2] = 2
    chosen: str
    reason: str
    level: float  # chance below which a candidate's p counts as better
    candidates: list[Candidate]  # equal weights first
    left_out: dict[str, str]  # the reason by combiner that could not be fitted
    validation_start: str
    validation_end: str
    experts: list[str]  # that the combiners saw
    weights: dict[str, Figure]  # of the chosen combiner; empty where it has none
    # Experts that learned another task: t of their RankIC against the label, None where nobody knows. Those
    # with a clear one are among `experts`. Empty where all experts learned the task.
    guests: dict[str, Figure] = Field(default_factory=dict)
    further: list[FurtherStack] = Field(default_factory=list)  # empty where nothing else is predicted
