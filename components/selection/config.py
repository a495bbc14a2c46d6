"""Settings of the selection stage."""

from datetime import date
from typing import Literal

from pydantic import Field

from components.settings import Section


class Effort(Section):
    """How much is repeated, and which of the slow stages run."""

    flips: int = Field(
        ge=3,
        le=99,
        description=(
            "times that the labels' direction is redrawn by block; under pure chance a method votes for an"
            " input in 1 of flips + 1 eras"
        ),
    )
    rounds: int = Field(ge=5, description="trees of a forest")
    shap_rows: int = Field(ge=50, description="held-out rows that are taken apart into SHAP values")
    permutation_repeats: int = Field(
        ge=2, description="draws of each kind of permutation (cyclic shift, blocks)"
    )
    permutation_inputs: int = Field(
        ge=1,
        description=(
            "inputs permuted in an era, the heaviest in the model first; the others count as not needed"
        ),
    )
    boruta_rows: int = Field(ge=0, description="rows of an era that Boruta sees; 0: no Boruta")
    boruta_rounds: int = Field(20, ge=10, description="iterations of Boruta at most")
    recursive_elimination: bool = Field(description="recursive feature elimination")
    genetic_seeds: int = Field(ge=0, description="seeds of the genetic search; 0: none")
    usual_windows: int = Field(
        ge=0, description="windows of the past that adversarial validation tells apart too, for comparison"
    )


class Genetic(Section):
    """The genetic search over sets of inputs; fitness is the held-out correlation of a ridge regression, less
    a price a gene.
    """

    population: int = Field(30, ge=4, description="sets of inputs in each generation")
    generations: int = Field(20, ge=1, description="generations")


class Filter(Section):
    """What an input must show before anything is fitted."""

    least_coverage: float = Field(0.6, ge=0, le=1, description="share of rows with a value")
    most_common_share: float = Field(
        0.995, gt=0, le=1, description="an input is constant where more of its values than this are equal"
    )
    largest_correlation: float = Field(
        0.9,
        gt=0,
        le=1,
        description="inputs of a higher absolute correlation form a cluster, of which one stays",
    )
    largest_vif: float = Field(
        30.0,
        gt=1,
        description="variance inflation factor (of the correlation matrix) above which the weaker input goes",
    )
    top_inputs: int = Field(20, ge=1, description="length of the rolling-IC list")
    top_inputs_short: int = Field(12, ge=1, description="the same in degraded mode, with a short history")


class Adversarial(Section):
    """Can a classifier tell the newest bars from the rest of the training window?"""

    auc: float = Field(0.7, gt=0.5, lt=1, description="area under the curve above which the fold is flagged")
    most_rows: int = Field(8_000, ge=200, description="rows of each side")


class ReportEra(Section):
    """A span of whole days for the IC table on the page (UTC, both ends included)."""

    name: str = Field(description="name of the span")
    start: date = Field(description="first day")
    end: date = Field(description="last day")


QUICK = Effort(
    flips=4,
    rounds=40,
    shap_rows=600,
    permutation_repeats=2,
    permutation_inputs=25,
    boruta_rows=0,
    recursive_elimination=False,
    genetic_seeds=0,
    usual_windows=2,
)
FULL = Effort(
    flips=9,
    rounds=80,
    shap_rows=1500,
    permutation_repeats=6,
    permutation_inputs=80,
    boruta_rows=5_000,
    recursive_elimination=True,
    genetic_seeds=5,
    usual_windows=6,
)
ERAS = (
    ReportEra(name="2016-18", start=date(2016, 1, 1), end=date(2018, 12, 31)),
    ReportEra(name="2019-21", start=date(2019, 1, 1), end=date(2021, 12, 31)),
    ReportEra(name="2022-25", start=date(2022, 1, 1), end=date(2025, 12, 31)),
)


class Settings(Section):
    """How factors are chosen."""

    mode: Literal["off", "quick", "full"] = Field(
        "off",
        description=(
            "off: every expert sees all inputs; quick: minutes; full: all stages with every repetition"
        ),
    )
    experts: tuple[str, ...] = Field(
        (), description="experts that see chosen inputs only; none: all but median"
    )
    fewest_inputs: int = Field(
        20, ge=1, description="inputs that a fold gets at least, as far as so many hold values"
    )
    era_bars: int = Field(
        126,
        ge=15,
        description="bars of an era; shorter where a training window would hold fewer than `fewest_eras`",
    )
    fewest_eras: int = Field(5, ge=3, description="eras that a training window is cut into at least")
    most_rows: int = Field(
        30_000,
        ge=500,
        description=(
            "rows that a model learns from in an era; evenly spaced bars are taken where there are more"
        ),
    )
    block_bars: int = Field(
        21,
        ge=2,
        description=(
            "length of the blocks that are permuted, flipped and drawn; at least twice the horizon is taken"
        ),
    )
    plus_chance: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=(
            "an input is on the plus list where it appears in so many eras that a useless one gets there with"
            " at most this chance"
        ),
    )
    threads: int = Field(2, ge=1, description="threads of each fit")
    filter: Filter = Filter()
    genetic: Genetic = Genetic()
    adversarial: Adversarial = Adversarial()
    forward_draws: int = Field(
        1_000, ge=100, description="draws of the block bootstrap in the forward comparison"
    )
    report_eras: tuple[ReportEra, ...] = Field(
        ERAS, description="spans of the IC table; thirds of the calendar where they hold no bar"
    )
    quick: Effort = Field(QUICK, description="what mode quick repeats")
    full: Effort = Field(FULL, description="what mode full repeats")

    @property
    def effort(self) -> Effort:
        """The repetitions of the mode."""
        return self.full if self.mode == "full" else self.quick
