"""Every model that was ever scored on a test window, with what it earned and foresaw bar by bar: how good the
best of so many may look by luck depends on all of them.
"""

import base64
import binascii
import zlib
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure
from components.contracts.documents.market_sketch import UNKNOWN_MARKET, MarketSketch

__all__ = ["ModelKind", "Scored", "ScoredModel", "Trials"]

ModelKind = Literal["stack", "combiner", "expert", "variant"]
# Fast, and half as large: what is kept is noise, which the thorough levels shrink no further.
PACKING_LEVEL = 1


def _packed(values: list[float | None]) -> str:
    numbers = pl.Series(values, dtype=pl.Float64).fill_null(float("nan")).to_numpy()
    return base64.b64encode(zlib.compress(numbers.astype("<f8").tobytes(), PACKING_LEVEL)).decode()


def _series(values: Any, one_by_one: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(values, str):
        try:
            numbers = np.frombuffer(zlib.decompress(base64.b64decode(values, validate=True)), dtype="<f8")
        except (binascii.Error, zlib.error, ValueError) as error:
            raise ValueError(f"is no packed series ({error})") from error
        values = pl.Series(np.where(np.isfinite(numbers), numbers, np.nan))
    if isinstance(values, pl.Series):
        return values.cast(pl.Float64).fill_nan(None).to_list()
    return one_by_one(values)


# Minutes of a year are half a million numbers a series: they are written as their bytes (float64,
# little-endian, deflated, Base64; NaN where a bar has no value) and looked at together, not one by one. What
# format 1 wrote as a list of numbers is read too.
Series = Annotated[list[Figure], WrapValidator(_series), PlainSerializer(_packed, when_used="json")]


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
    market: MarketSketch = UNKNOWN_MARKET  # of the test window; empty in what was kept before there was one

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

    format: Literal[1, 2] = 2
    scored: tuple[Scored, ...] = Field(min_length=1)
    unseen: int  # judged models whose returns nobody kept

    @property
    def own(self) -> Scored:
        """The models of the run at hand."""
        return self.scored[0]

    @property
    def models(self) -> tuple[ScoredModel, ...]:
        """Every model, in the document's order."""
        return tuple(model for together in self.scored for model in together.models)
