"""Settings of residual mining."""

from typing import Literal

from pydantic import Field

from components.settings import Section

Function = Literal["add", "sub", "mul", "div", "max", "min", "neg", "abs", "sqrt", "log", "inv"]


class Settings(Section):
    """How formulas are searched in the older part of the validation window and judged in its newest part."""

    holdout_share: float = Field(
        0.4,
        gt=0.1,
        lt=0.8,
        description=(
            "newest share of the usable validation bars, kept for judging; purge and embargo lie before it"
        ),
    )
    folds: int = Field(
        3,
        ge=2,
        le=10,
        description="mining folds: each is left out of one search, whose formulas must hold in it",
    )
    seeds_per_fold: int = Field(2, ge=1, le=20, description="searches for each fold that is left out")
    population: int = Field(400, ge=20, description="formulas in a generation")
    generations: int = Field(6, ge=1, description="generations of a search")
    functions: tuple[Function, ...] = Field(
        ("add", "sub", "mul", "div", "max", "min", "neg", "abs"),
        min_length=1,
        description="the language of the search",
    )
    max_rows: int = Field(
        60_000, ge=1_000, description="rows a search learns from; whole bars are drawn where there are more"
    )
    min_holdout_bars: int = Field(40, ge=10, description="bars to judge on below which nothing is mined")
    earlier_tries: int = Field(
        0,
        ge=0,
        description=(
            "formulas that were tried on the same hold-out in earlier runs; they raise the bar like those of"
            " this one"
        ),
    )
    max_weight: float = Field(
        3.0,
        gt=0,
        description="largest weight of a formula beside the stack's 1, both standardised in each bar",
    )
    significance: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description=(
            "chance of accepting anything where nothing is to be found, shared by all formulas that are tried"
        ),
    )
    bootstrap_draws: int = Field(2_000, ge=200, description="draws of the block bootstrap")
    experts: tuple[str, ...] = Field(
        (), description="experts whose out-of-fold scores make the stack; none: all, without the combiners"
    )
