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
    tournament: int = Field(12, ge=2, description="formulas among which a parent is chosen")
    parsimony: float = Field(
        0.002,
        ge=0,
        description="information coefficient that a further function, column or number must be worth",
    )
    functions: tuple[Function, ...] = Field(
        ("add", "sub", "mul", "div", "max", "min", "neg", "abs"),
        min_length=1,
        description="the language of the search",
    )
    largest_constant: float = Field(
        1.0, ge=0, description="numbers are drawn from minus this to this; 0: formulas without numbers"
    )
    max_length: int = Field(
        10,
        ge=3,
        le=100,
        description="functions, columns and numbers in a formula; longer ones are not candidates",
    )
    max_inputs: int = Field(
        30,
        ge=2,
        description=(
            "inputs that a search sees: those with the strongest single or pairwise relation to the residual"
            " in its bars"
        ),
    )
    max_rows: int = Field(
        60_000, ge=1_000, description="rows a search learns from; whole bars are drawn where there are more"
    )
    min_symbols: int = Field(
        8, ge=5, description="symbols with label and scores below which a bar does not count"
    )
    min_holdout_bars: int = Field(40, ge=10, description="bars to judge on below which nothing is mined")
    max_candidates: int = Field(
        6, ge=1, le=200, description="formulas tried on the hold-out; each makes the bar higher for all"
    )
    earlier_tries: int = Field(
        0,
        ge=0,
        description=(
            "formulas that were tried on the same hold-out in earlier runs; they raise the bar like those of"
            " this one"
        ),
    )
    max_input_correlation: float = Field(
        0.7,
        gt=0,
        le=1,
        description=(
            "mean correlation within a bar with an input from which on a formula counts as that input again"
        ),
    )
    max_candidate_correlation: float = Field(
        0.6, gt=0, le=1, description="the same between two candidates; the weaker one goes"
    )
    min_mining_gain: float = Field(
        0.005,
        ge=0,
        description=(
            "RankIC that a candidate must add in the mining part to the stack and the stronger candidates;"
            " spares tries"
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
