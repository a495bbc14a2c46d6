"""Every model that was ever scored on a test window, with what it earned and foresaw bar by bar: how good the
best of so many may look by luck depends on all of them.
"""

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure

__all__ = ["ModelKind", "Scored", "ScoredModel", "Trials"]

ModelKind = Literal["stack", "combiner", "expert", "variant"]
Series = list[Figure]


class ScoredModel(Part):
    """One model on one test window. Each series holds an entry for every moment of its `Scored`, or is empty
    where the model has none; None where a bar has no value.
    """

    key: str  # SHA-256 of its series: the same model scored twice is one trial
    name: str
    also: tuple[str, ...]  # further names that its run has for the very same model
    kind: ModelKind
    target: str
    horizon: int
    net_return: Series  # of long_short, a bar
    ic: Series
    rank_ic: Series
    bars: int  # with a return
    sharpe: Figure  # of net_return, a bar, not a year; None where nothing was ever traded
    skewness: Figure
    kurtosis: Figure  # 3 for normal returns
    mean_rank_ic: Figure


class Scored(Part):
    """The models that were scored together, on the bars of one test window."""

    run: str  # MLflow's name for the run that keeps them; empty for the run at hand
    period: str
    test_start: str  # UTC, YYYY-MM-DDTHH:MM:SSZ
    test_end: str
    bars_per_year: float = Field(gt=0, allow_inf_nan=False)
    timestamps: list[str]  # as test_start
    models: tuple[ScoredModel, ...]

    @model_validator(mode="after")
    def _an_entry_a_moment(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.timestamps)):
            raise ValueError("timestamps do not rise")
        for model in self.models:
            lengths = {len(series) for series in (model.net_return, model.ic, model.rank_ic) if series}
            if lengths - {len(self.timestamps)}:
                raise ValueError(f"{len(self.timestamps)} timestamps, but {model.name} has another number")
        return self


class Trials(Document):
    """All trials of a window: the models of the run at hand stand first, then those of the registry whose
    test windows overlap with theirs; each model once.
    """

    format: Literal[1] = 1
    scored: tuple[Scored, ...]
    unseen: int  # judged models whose returns nobody kept

    @property
    def own(self) -> Scored:
        """The models of the run at hand."""
        return self.scored[0]

    @property
    def models(self) -> tuple[ScoredModel, ...]:
        """Every model, in the document's order."""
        return tuple(model for together in self.scored for model in together.models)
