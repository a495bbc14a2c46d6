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
    min_row_share: float = Field(
        0.7, gt=0, le=1, description="share of the largest expert's rows that all experts must have in common"
    )
    max_gap_bars: int = Field(
        10,
        ge=1,
        description="longest stretch of bars without any row that the audit accepts inside the table",
    )
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
    elasticnet_alphas: list[float] = Field(
        [0.03, 0.01, 0.003, 0.001, 0.0003],
        description="penalties tried inside the training rows, newest 30 % of bars held out",
    )
    elasticnet_l1_share: float = Field(
        0.5, ge=0, le=1, description="share of the penalty that is absolute, the rest is squared"
    )
    lightgbm_rounds: int = Field(80, ge=1, description="trees")
    lightgbm_leaves: int = Field(7, ge=2, description="leaves a tree")
    lightgbm_learning_rate: float = Field(0.05, gt=0, description="weight of each tree")
    lightgbm_min_leaf_share: float = Field(
        0.01, gt=0, lt=1, description="share of the rows that a leaf must hold"
    )
