"""Settings of the backtest: which portfolios are formed, when they trade, what trading costs and what stops
them.
"""

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from components.settings import Section


class Settings(Section):
    """Two portfolios are formed from every expert's scores: `long_short` quantiles and `long_only` top k."""

    quantile: float = Field(0.1, gt=0, le=0.5, description="share of the names on each side of long_short")
    top_k: int = Field(50, ge=1, description="names held by long_only")
    top_k_max_share: float = Field(
        0.2, gt=0, le=1, description="top_k is capped to this share of the names, for small panels"
    )
    gross_exposure: float = Field(
        1.0,
        gt=0,
        le=4,
        description="sum of absolute weights a unit of capital; long_short puts half on each side",
    )
    max_weight: float = Field(
        0.25,
        gt=0,
        le=1,
        description="largest absolute weight of a name in a book; what is cut off stays in cash",
    )
    sizing: Literal["equal", "confidence", "kelly", "steps"] = Field(
        "equal",
        description=(
            "confidence: weight by median uncertainty over own uncertainty, clipped to 0.5 .. 2; and less, in"
            " proportion, where a name is more uncertain than nine of ten predictions were while the model"
            " learned, so that low confidence makes the book smaller. kelly: the equal weight, but no more"
            " than kelly_fraction of the share of capital that makes wealth grow fastest, expected return"
            " over squared uncertainty (of classes: chances over the name's usual move); and less in"
            " proportion where unusually uncertain. steps: a share of the equal weight by the chance that"
            " the bet wins, size_steps"
        ),
    )
    kelly_fraction: float = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "share of Kelly's share that a name gets at most. A half is best where an expected return is as"
            " large as its own error, keeps three quarters of the growth where it is exact, and loses"
            " nothing until it is overstated fourfold"
        ),
    )
    size_steps: list[tuple[float, float]] = Field(
        [(0.5, 0.5), (0.53, 1.0)],
        min_length=1,
        description=(
            "for sizing steps: pairs of a chance that the bet wins and the share of the equal weight that a"
            " name gets from there on; nothing below the first. The chance is the probability of the class,"
            " or that of a return on the bet's side by score and uncertainty; in long_short of what sets the"
            " name apart from the bar's mean. Where there is a class `none`, chances are lower: set them so"
        ),
    )
    skip_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "share of a bar's names, those with the largest uncertainty, that no book takes; 0: none is"
            " skipped"
        ),
    )
    max_sector_weight: float | None = Field(
        None,
        gt=0,
        description=(
            "largest net weight (longs less shorts) of a sector in a new book, a share of the capital; its"
            " heavier side is cut, and both sides are kept as heavy as each other. Names without a sector"
            " count as one together; none: no limit"
        ),
    )
    max_beta: float | None = Field(
        None,
        gt=0,
        description=(
            "largest net beta to the market of a new long_short book, above or below 0, by beta over the 60"
            " bars up to the signal; positions that push it further are cut. A name whose beta is unknown"
            " counts with 1; none: no limit"
        ),
    )
    volatility_target: float | None = Field(
        None,
        gt=0,
        description=(
            "annual volatility above which a new book is made smaller as a whole, predicted from what it"
            " would have earned in the 60 bars up to the signal; never made larger. A name with fewer than 30"
            " known returns there gets no position; none: no target"
        ),
    )
    entry: Literal["next_open", "next_close"] = Field(
        "next_open", description="the first price after a signal was known at which it is traded"
    )
    holding_bars: int | None = Field(
        None,
        ge=1,
        description=(
            "bars that a book is held; none: the horizon. As many staggered books, each with an equal share"
            " of capital"
        ),
    )
    cost_bps_per_side: float = Field(
        10.0, ge=0, description="cost of trading, basis points of the traded value, on buys and on sells"
    )
    borrow_bps_per_year: float = Field(
        0.0,
        ge=0,
        description=(
            "annual fee on the value of short positions, basis points, charged for each bar that they are"
            " held; rows of the panel with a `borrow_bps` have that fee instead"
        ),
    )
    capital: float | None = Field(
        None,
        gt=0,
        description=(
            "money that is traded with, in the panel's currency: an order costs more the larger a share it is"
            " of what is traded in its name; none: costs do not depend on size"
        ),
    )
    impact_volatilities: float = Field(
        1.0,
        ge=0,
        description=(
            "cost of an order as large as one bar's mean traded value, as a multiple of volatility a bar;"
            " grows with the root of the share. The report's capacity is counted with it too"
        ),
    )
    volume_bars: int = Field(
        20,
        ge=2,
        description="bars up to the signal over which a name's traded value and volatility are taken",
    )
    half_spread: Literal["none", "roll"] = Field(
        "none",
        description=(
            "roll: each side also costs half the name's effective spread after Roll (1984), noisy where the"
            " true spread is far below volatility"
        ),
    )
    spread_bars: int = Field(60, ge=4, description="bars up to the signal over which the spread is estimated")
    stop_loss_share: float | None = Field(
        0.15,
        gt=0,
        description=(
            "a name that lost this share since its book entered is closed at the next price, none: never"
        ),
    )
    drawdown_stop: float | None = Field(
        None, gt=0, lt=1, description="net drawdown at which everything is closed for pause_bars, none: never"
    )
    consecutive_loss_stop: int | None = Field(
        None,
        ge=2,
        description="losing bars in a row after which everything is closed for pause_bars, none: never",
    )
    pause_bars: int = Field(
        20,
        ge=1,
        description=(
            "bars without positions after a portfolio stop; drawdown and losses are counted afresh then"
        ),
    )
    volatility_ceiling: float | None = Field(
        None, gt=0, description="annual volatility above which new books get half the exposure, none: never"
    )
    volatility_bars: int = Field(
        20, ge=2, description="bars over which realised portfolio volatility is measured"
    )
    delisting_bars: int = Field(
        5,
        ge=1,
        description=(
            "bars without a price after which a position is closed at its last price; should the name trade"
            " again, the gain or loss since then is booked"
        ),
    )
    delisting_return: float = Field(
        0.0,
        ge=-1,
        le=1,
        description=(
            "return from the last known price at that close; 0 flatters panels whose delisted names went to"
            " nothing"
        ),
    )
    interval_level: float = Field(
        0.9, gt=0.5, lt=1, description="chance with which an interval holds the true Sharpe ratio"
    )
    decay_bars: int = Field(
        20, ge=0, description="longest delay of the signal for which the information coefficient is measured"
    )

    @field_validator("size_steps")
    @classmethod
    def _steps_rise(cls, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chances, sizes = zip(*steps, strict=True)
        rise = all(a < b for a, b in pairwise(chances))
        grow = all(a <= b for a, b in pairwise(sizes))
        if not rise or not grow or not all(0 <= value <= 1 for value in (*chances, *sizes)):
            raise ValueError(
                f"size_steps is {steps}; give pairs of a chance and a size, both within 0 and 1, each chance"
                " above the one before it and no size below the one before it, such as [[0.5, 0.5], [0.53,"
                " 1.0]]"
            )
        return steps
