"""Settings of the stacking stage."""

from typing import ClassVar, Literal

from pydantic import Field

from components.settings import Section

Combiner = Literal["shrunk", "regimes", "elasticnet", "logistic", "mlp", "lightgbm"]


class Settings(Section):
    """How the out-of-fold table is judged and which combiners compete."""

    replaced: ClassVar = {"min_gain": "stacking.level, a chance of error"}

    combiners: list[Combiner] = Field(
        ["shrunk", "regimes", "elasticnet"],
        description=(
            "what competes with equal weights, performance weights and the best single expert: weights shrunk"
            " towards equal ones, such weights that move with the regime, a linear model, one of whether a"
            " label lies above its bar's mean, a small network, trees. Each one more must be further ahead to"
            " be believed"
        ),
    )
    min_experts: int = Field(2, ge=1, description="experts that must be left for a run to go on")
    level: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description=(
            "chance of leaving equal weights though nothing that competes is better, all of them counted;"
            " 0: equal weights in any case"
        ),
    )
    min_train_bars: int = Field(
        40,
        ge=5,
        description="bars of known out-of-fold rows below which nothing is fitted and equal weights are used",
    )
    lightgbm_rounds: int = Field(80, ge=1, description="trees")
