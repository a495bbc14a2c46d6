"""Thresholds of the readiness gates."""

from typing import Annotated

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """A model is approved when it passes every gate of level `approval`; `promotion` asks for the champion to
    be beaten as well.
    """

    candidate: str = Field("stack", description="expert whose predictions are judged")
    min_information_coefficient: float = Field(
        0.02, description="mean cross-sectional IC against the target, test window"
    )
    min_t_statistic: float = Field(
        2.0,
        description=(
            "t of IC and of RankIC as a normal deviate: 2 has the same chance whatever the number of bars;"
            " the smaller counts"
        ),
    )
    min_information_ratio: float = Field(0.5, description="annual, net: long_only against every name alike")
    min_sharpe: float = Field(1.0, description="annual, net, of long_short")
    min_sharpe_lower_limit: float = Field(
        0.0, description="lower limit of that Sharpe ratio's interval; the level is backtest.interval_level"
    )
    max_drawdown: float = Field(0.2, gt=0, le=1, description="share of the peak, net, of long_short")
    capital: float = Field(
        1e6,
        ge=1e5,
        le=1e9,
        description="capital at which the gate `capacity` asks for profit, in the money of the prices",
    )
    min_sharpe_at_capital: float = Field(
        0.5,
        description=(
            "annual, net, of long_short at that capital, when orders move prices; not judged where no traded"
            " value is known"
        ),
    )
    max_illiquid_profit: float = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "share of long_short's profit before costs that may come from the least traded fifth of names, by"
            " traded value at the bar; not judged where no volume is known"
        ),
    )
    min_sharpe_outside_illiquid: float = Field(
        0.5, description="annual, net, of long_short traded without the least traded fifth of names"
    )
    min_most_traded_skill: float = Field(
        0.25,
        le=1,
        description=(
            "mean RankIC among the names that make four fifths of the money traded in a bar, at least 20, as"
            " a share of that among all; judged from 100 names a bar on"
        ),
    )
    max_psi: float = Field(
        0.25,
        gt=0,
        description="newer against older half of the test window, scores standardised in their cross-section",
    )
    coverage: float = Field(0.8, gt=0, lt=1, description="share of labels wanted between p10 and p90")
    coverage_tolerance: float = Field(
        0.1, gt=0, lt=1, description="distance from `coverage` that is let pass"
    )
    max_class_calibration_error: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=(
            "mean distance of the classes' probabilities from their frequencies, where the target is a class;"
            " the share of rises alone lies 0.02 to 0.03 about in a year of overlapping labels"
        ),
    )
    periods: int = Field(4, ge=1, description="equal parts of the test window")
    min_positive_periods: int = Field(3, ge=1, description="parts whose mean RankIC must be above 0")
    min_test_bars: int = Field(
        60, ge=10, description="bars that a gate needs, with an IC or with a return; on fewer none passes"
    )
    min_ordered_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description=(
            "share of the test window's bars that must have an IC; bars on which all scores are equal have"
            " none"
        ),
    )
    max_spa_p: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {"nothing": 0.05},
        description=(
            "chance, by the test for superior predictive ability over all models that were ever tried on the"
            " test window, that the best of so many beats each of these by as much without any being better;"
            " `nothing` is cash, else the name of a model of the run, such as equal_weights"
        ),
    )
    min_deflated_sharpe: float = Field(
        0.95,
        ge=0,
        le=1,
        description=(
            "chance that the true Sharpe ratio of long_short, net, is above what the best of all models that"
            " were tried on the test window reaches by luck"
        ),
    )
    max_overfitting: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "probability of backtest overfitting: how often the model that is best on half of the test window"
            " is below the middle on the other; not asked of fewer than 10 models"
        ),
    )
    baselines: dict[str, float] = Field(
        {"median": 0.005, "equal_weights": -0.005, "best_single": -0.005},
        description=(
            "mean RankIC by bar that the candidate must have over each baseline; negative: how much worse is"
            " let pass as noise"
        ),
    )
    min_champion_t: float = Field(
        1.28,
        description=(
            "t of the RankIC difference by bar to the champion, as a normal deviate; 1.28 lets an equal model"
            " pass one time in ten"
        ),
    )
    min_champion_bars: int = Field(
        60, ge=10, description="bars on which candidate and champion were both out of sample"
    )
