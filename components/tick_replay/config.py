"""Settings of the replay: which policies and latencies are compared, what trading costs, how much is bet."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.contracts.documents.tick_replay import Policy
from components.settings import Section

Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Basis = Annotated[float, Field(ge=-100, le=100, multiple_of=0.01)]


class Latency(Section):
    """How long data, orders and cancels are on their way, each drawn by itself."""

    fixed_ms: tuple[Milliseconds, ...] = Field(
        (0.0, 10.0, 50.0, 250.0),
        description=(
            "latencies that are compared: milliseconds from the moment that a decision is about to the"
            " arrival of its order at the exchange; a cancel takes as long as an order"
        ),
    )
    measured: bool = Field(
        True,
        description="also compare with draws from the measured distribution of delays of symbol and hour",
    )
    feed_share: float = Field(
        0.5, ge=0, le=1, description="share of a fixed latency that passes before the trader knows"
    )
    least_ms: Milliseconds = Field(
        1.0,
        description=(
            "what each measured delay is longer by: measured is the excess over the least way, which stamps"
            " of one direction can't tell"
        ),
    )


class Sizing(Section):
    """How large a bet is: `clip(f(chances or expected return, costs), -1, 1)` of the capital, made smaller
    where the model or the way of the order is unsure. Nothing is asked for where what is expected, made
    smaller likewise, is not more than the spread then and the fees of a round trip, or where the chance of no
    trade is above that of the side.
    """

    rule: Literal["whole", "kelly", "steps"] = Field(
        "kelly",
        description=(
            "whole: all of the capital by the sign of the score. kelly: kelly_fraction of the share that"
            " makes wealth grow fastest after costs, from chances and what a move is worth, or from score and"
            " uncertainty. steps: by the chance that the bet wins, size_steps"
        ),
    )
    kelly_fraction: float = Field(0.5, gt=0, le=1, description="share of Kelly's share")
    size_steps: list[tuple[float, float]] = Field(
        [(0.5, 0.5), (0.6, 1.0)],
        min_length=1,
        description="pairs of a chance that the bet wins and the share of the capital from there on",
    )
    least_score: float = Field(
        0.0, ge=0, description="scores no farther from 0 than this ask for nothing; in the score's unit"
    )
    jitter_weight: float = Field(
        1.0,
        ge=0,
        description=(
            "sizes and what is expected are multiplied by 1 - weight * jitter / horizon, not below 0, where"
            " jitter is the distance from the median to the 95th percentile of the delays of the session's"
            " messages until then; 0: they are not"
        ),
    )

    @field_validator("size_steps")
    @classmethod
    def _steps_rise(cls, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chances, sizes = zip(*steps, strict=True)
        rise = all(a < b for a, b in pairwise(chances)) and all(a <= b for a, b in pairwise(sizes))
        if not rise or not all(0 <= value <= 1 for value in (*chances, *sizes)):
            raise ValueError(
                f"size_steps is {steps}; give pairs of a chance and a size, both within 0 and 1, each chance"
                " above the one before it and no size below, such as [[0.5, 0.5], [0.6, 1.0]]"
            )
        return steps


class Settings(Section):
    """Every expert is replayed with every policy and latency, beside its paper profit."""

    policies: tuple[Policy, ...] = Field(
        ("none", "taker", "passive", "passive_then_cross"),
        min_length=1,
        description=(
            "none: no order. taker: orders take what rests. passive: orders rest at the touch and are moved"
            " after it. passive_then_cross: they rest for patience_ms, then what is left takes"
        ),
    )
    latency: Latency = Latency()
    sizing: Sizing = Sizing()
    paper_price: Literal["mid", "touch"] = Field(
        "mid", description="price at which paper orders are filled, in full and at the decision's moment"
    )
    maker_fee_bps: Basis = Field(
        2.0,
        description="fee of an order that rested, basis points of the value, to a hundredth; below 0 paid",
    )
    taker_fee_bps: Basis = Field(2.0, description="fee of an order that took, likewise")
    capital: float = Field(
        10_000.0, gt=0, description="value of a bet of size 1 in one symbol, in quote currency"
    )
    max_position: float = Field(
        1.0, gt=0, description="most that trades of one side hold together, as a multiple of the capital"
    )
    trades_at_once: int = Field(
        1, ge=1, le=64, description="trades of one side that may be open at once in a symbol"
    )
    same_side: Literal["renew", "ignore"] = Field(
        "renew",
        description=(
            "what a decision does for whose side there are trades_at_once trades already. renew: the one that"
            " would end first is held for another horizon, instead of being sold and bought again. ignore:"
            " nothing"
        ),
    )
    patience_ms: Milliseconds = Field(
        1_000.0, gt=0, description="how long an order rests before it is moved to the touch, or crosses"
    )
    cancels: Literal["behind", "proportional"] = Field(
        "behind",
        description=(
            "where others cancel in the queue of an own order, as far as data does not tell: from behind"
            " while there is anything (careful), or in proportion from before and behind"
        ),
    )
    apart_ms: Milliseconds = Field(
        50.0,
        ge=0,
        description=(
            "how far apart a trade and the change of depth that it makes may be received, in either order:"
            " for so long a change by as many lots is taken for the trade, and no lot counts twice; 0 where"
            " both come in one message"
        ),
    )
    stale_ms: Milliseconds = Field(
        5_000.0,
        gt=0,
        description="nothing is asked for where no event has come for longer than this: the book may be old",
    )
    step_seconds: float = Field(
        1.0, ge=0.001, le=86_400, description="length of the steps of curves and of the bootstrap"
    )
    interval_level: float = Field(
        0.9,
        ge=0.8,
        lt=1,
        description="chance with which an interval holds the true figure; gates ask for its lower limit",
    )
    bootstrap_draws: int = Field(1_000, ge=100, le=100_000, description="draws of the block bootstrap")
    year_hours: float = Field(
        8_766.0, gt=0, description="hours that are traded in a year, for annual ratios; 1,638 for US shares"
    )

    @field_validator("policies")
    @classmethod
    def _named_once(cls, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        if len(set(policies)) != len(policies):
            raise ValueError(f"policies={list(policies)} names one twice; name each once")
        return policies
