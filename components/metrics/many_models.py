"""Whether the best of many models beats a benchmark by more than the luck of having tried so many.

All functions take returns, more being better; the losses that arch's tests take are made of them here.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from components.metrics.blocks import block_length, dependent_bars
from components.metrics.bootstrap_import import import_bootstrap
from components.metrics.inference import fewest_values
from components.metrics.rotation import rotated_statistics
from components.metrics.trial_returns import ROUNDING, TrialReturns, arrange_trials


@dataclass(frozen=True)
class ManyModelsTest:
    """`p_value` is the chance that the best of so many models does as well without any being better than the
    benchmark: the larger of that `by_bootstrap` and that `by_rotation`. NaN where `problem` says why.

    `times_gain` is how many times the largest gain over the benchmark would have had to be what it is for a
    chance of `level`, at the same risk; NaN where there is none.
    `lower` and `upper` are Hansen's bounds of the bootstrap's. `best` is the model with the largest statistic
    ("" without one), `models` how many were compared; `left_out` are those without a return or with a
    constant one; `bars_left_out` are bars that one lacks.
    """

    p_value: float
    by_bootstrap: float
    by_rotation: float
    lower: float
    upper: float
    times_gain: float
    level: float
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


@dataclass(frozen=True)
class _Prepared:
    """Returns that can be tested, of which one block is drawn at a time; `alike` are the bars over which they
    depend on each other.
    """

    trials: TrialReturns
    block: int
    alike: int
    draws: int
    seed: int
    level: float
    problem: str


def superior_predictive_ability(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None = None,
    *,
    level: float = 0.05,
    horizon: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> ManyModelsTest:
    """Hansen (2005), *A test for superior predictive ability*: the largest mean in units of its standard
    error; models far below the benchmark do not count.

    A bootstrap of blocks alone calls luck skill in up to a quarter of the cases where returns persist, as it
    does not know how unsure the standard errors are; `rotated_statistics` does. The larger chance counts.

    Parameters
    ----------
    returns : one column a model and one row a bar, in order of time: `arrange_trials`. More is better
    benchmark : shape (time,), returns of what has to be beaten; none: 0
    level : chance for which `times_gain` is given
    horizon : bars that a return spans, where neighbouring ones overlap
    """
    prepared = _prepare(returns, benchmark, horizon, draws, seed, level)
    if prepared.problem:
        return _nothing_said(prepared)
    values = prepared.trials.values
    scaled = values / _long_run_deviation(values, prepared.block)
    return _tested(prepared, scaled, "consistent", *_rotations(prepared))


def reality_check(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None = None,
    *,
    level: float = 0.05,
    horizon: int = 1,
    draws: int = 1000,
    seed: int = 0,
) -> ManyModelsTest:
    """White (2000), *A reality check for data snooping*: the largest mean as it is, all models counting.

    Finds a good model less often than `superior_predictive_ability` where others are poor or restless.
    Parameters are the same; the bootstrap's chance is `upper`.
    """
    prepared = _prepare(returns, benchmark, horizon, draws, seed, level)
    if prepared.problem:
        return _nothing_said(prepared)
    return _tested(prepared, prepared.trials.values, "upper", *_rotations(prepared, studentised=False))


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

    `level` is the chance that one of those named does not; the other parameters, and that bootstrap and
    rotations must agree, are those of `superior_predictive_ability`.
    """
    prepared = _prepare(returns, benchmark, horizon, draws, seed, level)
    trials = prepared.trials
    superior = () if prepared.problem else _step_down(prepared, level)
    return SuperiorModels(
        superior,
        level,
        len(trials.names),
        len(trials.values),
        prepared.block,
        trials.left_out,
        prepared.problem,
    )


