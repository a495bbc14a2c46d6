"""The gates of models of ticks: enough moves and trades, skill at finding moves that pay, a paper profit that
is no luck, and how much of it is left after latency, missed fills and costs.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.contracts.documents.tick_replay import Profit, Strategy, TickReplay
from components.contracts.documents.verdict import Gate
from components.gates.gate import gate
from components.gates.tick_config import Settings
from components.metrics import block_bootstrap_interval
from components.metrics.paying_moves import PayingMoves

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Replayed:
    """What is judged: the candidate's `strategy` in `found`, the CURVE of all strategies, what its forecasts
    of moves are worth, and what precision over the base rate luck would have reached.
    """

    found: TickReplay
    strategy: Strategy
    curve: pl.DataFrame
    moves: PayingMoves
    lucky_lift: float


def tick_gates(replayed: Replayed, settings: Settings) -> tuple[Gate, ...]:
    """Every gate, in the order in which they are read."""
    whole, few = replayed.strategy.whole, _too_few(replayed, settings)
    return (
        *_evidence_gates(replayed, settings),
        *_profit_gates(replayed, settings, few),
        gate(
            "information_ratio",
            whole.information_ratio,
            ">=",
            settings.min_information_ratio,
            "annual IR of the net profit of steps",
            lacking=few,
        ),
        gate(
            "drawdown",
            whole.max_drawdown,
            "<=",
            settings.max_drawdown,
            "deepest fall of the net profit as a share of the capital",
            lacking=few,
        ),
        gate(
            "fill_ratio",
            whole.fill_ratio,
            ">=",
            settings.min_fill_ratio,
            "lots filled over lots sent",
            lacking=few,
        ),
        *(_baseline_gate(replayed, name, settings, few) for name in settings.baselines),
    )


def _too_few(replayed: Replayed, settings: Settings) -> str | None:
    trades = replayed.strategy.whole.trades
    if trades >= settings.min_trades:
        return None
    if trades > 0:
        return f"only {trades} trades, {settings.min_trades} needed (tick_gates.min_trades)"
    found, expert = replayed.found, replayed.strategy.expert
    asked, decided = found.acted.get(expert, 0), found.decisions.get(expert, 0)
    return f"no trade: {asked:,} of {decided:,} forecasts expected more than a round trip costs"


def _evidence_gates(replayed: Replayed, settings: Settings) -> tuple[Gate, ...]:
    moves, whole, luck = replayed.moves, replayed.strategy.whole, replayed.lucky_lift
    nothing_pays = None if np.isfinite(luck) else "no moment of one side pays"
    return (
        gate(
            "independent_moves",
            moves.moves,
            ">=",
            settings.min_independent_moves,
            f"moves that pay and share no moment, among {moves.rows:,} judged moments",
        ),
        gate("trades", whole.trades, ">=", settings.min_trades, "trades that ended flat"),
        gate(
            "precision_over_base_rate",
            moves.lift,
            ">=",
            max(settings.min_precision_lift, luck),
            f"PR-AUC of moves that pay ({moves.precision:.4f}) over their share ({moves.base_rate:.4f}); the"
            f" same forecasts at other times, which know nothing, stay below {luck:.4g} with a chance of"
            f" {(1 + replayed.found.level) / 2:.0%}",
            lacking=nothing_pays,
        ),
    )


def _profit_gates(replayed: Replayed, settings: Settings, few: str | None) -> tuple[Gate, ...]:
    whole, found = replayed.strategy.whole, replayed.found
    low, high = whole.implementable.interval
    interval = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    undefined = None
    if whole.implementable.share is None:
        undefined = (
            f"undefined, for paper is not surely above 0: {_said(whole.paper)}, and net {_said(whole.net)}; a"
            " share of that means nothing"
        )
    return (
        gate(
            "paper_profit",
            whole.paper.interval[0],
            ">",
            settings.min_paper_lower_limit,
            f"lower limit, at {found.level:.0%}, of the paper profit {_said(whole.paper)}",
            lacking=few,
        ),
        gate(
            "implementable_rate",
            whole.implementable.share,
            ">=",
            settings.min_implementable_rate,
            f"share of the paper profit that is left, net{interval}, {settings.policy}, {settings.latency}",
            lacking=few or undefined,
        ),
        gate(
            "net_profit",
            whole.net.interval[0],
            ">",
            settings.min_net_lower_limit,
            f"lower limit, at {found.level:.0%}, of the net profit {_said(whole.net)}, {settings.policy},"
            f" {settings.latency}",
            lacking=few,
        ),
    )


def _said(profit: Profit) -> str:
    if profit.total is None:
        return "unknown"
    low, high = profit.interval
    limits = "" if low is None or high is None else f" [{low:,.4g}, {high:,.4g}]"
    return f"{profit.total:,.4g}{limits}"


def _baseline_gate(replayed: Replayed, name: str, settings: Settings, few: str | None) -> Gate:
    """Net profit step by step over the baseline's, under the same policy and latency; where one of them has
    no step it earned nothing.
    """
    wanted, found = settings.baselines[name], replayed.found
    gate_name = f"better_than_{name}"
    own, other = (_net_steps(replayed.curve, expert, settings) for expert in (settings.candidate, name))
    if other.is_empty():
        absent = f"no replay of {name}: train that expert or take it out of tick_gates.baselines"
        return gate(gate_name, None, ">", wanted, absent)
    both = own.join(other, on="timestamp", how="full", coalesce=True, suffix="_other").sort("timestamp")
    gained = both["net"].fill_null(0.0) - both["net_other"].fill_null(0.0)
    low, high = block_bootstrap_interval(
        gained.to_numpy(),
        lambda drawn: np.sum(drawn, axis=1),
        block_bars=found.block_steps,
        level=found.level,
        seed=BOOTSTRAP_SEED,
    )
    what = (
        f"lower limit, at {found.level:.0%}, of net profit more than that of {name}: {gained.sum():,.4g}"
        f" [{low:,.4g}, {high:,.4g}]"
    )
    return gate(gate_name, low, ">", wanted, what, lacking=few)


def _net_steps(curve: pl.DataFrame, expert: str, settings: Settings) -> pl.DataFrame:
    """What all symbols earned together, net, by step."""
    is_own = (pl.col("expert") == expert) & (pl.col("policy") == settings.policy)
    rows = curve.filter(is_own & (pl.col("latency") == settings.latency))
    net = (pl.col("gross") - pl.col("fees")).sum().alias("net")
    return rows.group_by("timestamp").agg(net).sort("timestamp")
