"""How often the configuration that was best where it was chosen is below the middle elsewhere."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from components.metrics.blocks import block_length
from components.metrics.inference import fewest_values
from components.metrics.trial_returns import TrialReturns, arrange_trials

# Groups that the bars are cut into: 12,870 ways to choose half of them.
GROUPS = 16
FEWEST_GROUPS = 6
# With fewer the share jumps from sample to sample.
FEWEST_CONFIGURATIONS = 10
# What depends on each other across the border of two groups makes luck in one last in the other.
BLOCKS_A_GROUP = 2


@dataclass(frozen=True)
class Overfitting:
    """`probability` is the share of the splits in which the configuration that was best in one half lies at
    or below the median of the other: 0.5 and more where choosing is worth nothing. NaN where `problem` says
    why.

    `slope` is that of the best one's Sharpe ratio outside on that inside, `chance_of_loss` the share of the
    splits in which it loses outside. `left_out` are configurations without a return or with a constant one.
    """

    probability: float
    chance_of_loss: float
    slope: float
    configurations: int
    bars: int
    groups: int
    splits: int
    left_out: tuple[str, ...]
    bars_left_out: int
    problem: str


def probability_of_overfitting(
    returns: np.ndarray | pl.DataFrame, *, groups: int = GROUPS, horizon: int = 1
) -> Overfitting:
    """By combinatorially symmetric cross-validation of Sharpe ratios: Bailey, Borwein, Lopez de Prado and Zhu
    (2017), *The probability of backtest overfitting*.

    Parameters
    ----------
    returns : one column a configuration and one row a bar, in order of time: `arrange_trials`
    groups : even; fewer are taken where returns depend on each other for so long that groups of this number
        would be shorter than two blocks of `block_length`
    horizon : bars that a return spans, where neighbouring ones overlap

    Raises
    ------
    ValueError
        If `groups` is odd or below 2.
    """
    if groups < 2 or groups % 2:
        raise ValueError(f"groups is {groups}; an even number of at least 2 is wanted: half are chosen.")
    trials = arrange_trials(returns)
    used, problem = _groups_or_problem(trials, groups, horizon)
    nan = float("nan")
    if problem:
        return _result(trials, nan, nan, nan, used, 0, problem)
    inside, outside = _sharpes_of_halves(trials.values, used)
    best = inside.argmax(axis=1)
    rows = np.arange(len(best))
    chosen = outside[rows, best]
    # Equal ones share their mean rank.
    below = (outside < chosen[:, None]).sum(axis=1)
    equal = (outside == chosen[:, None]).sum(axis=1)
    share = (below + (equal + 1) / 2) / (outside.shape[1] + 1)
    spread = inside[rows, best] - inside[rows, best].mean()
    slope = float(spread @ chosen / (spread @ spread)) if (spread @ spread) > 0 else nan
    return _result(
        trials, float((share <= 0.5).mean()), float((chosen < 0).mean()), slope, used, len(best), ""
    )


def _groups_or_problem(trials: TrialReturns, groups: int, horizon: int) -> tuple[int, str]:
    bars = len(trials.values)
    if trials.problem:
        return 0, trials.problem
    if bars < fewest_values(horizon):
        return 0, f"{bars:,} bars, at least {fewest_values(horizon):,} are needed"
    distinct = np.unique(trials.values, axis=1).shape[1]
    if distinct < FEWEST_CONFIGURATIONS:
        return 0, f"{distinct} different configurations, at least {FEWEST_CONFIGURATIONS} are needed"
    shortest = BLOCKS_A_GROUP * block_length(trials.values, horizon=horizon)
    used = min(groups, bars // shortest // 2 * 2)
    if used < min(groups, FEWEST_GROUPS):
        return 0, (
            f"{bars:,} bars can't be cut into {FEWEST_GROUPS} groups of at least {shortest} bars, over which"
            " returns depend on each other"
        )
    return used, ""


def _sharpes_of_halves(values: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Sharpe ratio of each configuration in each choice of half of the groups, and in the other half: two
    arrays of shape (splits, configurations).
    """
    edges = np.linspace(0, len(values), groups + 1).round().astype(int)
    starts = edges[:-1]
    counts = np.diff(edges).astype(float)
    # Sums of squares about the mean of all bars do not cancel.
    centre = values.mean(axis=0)
    sums = np.add.reduceat(values - centre, starts, axis=0)
    squares = np.add.reduceat((values - centre) ** 2, starts, axis=0)
    chosen = np.array(list(combinations(range(groups), groups // 2)))
    member = np.zeros((len(chosen), groups))
    member[np.arange(len(chosen))[:, None], chosen] = 1.0
    return tuple(_sharpes(half, counts, sums, squares, centre) for half in (member, 1 - member))


def _sharpes(
    member: np.ndarray, counts: np.ndarray, sums: np.ndarray, squares: np.ndarray, centre: np.ndarray
):
    size = (member @ counts)[:, None]
    mean = member @ sums / size
    deviation = np.sqrt(np.maximum(member @ squares / size - mean**2, 0) * size / (size - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (centre + mean) / deviation
    # Without a spread in this half, as where no order was filled, nothing was earned for a risk.
    return np.where(deviation > 1e-12 * np.sqrt(squares.sum(axis=0)), ratio, 0.0)


def _result(
    trials: TrialReturns,
    probability: float,
    loss: float,
    slope: float,
    groups: int,
    splits: int,
    problem: str,
) -> Overfitting:
    return Overfitting(
        probability,
        loss,
        slope,
        len(trials.names),
        len(trials.values),
        groups,
        splits,
        trials.left_out,
        trials.bars_left_out,
        problem,
    )
