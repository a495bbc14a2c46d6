"""Settings of the features of ticks: when they are sampled, which there are, what their scale is."""

import difflib
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from components.settings import Section
from components.tick_features.library import FEATURES
from components.timeline.periods import TickPeriod

Group = Literal["book", "flow", "trades", "price", "volatility", "time", "events"]
Name = Annotated[str, Field(pattern="^[a-z0-9_]+$")]


class Normalisation(Section):
    """The own past by which a feature is scaled: some values of it, taken at even distances, that of the
    moment itself not among them.
    """

    values: int = Field(
        300,
        ge=10,
        le=5_000,
        description="values of the past that median, MAD, ranks and thresholds of the regime are taken from",
    )
    every_samples: int = Field(20, ge=1, description="samples from one of these values to the next")
    least_values: int = Field(
        60, ge=5, description="values that must be there; before them a scaled feature is null"
    )

    @model_validator(mode="after")
    def _can_be_there(self):
        if self.least_values > self.values:
            raise ValueError(
                f"least_values={self.least_values} is more than values={self.values}, so that every scaled"
                " feature would stay null; lower it"
            )
        return self


class Audit(Section):
    """How closely the leak audit of tick features looks."""

    days: int = Field(4, ge=1, description="sessions of a symbol that are audited, spread over all there are")
    cuts: int = Field(
        4,
        ge=1,
        description="moments of each audited session after which its ticks are changed, or end",
    )
    rows: int = Field(
        500_000,
        ge=1_000,
        description="ticks from the beginning of a session that the audit goes through",
    )


class Settings(Section):
    """Windows are counted in samples, so their distance changes what a feature looks at."""

    sampling: Literal["clock", "event"] = Field(
        "clock",
        description=(
            "clock: one grid of moments for all symbols of a session, a sample each `sample`; event: each"
            " symbol's own, after every `every_messages`"
        ),
    )
    sample: TickPeriod = Field(
        "50ms", description="distance of the moments of the clock; windows are counted in samples"
    )
    every_messages: int = Field(
        50, ge=1, description="messages of a symbol from one sample to the next, when sampled by event"
    )
    groups: tuple[Group, ...] = Field(
        get_args(Group), min_length=1, description="groups of features; those of the context always stay"
    )
    exclude: tuple[Name, ...] = Field((), description="features by name that are left out")
    normalisation: Normalisation = Normalisation()
    audit: Audit = Audit()

    @field_validator("exclude")
    @classmethod
    def _exist(cls, exclude: tuple[str, ...]) -> tuple[str, ...]:
        names = [feature.name for feature in FEATURES]
        for name in exclude:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=3)
                hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
                raise ValueError(f"exclude names {name!r}, which is no feature of ticks; {hint}")
        return exclude
