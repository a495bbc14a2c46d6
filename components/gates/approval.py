"""The gates of level approval: the candidate's own figures against thresholds, and against its baselines."""

import numpy as np
import polars as pl

from components.contracts.documents.evaluation import Evaluation, Measurement, Ranking
from components.contracts.documents.verdict import Gate
from components.gates.class_gates import calibration_gate
from components.gates.config import Settings
from components.gates.gate import gate, too_few
from components.metrics import fewest_values, ic_summary


def forecast_gates(block: Measurement, evaluation: Evaluation, settings: Settings) -> tuple[Gate, ...]:
    """Scores and bands: enough bars, an order on them, steady skill that is no luck, stable, calibrated."""
    ic = block.ic
    few = _too_few(min(ic.bars, block.rank_ic.bars), settings)
    return (
        gate("test_bars", ic.bars, ">=", settings.min_test_bars, "bars with an information coefficient"),
        gate(
            "ordered_bars",
            _ordered_share(ic, evaluation),
            ">=",
            settings.min_ordered_share,
            "share of the test window's bars on which scores give an order",
        ),
        gate(
            "information_coefficient",
            ic.mean,
            ">=",
            settings.min_information_coefficient,
            "mean IC against the target",
            lacking=few,
        ),
        _significance_gate(block, evaluation, settings, few),
        gate(
            "steadiness",
            _positive_periods(block, settings.periods),
            ">=",
            settings.min_positive_periods,
            f"of {settings.periods} parts of the test window with a positive mean RankIC",
            lacking=few,
        ),
        gate(
            "drift",
            block.psi.cross_section,
            "<=",
            settings.max_psi,
            "PSI of standardised scores, newer against older half",
            lacking=few,
        ),
        calibration_gate(block, evaluation, settings, few),
    )


def _too_few(bars: int, settings: Settings) -> str | None:
    return too_few(bars, settings.min_test_bars, "gates.min_test_bars")


def _significance_gate(
    block: Measurement, evaluation: Evaluation, settings: Settings, few: str | None
) -> Gate:
    ts = [block.ic.t_hac, block.rank_ic.t_hac]
    bars, horizon = min(block.ic.bars, block.rank_ic.bars), evaluation.horizon
    unsaid = too_few(bars, fewest_values(horizon), f"for a t value at a horizon of {horizon}")
    return gate(
        "significance",
        None if None in ts else min(ts),
        ">=",
        settings.min_t_statistic,
        "smaller t of IC and RankIC, as a normal deviate",
        lacking=few or unsaid,
    )


def portfolio_gates(block: Measurement, settings: Settings) -> tuple[Gate, ...]:
    """Money after costs: long_only against every name alike, and long_short by itself."""
    long_short, long_only = block.portfolio.long_short, block.portfolio.long_only
    lower_limit, _ = long_short.sharpe_net_interval
    few = _too_few(long_short.bars, settings)
    return (
        gate(
            "information_ratio",
            long_only.information_ratio_net,
            ">=",
            settings.min_information_ratio,
            "annual net IR of long_only against every name alike",
            lacking=_too_few(long_only.bars, settings),
        ),
        gate(
            "sharpe",
            long_short.sharpe_net,
            ">=",
            settings.min_sharpe,
            "annual net Sharpe ratio of long_short",
            lacking=few,
        ),
        gate(
            "sharpe_lower_limit",
            lower_limit,
            ">",
            settings.min_sharpe_lower_limit,
            f"lower limit of its {long_short.interval_level:.0%} interval",
            lacking=few,
        ),
        gate(
            "drawdown",
            long_short.max_drawdown,
            "<=",
            settings.max_drawdown,
            "largest net drawdown of long_short",
            lacking=few,
        ),
    )


def baseline_gate(evaluation: Evaluation, block: Measurement, name: str, settings: Settings) -> Gate:
    """Mean RankIC by bar over the baseline's, on all bars where one of them was judged; who gives no order on
    a bar, or was not judged there, has 0: where neither gives one nothing is gained.
    """
    gain = settings.baselines[name]
    gate_name = f"better_than_{name}" if gain >= 0 else f"not_worse_than_{name}"
    other = evaluation.tested(name)
    if other is None:
        absent = f"no test results of {name}: add that expert or take it out of gates.baselines"
        return gate(gate_name, None, ">=", gain, absent)
    baseline = _daily(other).rename({"rank_ic": "baseline"})
    both = _daily(block).join(baseline, on="timestamp", how="full", coalesce=True)
    own = both["rank_ic"].count()
    gained = both["rank_ic"].fill_null(0.0) - both["baseline"].fill_null(0.0)
    what = f"mean RankIC by bar more than that of {name}, {len(both)} bars, an order on {own}"
    return gate(gate_name, gained.mean(), ">=", gain, what, lacking=_too_few(own, settings))


def _ordered_share(ic: Ranking, evaluation: Evaluation) -> float | None:
    """Bars with an IC as a share of those whose labels can be complete; a model that scores all alike on hard
    bars must not profit from it.
    """
    complete = evaluation.windows.test.bars - evaluation.horizon - 1
    return None if complete <= 0 else min(float(ic.bars) / complete, 1.0)


def _positive_periods(block: Measurement, periods: int) -> int | None:
    ranks = _daily(block).sort("timestamp")["rank_ic"].drop_nulls().to_numpy()
    if len(ranks) < periods:
        return None
    return sum(ic_summary(part, horizon=1)["mean"] > 0 for part in np.array_split(ranks, periods))


def _daily(block: Measurement) -> pl.DataFrame:
    return pl.DataFrame(
        {"timestamp": block.daily.timestamp, "rank_ic": block.daily.rank_ic},
        schema={"timestamp": pl.String, "rank_ic": pl.Float64},
    )
