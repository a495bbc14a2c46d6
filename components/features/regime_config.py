"""Settings of the market regime: thresholds on trend and volatility, or a hidden Markov model that is
refitted on a schedule.
"""

from typing import Literal

from pydantic import Field, field_validator

from components.settings import Section

# A state is called by these two, so a model without them could not be told apart from another.
NAMING_INPUTS = ("market_trend", "market_volatility")


class Regimes(Section):
    """How `regime_state` is found; `hmm` also adds the filtered probability of each regime as
    model inputs.
    """

    model: Literal["thresholds", "hmm"] = Field(
        "thresholds",
        description=(
            "thresholds: trailing quantiles of trend and volatility; hmm: a Gaussian hidden Markov model"
        ),
    )
    states: int = Field(
        4,
        ge=3,
        le=8,
        description=(
            "states; the most volatile is high_volatility, of the others the lowest trend is bear if it"
            " falls, the highest bull if it rises, the rest neutral"
        ),
    )
    inputs: tuple[str, ...] = Field(
        (
            *NAMING_INPUTS,
            "market_breadth_20",
            "market_dispersion_20",
            "market_volume_trend",
            "structural_gap_20",
            "crowding_60",
            "market_funding_rate",
            "market_open_interest_slope",
        ),
        description=(
            "market-wide columns that the model sees; those that the panel does not support are left out"
        ),
    )
    fit_bars: int = Field(
        500,
        ge=100,
        description=(
            "bars up to a refit that the model learns from; before so many are known, thresholds give the"
            " state"
        ),
    )
    refit_months: int = Field(
        6,
        ge=1,
        le=60,
        description=(
            "calendar months between two fits, counted from January 2000; the model is for the bars after its"
            " last one"
        ),
    )
    max_iterations: int = Field(60, ge=5, description="expectation-maximisation steps of a fit at most")

    @field_validator("inputs")
    @classmethod
    def _can_be_named(cls, inputs: tuple[str, ...]) -> tuple[str, ...]:
        missing = [name for name in NAMING_INPUTS if name not in inputs]
        if missing:
            raise ValueError(f"inputs lacks {missing[0]!r}, by which the states are told apart; add it")
        return inputs
