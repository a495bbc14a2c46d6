"""What a replay of order books found of each expert: paper profit, and what of it could be had by policy and
latency. Money is in quote currency; figures that can't be computed are None.
"""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Figure
from components.contracts.errors import ContractError

__all__ = [
    "CUTS",
    "CutName",
    "Kept",
    "Orders",
    "PartFigures",
    "Policy",
    "Profit",
    "Strategy",
    "TickReplay",
    "TickReplayStamp",
]

Policy = Literal["none", "taker", "passive", "passive_then_cross"]
CutName = Literal["symbol", "hour", "regime"]
CUTS: tuple[CutName, ...] = ("symbol", "hour", "regime")


class Profit(Part):
    """What was earned, the interval that holds it with the chance `level` of the document, and basis points
    of the value that was traded.
    """

    total: Figure
    interval: tuple[Figure, Figure]
    bps_of_traded: Figure


class Kept(Part):
    """The share of the paper profit that was kept; None is undefined: the interval of paper is not
    above 0.
    """

    share: Figure
    interval: tuple[Figure, Figure]


class PartFigures(Part):
    """One part of a strategy's steps. `paper` is the same decisions filled at once, without costs; `at_mid`
    what the orders that were filled would have earned at the mid of their moment, so that latency and missed
    fills alone stand between it and paper; `gross` at the prices they got, `net` after fees.

    A trade is an entry and its exit. `hit_rate`, `average_return_bps` and `trades` are of trades that ended
    flat, by the moment of their decision; `average_return_bps` is net, of the value that was entered.
    """

    part: str
    steps: int
    paper: Profit
    at_mid: Profit
    gross: Profit
    net: Profit
    kept_at_mid: Kept
    implementable: Kept  # net over paper
    information_ratio: Figure  # annual, of the net profit of steps
    information_ratio_interval: tuple[Figure, Figure]
    trades: int
    hit_rate: Figure
    average_return_bps: Figure
    max_drawdown: Figure  # net, as a share of the capital
    turnover: Figure  # traded value over the capital
    cost_share: Figure  # spread and fees, of the profit at mid; None where that is not positive
    fill_ratio: Figure  # lots filled over lots sent; None where none were sent


class Orders(Part):
    """What became of orders; lots of different symbols are added up. filled + cancelled + open = sent."""

    orders: int
    sent_lots: int
    filled_lots: int
    maker_lots: int
    cancelled_lots: int
    open_lots: int  # on their way or resting at the end of a session
    cancels: int
    failed_cancels: int  # that came after the order was filled, or before it arrived
    missed_trades: int  # entries of which nothing was filled
    open_trades: int  # not flat at the end of a session; they pay the last half spread and a taker's fee


class Strategy(Part):
    """One expert's decisions under one policy and latency."""

    expert: str
    policy: Policy
    latency: str  # such as 50ms, or measured
    whole: PartFigures
    by: dict[CutName, list[PartFigures]]
    orders: Orders


class TickReplayStamp(Part):
    """What went in: content SHA-256 by name, and the code."""

    code: str
    config_hash: str
    inputs: dict[str, str]


class TickReplay(Document):
    """All strategies of one task. `decisions` are moments and symbols with a score, by expert, of which
    `acted` asked for an order and `stale` might not: no event had come for too long.
    """

    format: Literal[1] = 1
    stamp: TickReplayStamp
    target: str
    horizon: int  # samples
    paper_price: Literal["mid", "touch"]
    capital: float  # of one symbol
    symbols: list[str]
    sessions: int  # symbol-sessions
    step_seconds: float
    block_steps: int  # of the bootstrap
    level: float
    latencies: list[str]  # in order, `measured` last where it is there
    decisions: dict[str, int]
    acted: dict[str, int]
    stale: dict[str, int]
    strategies: list[Strategy]

    def strategy(self, expert: str, policy: str, latency: str, *, where: str) -> Strategy:
        """The one of these names; ContractError where there is none, naming the file `where`."""
        wanted = (expert, policy, latency)
        there = {(one.expert, one.policy, one.latency): one for one in self.strategies}
        if wanted not in there:
            experts, policies, latencies = (sorted({name[part] for name in there}) for part in range(3))
            raise ContractError(
                f"{where} holds no replay of {', '.join(wanted)}; it has {', '.join(experts)} with"
                f" {', '.join(policies)} at {', '.join(latencies)}. Set tick_gates.candidate, policy and"
                " latency to what is replayed, or replay it."
            )
        return there[wanted]
