"""The gates of what can be traded: whether profit and skill last without the names that trade least.

Names stand in fifths of their bar by traded value. Where no volume is known, or a fifth holds too few names
to say anything, a gate says so and does not fail for it.
"""

import math
from collections.abc import Sequence

import numpy as np

from components.contracts.documents.evaluation import CapacityRow, Liquidity, Measurement
from components.contracts.documents.verdict import Comparator, Gate
from components.gates.config import Settings
from components.gates.gate import gate, passed_unasked, too_few

# The least traded fifth alone is money of few names: fewer say nothing about a group.
FEWEST_NAMES = 25
# A RankIC of 20 names has a standard deviation of .23 a bar by luck alone: of fewer it drowns in it.
FEWEST_NAMES_FOR_SKILL = 100


def tradability_gates(block: Measurement, settings: Settings) -> tuple[Gate, ...]:
    """The capital that the model bears, profit from the least traded fifth, figures without it, and skill
    among the most traded names.
    """
    found = block.liquidity
    of_money, of_skill = (
        too_few(bars, settings.min_test_bars, "gates.min_test_bars")
        for bars in (block.portfolio.long_short.bars, block.rank_ic.bars)
    )
    return (
        _unless(
            "capacity",
            _sharpe_at(block.portfolio.long_short.capacity, settings.capital),
            ">=",
            settings.min_sharpe_at_capital,
            f"annual net Sharpe ratio of long_short at a capital of {settings.capital:,.0f}, when orders move"
            " prices",
            unjudged=None if block.portfolio.long_short.capacity else "no traded value is known",
            lacking=of_money,
        ),
        _unless(
            "illiquid_profit",
            found.least_traded_profit_share if found else None,
            "<=",
            settings.max_illiquid_profit,
            "share of long_short's profit from the least traded fifth of names",
            unjudged=_unjudged(found, FEWEST_NAMES),
            lacking=of_money or _no_profit(found),
        ),
        _unless(
            "sharpe_outside_illiquid",
            found.sharpe_net_outside if found else None,
            ">=",
            settings.min_sharpe_outside_illiquid,
            "annual net Sharpe ratio of long_short without the least traded fifth of names",
            unjudged=_unjudged(found, FEWEST_NAMES),
            lacking=of_money,
        ),
        _unless(
            "skill_outside_illiquid",
            found.rank_ic_outside.t_hac if found else None,
            ">=",
            settings.min_t_statistic,
            "t of the RankIC without the least traded fifth of names"
            f" (mean {_mean(found, 'rank_ic_outside')})",
            unjudged=_unjudged(found, FEWEST_NAMES),
            lacking=of_skill,
        ),
        _unless(
            "most_traded_skill",
            _share_of_skill(block),
            ">=",
            settings.min_most_traded_skill,
            "mean RankIC among the names that make four fifths of the money traded"
            f" ({_mean(found, 'rank_ic_most_traded')}) as a share of that of all",
            unjudged=_unjudged(found, FEWEST_NAMES_FOR_SKILL),
            lacking=of_skill,
        ),
    )


def _unless(
    name: str,
    value: float | None,
    comparison: Comparator,
    threshold: float,
    what: str,
    *,
    unjudged: str | None,
    lacking: str | None,
) -> Gate:
    """A gate that passes, without a number, where nobody can tell; with too few bars it does not."""
    if lacking or unjudged is None:
        return gate(name, value, comparison, threshold, what, lacking=lacking)
    return passed_unasked(name, comparison, threshold, f"not judged, {unjudged}: {what}")


def _no_profit(found: Liquidity | None) -> str | None:
    if _unjudged(found, FEWEST_NAMES) or found.least_traded_profit_share is not None:
        return None
    return "could not be computed, for the positions that long_short asks for earned nothing before costs"


def _sharpe_at(rows: Sequence[CapacityRow], capital: float) -> float | None:
    """Between two capitals of the curve by the logarithm of the capital; None where one is unknown."""
    known = [(math.log(row.capital), row.sharpe_net) for row in rows]
    if not known or any(sharpe is None for _, sharpe in known):
        return None
    return float(np.interp(math.log(capital), *zip(*known, strict=True)))


def _unjudged(found: Liquidity | None, names: int) -> str | None:
    """Why fifths say nothing; None where they do."""
    if found is None:
        return "no volume is known"
    if found.names < names:
        return f"only {found.names} names a bar with a known traded value, {names} needed"
    return None


def _share_of_skill(block: Measurement) -> float | None:
    """None where all names show no skill: then there is nothing to have a share of."""
    every, most = block.rank_ic.mean, block.liquidity and block.liquidity.rank_ic_most_traded.mean
    return None if every is None or most is None or every <= 0 else most / every


def _mean(found: Liquidity | None, name: str) -> str:
    mean = getattr(found, name).mean if found else None
    return "unknown" if mean is None else f"{mean:.4f}"
