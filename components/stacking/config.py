"""Settings of the stacking stage."""

from typing import Literal

from pydantic import Field

from components.settings import Section

Combiner = Literal["elasticnet", "lightgbm"]


class Settings(Section):
    """How the out-of-fold table is judged and which combiners compete."""

    combiners: list[Combiner] = Field(
        ["elasticnet", "lightgbm"], description="what competes with equal weights and the best single expert"
    )
    min_experts: int = Field(2, ge=1, description="experts that must be left for a run to go on")
    min_gain: float = Field(
        0.0,
        ge=0,
        description="gain in validation RankIC over equal weights that a combiner must show to be used",
    )
    min_train_bars: int = Field(
        40,
        ge=5,
        description="bars of known out-of-fold rows below which nothing is fitted and equal weights are used",
    )
    lightgbm_rounds: int = Field(80, ge=1, description="trees")
