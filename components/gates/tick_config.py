"""Thresholds for models of ticks."""

from typing import Literal

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """A model of ticks is approved when what a replay says that it could have earned passes every gate."""

    candidate: str = Field("causal_cnn", description="expert whose predictions are judged")
    policy: Literal["taker", "passive", "passive_then_cross"] = Field(
        "taker", description="policy whose profit is judged: chosen beforehand, not the best of all"
    )
    latency: str = Field(
        "measured",
        description="latency whose profit is judged: measured, or a fixed one as replayed, such as 50ms",
    )
    min_independent_moves: int = Field(
        30, ge=1, description="moves that pay after costs and share no moment, among what is judged"
    )
    min_trades: int = Field(30, ge=2, description="trades that figures of money need; on fewer none passes")
    min_precision_lift: float = Field(
        1.1,
        ge=1,
        description=(
            "area under the precision-recall curve of moves that pay, over the share of moments that pay"
        ),
    )
    min_paper_lower_limit: float = Field(
        0.0, description="lower limit of the paper profit's interval, in quote currency"
    )
    min_implementable_rate: float = Field(
        0.3, gt=0, le=1, description="net profit over paper profit, at that policy and latency"
    )
    min_net_lower_limit: float = Field(
        0.0, description="lower limit of the net profit's interval, in quote currency"
    )
    min_information_ratio: float = Field(1.0, description="annual, of the net profit of steps")
    max_drawdown: float = Field(
        0.1, gt=0, description="deepest fall of the net profit, as a share of all symbols' capital"
    )
    min_fill_ratio: float = Field(0.3, gt=0, le=1, description="lots filled over lots sent")
    baselines: dict[str, float] = Field(
        {"touch_imbalance": 0.0},
        description=(
            "by expert what the candidate must earn more than it, net, in quote currency: the lower limit of"
            " the difference step by step"
        ),
    )