def _step_down(prepared: _Prepared, level: float) -> tuple[str, ...]:
    """arch has a class for this, which fails where no model is left."""
    values = prepared.trials.values
    test = _bootstrap_test(values / _long_run_deviation(values, prepared.block), prepared)
    seen, drawn = _rotations(prepared)
    superior = np.zeros(len(seen), dtype=bool)
    while not superior.all():
        # The same draws, of those that are left.
        test.subset(~superior)
        test.compute()
        found = np.isin(np.arange(len(seen)), test.better_models(level))
        found &= seen > np.quantile(drawn[:, ~superior].max(axis=1), 1 - level)
        if not found.any():
            break
        superior |= found
    return tuple(np.array(prepared.trials.names, dtype=object)[superior])


def _prepare(
    returns: np.ndarray | pl.DataFrame,
    benchmark: np.ndarray | None,
    horizon: int,
    draws: int,
    seed: int,
    level: float,
) -> _Prepared:
    trials = arrange_trials(returns, benchmark)
    bars = len(trials.values)
    if trials.problem or bars < fewest_values(horizon):
        few = f"{bars:,} bars, at least {fewest_values(horizon):,} are needed"
        return _Prepared(trials, 0, 0, draws, seed, level, trials.problem or few)
    block = block_length(trials.values, horizon=horizon)
    alike = dependent_bars(trials.values, horizon=horizon)
    fewest = fewest_values(alike)
    problem = (
        f"returns depend on each other over some {alike:,} bars, so {bars:,} bars say too little: at least"
        f" {fewest:,} are needed"
    )
    return _Prepared(trials, block, alike, draws, seed, level, problem if bars < fewest else "")


def _bootstrap_test(excess: np.ndarray, prepared: _Prepared):
    """Computed test of arch, whose losses are the returns with their sign turned."""
    test = import_bootstrap().SPA(
        np.zeros(len(excess)),
        -excess,
        block_size=prepared.block,
        reps=prepared.draws,
        bootstrap="stationary",
        seed=prepared.seed,
    )
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


def _rotations(prepared: _Prepared, *, studentised: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Statistics seen (models,) and drawn (draws, models); a model that lies further below the benchmark than
    chance allows is drawn there (Hansen 2005).
    """
    values = prepared.trials.values
    seen, drawn = rotated_statistics(
        values, horizon=prepared.alike, draws=prepared.draws, seed=prepared.seed, studentised=studentised
    )
    if not studentised:
        return seen, drawn
    far_below = seen < -np.sqrt(2 * np.log(np.log(len(values))))
    return seen, drawn + np.where(far_below, seen, 0.0)


def _tested(
    prepared: _Prepared, excess: np.ndarray, kind: str, seen: np.ndarray, drawn: np.ndarray
) -> ManyModelsTest:
    """`excess` are the returns in the units in which the bootstrap draws them."""
    test, gain = _bootstrap_test(excess, prepared), float(excess.mean(axis=0).max())
    # What was seen is one draw too: no chance is 0.
    draws, trials = prepared.draws, prepared.trials
    chances = (test.pvalues * draws + 1) / (draws + 1)
    largest = drawn.max(axis=1)
    by_rotation = float(((largest >= seen.max()).sum() + 1) / (draws + 1))
    critical = float(test.critical_values(prepared.level)[kind])
    times = max(critical / gain, float(np.quantile(largest, 1 - prepared.level) / seen.max()))
    return ManyModelsTest(
        max(float(chances[kind]), by_rotation),
        float(chances[kind]),
        by_rotation,
        float(chances["lower"]),
        float(chances["upper"]),
        # A mean that was taken out leaves crumbs.
        times if gain > ROUNDING * np.abs(excess).max() else float("nan"),
        prepared.level,
        trials.names[int(seen.argmax())],
        len(trials.names),
        len(trials.values),
        prepared.block,
        trials.left_out,
        trials.bars_left_out,
        "",
    )


def _nothing_said(prepared: _Prepared) -> ManyModelsTest:
    nan, trials = float("nan"), prepared.trials
    return ManyModelsTest(
        nan,
        nan,
        nan,
        nan,
        nan,
        nan,
        prepared.level,
        "",
        len(trials.names),
        len(trials.values),
        prepared.block,
        trials.left_out,
        trials.bars_left_out,
        prepared.problem,
    )
