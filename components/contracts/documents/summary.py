"""The few numbers of a run that the terminal and the report's head show."""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.champion import Registration
from components.contracts.documents.fields import Figure
from components.contracts.documents.verdict import Gate, Luck

__all__ = ["Attainable", "ModelFigures", "RunSummary"]


class ModelFigures(Part):
    """One row of the table of models, on the test window; money is that of long_short."""

    name: str
    ic: Figure
    rank_ic: Figure
    icir: Figure
    t: Figure  # of RankIC, as a normal deviate; None where the bars are too few for one
    sharpe_gross: Figure
    sharpe_net: Figure
    sharpe_net_interval: tuple[Figure, Figure]
    max_drawdown: Figure
    annual_turnover: Figure


class Attainable(Part):
    """How much of what a simulated market holds was found."""

    attainable_ic: float  # of the simulator's own expectation
    stack_ic: float
    recovered_share: float


class RunSummary(Document):
    """A finished run in short: summary.json in its folder."""

    format: Literal[1] = 1
    name: str
    seed: int
    test_window: str
    horizon: int
    target: str
    cost_bps: float
    models: list[ModelFigures]
    approved: bool
    reason: str
    gates: tuple[Gate, ...]
    registration: Registration
    truth: Attainable | None  # None for real data
    luck: Luck | None = None  # runs of before trials were kept judge one model by itself
