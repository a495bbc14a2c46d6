"""What a cross-validation before the test window gave: each model's figures on every backtest path. Models
there also learned from bars after those that they predict, so no gate reads it.
"""

from typing import Literal

from components.contracts.documents import Part
from components.contracts.documents.fields import Figure

__all__ = ["CrossValidated", "Distribution", "GroupSpan", "ModelPaths", "PathFigures"]


class PathFigures(Part):
    """One model on one path, which holds every group of bars once; money is of long_short, net."""

    path: int
    rank_ic: Figure  # mean over bars
    rank_ic_t: Figure
    sharpe_net: Figure
    annual_return_net: Figure
    max_drawdown: Figure  # share of the peak


class Distribution(Part):
    """One figure over the paths. They trade the same bars, so it is no interval for what is to come."""

    p10: Figure
    p50: Figure
    p90: Figure
    share_below_0: Figure


class ModelPaths(Part):
    """One model on all paths."""

    paths: list[PathFigures]
    rank_ic: Distribution
    sharpe_net: Distribution


class GroupSpan(Part):
    """A group of bars by its first and last one."""

    start: str  # UTC, YYYY-MM-DDTHH:MM:SSZ
    end: str
    bars: int


class CrossValidated(Part):
    """All models on all paths; `test_groups` of the groups are left out in each of the splits."""

    scheme: Literal["purged_kfold", "combinatorial"]
    groups: list[GroupSpan]
    test_groups: int
    splits: int
    paths: int
    models: dict[str, ModelPaths]
