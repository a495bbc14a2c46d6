"""Whether the best of many models beats a benchmark by more than the luck of having tried so many.

All functions take returns, more being better; the losses that arch's tests take are made of them here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.metrics.blocks import block_length
from components.metrics.inference import fewest_values
from components.metrics.trial_returns import TrialReturns, arrange_trials

# With fewer blocks a bootstrap does not know how much a mean varies: tests/benchmarks/bench_statistics.py.
FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class ManyModelsTest:
    """`p_value` is the chance that the best of so many models does as well without any being better than the
    benchmark; `lower` and `upper` are its bounds (Hansen 2005). All three are NaN where `problem` says why.

    `best` is the model with the largest statistic ("" without one), `models` how many were compared;
    `left_out` are those without a return or with a constant one; `bars_left_out` are bars that one lacks.
    """

    p_value: float
    lower: float
    upper: float
    best: str
    models: int
    bars: int
    block_bars: int
    left_out: tuple[str, ...]
    bars_left_out: int
    problem: str


@dataclass(frozen=True)
class SuperiorModels:
    """`superior` are the models that beat the benchmark; the chance that any of them does not is `level`.

    Empty where none does, and where `problem` says why nothing can be said.
    """

    superior: tuple[str, ...]
    level: float
    models: int
    bars: int
    block_bars: int
    left_out: tuple[str, ...]
    problem: str


def superior_predictive_ability(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None = None,
    *,
    horizon: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> ManyModelsTest:
    """Hansen (2005), *A test for superior predictive ability*: the largest mean in units of its standard
    error, against what a stationary bootstrap gives; models far below the benchmark do not count.

    Parameters
    ----------
    returns : one column a model and one row a bar, in order of time: `arrange_trials`. More is better
    benchmark : shape (time,), returns of what has to be beaten; none: 0
    horizon : bars that a return spans, where neighbouring ones overlap
    """
    trials = arrange_trials(returns, benchmark)
    block, problem = _block_or_problem(trials, horizon)
    if problem:
        return _nothing_said(trials, block, problem)
    scaled = trials.values / _long_run_deviation(trials.values, block)
    test = _bootstrap_test(scaled, block, draws, seed)
    return _tested(trials, block, scaled, draws, test, "consistent")


def reality_check(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None = None,
    *,
    horizon: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> ManyModelsTest:
    """White (2000), *A reality check for data snooping*: the largest mean as it is, all models counting.

    Less often right about a good model than `superior_predictive_ability` where others are poor or restless.
    Parameters and bounds are the same; `p_value` is `upper`.
    """
    trials = arrange_trials(returns, benchmark)
    block, problem = _block_or_problem(trials, horizon)
    if problem:
        return _nothing_said(trials, block, problem)
    test = _bootstrap_test(trials.values, block, draws, seed)
    return _tested(trials, block, trials.values, draws, test, "upper")


def step_m(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None = None,
    *,
    level: float = 0.05,
    horizon: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> SuperiorModels:
    """Romano and Wolf (2005), *Stepwise multiple testing as formalized data snooping*: which models beat the
    benchmark, found by testing those that are left again until none of them does.

    `level` is the chance that one of those named does not; the other parameters are those of
    `superior_predictive_ability`.
    """
    trials = arrange_trials(returns, benchmark)
    block, problem = _block_or_problem(trials, horizon)
    superior = np.zeros(len(trials.names), dtype=bool)
    if not problem:
        scaled = trials.values / _long_run_deviation(trials.values, block)
        test = _bootstrap_test(scaled, block, draws, seed)
        found = superior
        while not superior.all() and (found is superior or found.any()):
            # A subset of the same draws; the class of arch for this fails where none is left.
            test.subset(~superior)
            test.compute()
            found = np.isin(np.arange(len(superior)), test.better_models(level))
            superior = superior | found
    return SuperiorModels(
        tuple(name for name, is_better in zip(trials.names, superior, strict=True) if is_better),
        level,
        len(trials.names),
        len(trials.values),
        block,
        trials.left_out,
        problem,
    )


def _block_or_problem(trials: TrialReturns, horizon: int) -> tuple[int, str]:
    bars = len(trials.values)
    if trials.problem:
        return 0, trials.problem
    if bars < fewest_values(horizon):
        return 0, f"{bars:,} bars, at least {fewest_values(horizon):,} are needed"
    block = block_length(trials.values, horizon=horizon)
    if bars < FEWEST_BLOCKS * block:
        return block, (
            f"returns depend on each other over some {block:,} bars, so {bars:,} bars say too little: at"
            f" least {FEWEST_BLOCKS * block:,} are needed"
        )
    return block, ""


def _bootstrap_test(excess: np.ndarray, block: int, draws: int, seed: int):
    """Computed test of arch, whose losses are the returns with their sign turned."""
    from arch.bootstrap import SPA

    test = SPA(np.zeros(len(excess)), -excess, block_size=block, reps=draws, studentize=True, seed=seed)
    test.compute()
    return test


def _long_run_deviation(values: np.ndarray, block: int) -> np.ndarray:
    """Root of the variance that a stationary bootstrap gives the sum of each column (Politis and Romano
    1994), shape (models,): autocovariances weighted by the chance that a block spans the lag.

    arch's test divides no mean by it, so that the most restless model alone would decide.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    bars = len(values)
    lags = np.arange(1, bars)
    spanned = (1 - lags / bars) * (1 - 1 / block) ** lags + lags / bars * (1 - 1 / block) ** (bars - lags)
    size = next_fast_len(2 * bars, real=True)
    spectrum = np.abs(rfft(values - values.mean(axis=0), size, axis=0)) ** 2
    covariances = irfft(spectrum, size, axis=0)[:bars] / bars
    return np.sqrt(covariances[0] + 2 * spanned @ covariances[1:])


def _tested(
    trials: TrialReturns, block: int, statistics: np.ndarray, draws: int, test, kind: str
) -> ManyModelsTest:
    # The sample is one draw too: no chance is 0.
    chances = (test.pvalues * draws + 1) / (draws + 1)
    return ManyModelsTest(
        float(chances[kind]),
        float(chances["lower"]),
        float(chances["upper"]),
        trials.names[int(statistics.mean(axis=0).argmax())],
        len(trials.names),
        len(trials.values),
        block,
        trials.left_out,
        trials.bars_left_out,
        "",
    )


def _nothing_said(trials: TrialReturns, block: int, problem: str) -> ManyModelsTest:
    nan = float("nan")
    return ManyModelsTest(
        nan,
        nan,
        nan,
        "",
        len(trials.names),
        len(trials.values),
        block,
        trials.left_out,
        trials.bars_left_out,
        problem,
    )
