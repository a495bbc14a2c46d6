"""Settings of the labels: horizons, target, the price at which a signal is entered, barriers, betas and
costs.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from components.contracts.targets import NO_ORDERING
from components.settings import Section

Target = Literal[
    "log_return",
    "direction",
    "trend",
    "return_quantile",
    "sector_neutral_return",
    "beta_neutral_return",
    "barrier",
    "barrier_return",
    "trade_class",
]


class Barriers(Section):
    """The triple barrier: profit and stop level around the entry price, and the end of the horizon (Lopez de
    Prado 2018, chapter 3).
    """

    up_volatilities: float = Field(
        1.0,
        gt=0,
        description=(
            "distance of the upper barrier as a multiple of volatility a bar times the root of the horizon"
        ),
    )
    down_volatilities: float = Field(1.0, gt=0, description="the same for the lower barrier")
    volatility_bars: int = Field(
        20,
        ge=2,
        description=(
            "bars up to the signal over which volatility is taken, for barriers and for slippage by"
            " participation"
        ),
    )


class Betas(Section):
    """Beta to the equal-weighted market, from returns up to the signal."""

    window_bars: int = Field(
        60, ge=4, description="bars up to the signal; unknown where fewer than half of them have a return"
    )
    weight: float = Field(
        2 / 3,
        ge=0,
        le=1,
        description="beta = weight * estimate + (1 - weight) * 1 (Blume 1971); 1: the estimate as it is",
    )


class Costs(Section):
    """What opening and closing a position costs, as known at the signal."""

    fee_bps: float = Field(5.0, ge=0, description="fees of one side, basis points of the traded value")
    slippage_bps: float = Field(
        5.0,
        ge=0,
        description="slippage of one side that does not depend on size, basis points of the traded value",
    )
    half_spread: Literal["none", "roll"] = Field(
        "none",
        description=(
            "roll: add half the effective spread after Roll (1984), noisy where the true spread is far below"
            " volatility"
        ),
    )
    spread_bars: int = Field(60, ge=4, description="bars up to the signal over which the spread is estimated")
    order_value: float | None = Field(
        None,
        gt=0,
        description=(
            "value of one order in the panel's currency, for slippage by participation; none: without it"
        ),
    )
    impact_volatilities: float = Field(
        1.0,
        ge=0,
        description=(
            "slippage of one side, as a multiple of volatility a bar, of an order as large as one bar's mean"
            " traded value; grows with the root of the share"
        ),
    )
    volume_bars: int = Field(
        20, ge=2, description="bars up to the signal over which the mean traded value is taken"
    )


class Classes(Section):
    """The three trade classes."""

    margin_bps: float = Field(
        0.0,
        ge=0,
        description="basis points that a move must exceed its round-trip cost by to be worth a trade",
    )


class Settings(Section):
    """Every horizon and every label column is built; `primary_horizon` and `target` say which of them experts
    learn first.
    """

    horizons: tuple[Annotated[int, Field(ge=1, le=2_000)], ...] = Field(
        (1, 5, 10), min_length=1, description="label horizons in bars, counted from the entry"
    )
    primary_horizon: int = Field(
        5, ge=1, description="the horizon in bars that backtest and gates judge; one of `horizons`"
    )
    target: Target = Field("sector_neutral_return", description="the label column that experts learn")
    transform: Literal["none", "zscore", "rank_gaussian"] = Field(
        "rank_gaussian",
        description=(
            "what experts learn of the target in the cross-section of a bar. zscore: deviations from the mean"
            " in standard deviations, cut off at 4; rank_gaussian: the rank as a normal quantile, z-scores"
            " where a bar has fewer than 10 labelled symbols; none: the target itself. Predictions are in the"
            " target's own unit with each"
        ),
    )
    entry: Literal["next_open", "next_close"] = Field(
        "next_open",
        description=(
            "price of the bar after the signal at which a position is entered, and left `horizon` bars later"
        ),
    )
    direction_threshold_bps: float = Field(
        0.0, ge=0, description="moves of at most this many basis points (log return) have direction 0"
    )
    max_far_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description=(
            "share of the sum of squared labels that labels may hold which lie more than 20 usual sizes of"
            " their symbol from the market (45 over one bar); above it the run stops where they lie at five"
            " moments or more, as missed splits do, and warns where at fewer"
        ),
    )
    barriers: Barriers = Barriers()
    betas: Betas = Betas()
    costs: Costs = Costs()
    classes: Classes = Classes()

    @field_validator("target", mode="before")
    @classmethod
    def _orders_symbols(cls, target: object) -> object:
        if target in NO_ORDERING:
            raise ValueError(
                f"target={target} is built as a label column, but gates and backtest judge how well a score"
                f" orders symbols by what they earn, and {target} says nothing of that; choose one of"
                f" {', '.join(get_args(Target))}"
            )
        return target

    @model_validator(mode="after")
    def _horizons_fit(self):
        if len(set(self.horizons)) != len(self.horizons):
            raise ValueError(f"horizons={list(self.horizons)} names one twice; name each once")
        if self.primary_horizon not in self.horizons:
            raise ValueError(
                f"primary_horizon={self.primary_horizon} is not one of horizons={list(self.horizons)}; add it"
                " there or choose one of them"
            )
        return self
