"""The market's regime from a hidden Markov model: filtered probabilities, never smoothed.

The probability at bar t is that of the state given the inputs up to t, under parameters fitted before t. The
calendar says when fits happen and each sees the same number of bars, so a value depends on a bounded stretch
of history, wherever the series begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, REGIMES, CatalogEntry
from components.features.errors import FeatureError
from components.features.regime import HIGH_VOLATILITY_QUANTILE, HOLD_BARS, PERSIST_BARS, persistent_regime
from components.features.regime_config import NAMING_INPUTS, Regimes
from components.progress import warn
from components.timeline.periods import BARS_A_DAY

GROUP = "regime_hmm"
SOURCE = "Hamilton 1989; Gaussian HMM, filtered"
PROBABILITIES = tuple(f"hmm_{name}" for name in REGIMES)
# Scaled inputs are cut off here: one bad bar must not make a state of its own.
LARGEST_INPUT = 5.0
# An input takes part in a fit where it is known in this share of the window's bars.
KNOWN_SHARE = 0.9
# A fit in which some state holds less than this share of the bars has too many states for its data.
SMALLEST_STATE_SHARE = 0.01
FEWEST_BARS_A_STATE = 10
# A spread below this share of the level is Float32 rounding of a flat series.
FLAT = 1e-6
# First guess: a state stays with this probability, and is a little wider than its bars.
STAYS = 0.95
FIRST_VARIANCE = 0.05
# No move is impossible and no input certain, so that a bar unlike any before can't end the recursion.
LEAKAGE = 1e-6
SMALLEST_VARIANCE = 1e-3
# Expectation maximisation ends where an iteration adds less to the log likelihood.
TOLERANCE = 1e-2
# The smoothed regime of a bar looks at so many states.
SMOOTHING_BARS = PERSIST_BARS + HOLD_BARS
# Longest warm-up among the inputs (crowding_60).
INPUT_WARM_UP_BARS = 61
FIRST_YEAR = 2000
DAYS_A_MONTH = 31


class DegenerateFit(FeatureError):
    """The bars of a window don't carry as many states as asked for."""


@dataclass(frozen=True)
class Model:
    """A fitted model of K states over D inputs: where it begins, how it moves, what it emits, and which
    regime each state is.

    `columns` (D,) are the positions of its inputs among those asked for; `centre` and `spread` (D,) scale
    them.
    """

    columns: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    start: np.ndarray
    moves: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    regimes: np.ndarray


def hmm_columns(series: pl.DataFrame, settings: Regimes, *, newest: int | None = None) -> pl.DataFrame:
    """Filtered probability of each regime at each bar, and the regime itself.

    Parameters
    ----------
    series : one row a timestamp, ascending: `timestamp`, the columns of `settings.inputs` that there are, and
        `regime_state`, the thresholds' regime, which stands in where there is no model
    newest : give only so many of the last bars, which spares the fits that were for earlier ones; the values
        are the same

    Returns
    -------
    `timestamp`, `hmm_bear`, `hmm_neutral`, `hmm_bull`, `hmm_high_volatility` and `regime_state` (Float32) in
    the order of the rows; `timestamp` alone with `model: thresholds`. Probabilities are null before the first
    fit, which needs `fit_bars` bars; with a degenerate fit the thresholds' regime has probability 1 until the
    next one, with a warning. `regime_state` is the most probable regime, smoothed like that of the
    thresholds.

    Raises
    ------
    FeatureError
        Where the series lacks a column that is needed, or its timestamps do not ascend.
    """
    if settings.model == "thresholds":
        return series.select("timestamp") if newest is None else series.select("timestamp").tail(newest)
    _check(series)
    names = [name for name in settings.inputs if name in series.columns]
    values = series.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    values = np.where(np.isfinite(values), values, np.nan)
    thresholds = series[REGIME_COLUMN].cast(pl.Float64).fill_null(np.nan).to_numpy()
    found, modelled = np.full((len(series), len(REGIMES)), np.nan), np.zeros(len(series), dtype=bool)
    needed = 0 if newest is None else len(series) - newest - SMOOTHING_BARS
    for at, until in _schedule(
        series["timestamp"], values[:, [names.index(name) for name in NAMING_INPUTS]], settings
    ):
        if until <= needed:
            continue
        begin = at + 1 - settings.fit_bars
        try:
            model = fit(values[begin : at + 1], names, settings)
        except DegenerateFit as reason:
            found[at + 1 : until] = _certain(thresholds[at + 1 : until])
            when = series["timestamp"]
            warn(
                "features",
                f"No hidden Markov model of the bars {when[begin]:%Y-%m-%d} to {when[at]:%Y-%m-%d}: {reason}."
                f" Thresholds give the regime up to {when[until - 1]:%Y-%m-%d}.",
            )
        else:
            found[at + 1 : until] = filtered(model, values[begin:until])[at + 1 - begin :]
            modelled[at + 1 : until] = True
    table = _table(series["timestamp"], found, modelled, thresholds)
    return table if newest is None else table.tail(newest)


def hmm_warm_up_bars(settings: Regimes, period: str | None = None) -> int:
    """Bars, the present one included, that a probability depends on: inputs, a fit's window, and the bars
    since the fit. The regime itself is smoothed over SMOOTHING_BARS more. Without a period the longest is
    taken."""
    since_fit = (
        DAYS_A_MONTH
        * settings.refit_months
        * (max(BARS_A_DAY.values()) if period is None else BARS_A_DAY[period])
    )
    return INPUT_WARM_UP_BARS + settings.fit_bars + since_fit


def hmm_catalog(settings: Regimes, period: str | None = None) -> list[CatalogEntry]:
    """What `hmm_columns` adds as model inputs, in its order."""
    if settings.model == "thresholds":
        return []
    how = (
        f"P(state | inputs up to t), {settings.states} states, fitted every {settings.refit_months} months on"
        f" {settings.fit_bars} bars; inputs {', '.join(settings.inputs)}"
    )
    shared = {
        "group": GROUP,
        "role": "input",
        "normalisation": "none",
        "warm_up_bars": hmm_warm_up_bars(settings, period),
        "expression": how,
        "source": SOURCE,
    }
    return [CatalogEntry(column=name, factor=name, **shared) for name in PROBABILITIES]


def fit(window: np.ndarray, names: Sequence[str], settings: Regimes) -> Model:
    """A model of the bars in `window`, shape (bars, inputs), by expectation maximisation from a start that is
    computed, not drawn.

    The first parameters are the moments of the bars above the HIGH_VOLATILITY_QUANTILE of volatility and,
    below it, of equal parts by trend.

    Raises
    ------
    DegenerateFit
        Where trend or volatility are unknown or don't vary, or where a state is left without bars.
    """
    from hmmlearn.hmm import GaussianHMM

    columns, whole, centre, spread = _usable(window, names, settings)
    scaled = _scaled(window[whole], columns, centre, spread)
    trend, volatility = (list(columns).index(names.index(name)) for name in NAMING_INPUTS)
    learner = GaussianHMM(
        settings.states,
        covariance_type="diag",
        n_iter=settings.max_iterations,
        tol=TOLERANCE,
        covars_prior=0.0,
        init_params="",
    )
    learner.startprob_, learner.transmat_, learner.means_, learner.covars_ = _first_parameters(
        scaled, trend, volatility, settings.states
    )
    try:
        with np.errstate(all="ignore"):
            learner.fit(scaled, _stretches(whole))
    except ValueError as error:
        raise DegenerateFit(f"the fit broke off ({error})") from error
    moves = (1 - LEAKAGE) * learner.transmat_ + LEAKAGE / settings.states
    variances = np.maximum(learner._covars_, SMALLEST_VARIANCE)
    if not all(np.isfinite(parameter).all() for parameter in (moves, learner.means_, variances)):
        raise DegenerateFit("a state was left without bars")
    regimes = _regimes(
        learner.means_[:, trend] * spread[trend] + centre[trend], learner.means_[:, volatility]
    )
    model = Model(
        columns,
        centre,
        spread,
        np.full(settings.states, 1 / settings.states),
        moves,
        learner.means_,
        variances,
        regimes,
    )
    share = filtered_states(model, window).mean(axis=0).min()
    if share < SMALLEST_STATE_SHARE:
        raise DegenerateFit(f"a state holds {share:.2%} of the bars")
    return model


def filtered(model: Model, values: np.ndarray) -> np.ndarray:
    """P(regime at t | inputs up to t), shape (bars, regimes)."""
    return filtered_states(model, values) @ np.eye(len(REGIMES))[model.regimes]


def filtered_states(model: Model, values: np.ndarray) -> np.ndarray:
    """P(state at t | inputs up to t) by the forward algorithm, shape (bars, states); unknown inputs say
    nothing.

    Rabiner 1989, scaled at each bar, begun at the first row of `values` with all states alike.
    """
    scaled = _scaled(values, model.columns, model.centre, model.spread)[:, None, :]
    surprise = np.where(
        np.isfinite(scaled), (scaled - model.means) ** 2 / model.variances + np.log(model.variances), 0.0
    )
    likelihood = -0.5 * surprise.sum(axis=2)
    emission = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    states = np.empty(emission.shape)
    expected = model.start
    # One series, the market's, in which each bar needs the one before.
    for t, emitted in enumerate(emission):
        joint = expected * emitted
        states[t] = joint / joint.sum()
        expected = states[t] @ model.moves
    return states


def _check(series: pl.DataFrame) -> None:
    missing = [name for name in ("timestamp", REGIME_COLUMN, *NAMING_INPUTS) if name not in series.columns]
    if missing:
        raise FeatureError(
            f"The market's series lacks {missing[0]!r}, which the hidden Markov model needs (found:"
            f" {', '.join(series.columns)}). Leave features.groups.regime on."
        )
    back = (series["timestamp"] <= series["timestamp"].shift(1)).fill_null(False)
    if back.any():
        raise FeatureError(
            f"The market's series does not ascend at {series['timestamp'][int(back.arg_max())]}; it needs one"
            " row a timestamp, in order."
        )


def _schedule(timestamps: pl.Series, named: np.ndarray, settings: Regimes) -> Iterator[tuple[int, int]]:
    """For each fit the last bar that it sees, and the end (exclusive) of the bars after it that it is for.

    The first comes when `fit_bars` bars have passed since trend and volatility (`named`, shape (bars, 2))
    were known for the first time.
    """
    known = np.flatnonzero(np.isfinite(named).all(axis=1))
    if not len(known):
        return
    stretch = (
        (timestamps.dt.year().cast(pl.Int64) - FIRST_YEAR) * 12 + timestamps.dt.month() - 1
    ) // settings.refit_months
    last = np.flatnonzero(np.diff(stretch.to_numpy()))
    fits = last[last + 1 >= known[0] + settings.fit_bars]
    for at, following in pairwise([*fits.tolist(), len(timestamps) - 1]):
        yield at, following + 1


def _usable(
    window: np.ndarray, names: Sequence[str], settings: Regimes
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which inputs are known and vary, the bars that have all of them, and their centre and
    spread in these.
    """
    known = np.isfinite(window)
    columns = np.flatnonzero(
        known.mean(axis=0)
        >= KNOWN_SHARE * known[:, [names.index(name) for name in NAMING_INPUTS]].all(axis=1).mean()
    )
    whole = known[:, columns].all(axis=1)
    if whole.sum() < settings.states * FEWEST_BARS_A_STATE:
        raise DegenerateFit(f"only {whole.sum()} bars have all of its inputs")
    # Middle and width from quantiles, so that one bad bar does not set the scale of all others; the width is
    # that of a Gaussian's deviation.
    low, centre, high = np.quantile(window[whole][:, columns], [0.05, 0.5, 0.95], axis=0)
    spread = (high - low) / (2 * 1.645)
    varies = spread > FLAT * np.abs(centre)
    columns = columns[varies]
    flat = [name for name in NAMING_INPUTS if names.index(name) not in columns]
    if flat:
        raise DegenerateFit(f"{flat[0]} does not vary")
    return columns, whole, centre[varies], spread[varies]


def _scaled(values: np.ndarray, columns: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip((values[:, columns] - centre) / spread, -LARGEST_INPUT, LARGEST_INPUT)


def _stretches(whole: np.ndarray) -> np.ndarray:
    """Lengths of the runs of bars without a hole: what lies on its two sides is learned from as separate
    series.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], whole.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def _first_parameters(
    scaled: np.ndarray, trend: int, volatility: int, states: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Start, transitions, means and variances to begin with, from bars dealt out by volatility and trend."""
    calm = scaled[:, volatility] <= np.quantile(scaled[:, volatility], HIGH_VOLATILITY_QUANTILE)
    borders = np.quantile(scaled[calm, trend], np.arange(1, states - 1) / (states - 1))
    group = np.where(calm, np.searchsorted(borders, scaled[:, trend]), states - 1)
    parts = [scaled[group == state] if (group == state).any() else scaled for state in range(states)]
    moves = np.full((states, states), (1 - STAYS) / (states - 1))
    np.fill_diagonal(moves, STAYS)
    return (
        np.full(states, 1 / states),
        moves,
        np.stack([part.mean(axis=0) for part in parts]),
        np.stack([part.var(axis=0) + FIRST_VARIANCE for part in parts]),
    )


def _regimes(trend: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """Code of each state's regime, shape (states,), from its mean trend (log return) and volatility."""
    codes = np.full(len(trend), REGIMES.index("neutral"))
    wild = int(np.argmax(volatility))
    others = np.delete(np.arange(len(trend)), wild)
    lowest, highest = others[np.argmin(trend[others])], others[np.argmax(trend[others])]
    if trend[lowest] < 0:
        codes[lowest] = REGIMES.index("bear")
    if trend[highest] > 0:
        codes[highest] = REGIMES.index("bull")
    codes[wild] = REGIMES.index("high_volatility")
    return codes


def _certain(codes: np.ndarray) -> np.ndarray:
    """Probability 1 for each bar's regime code, NaN where it is unknown; shape (bars, regimes)."""
    known = np.isfinite(codes)
    return np.where(known[:, None], np.eye(len(REGIMES))[np.where(known, codes, 0).astype(int)], np.nan)


def _table(
    timestamps: pl.Series, found: np.ndarray, modelled: np.ndarray, thresholds: np.ndarray
) -> pl.DataFrame:
    """The probabilities and the smoothed regime; where no model speaks, the thresholds' regime as it is."""
    newest = np.where(modelled, np.argmax(np.where(modelled[:, None], found, 0.0), axis=1), thresholds)
    frame = pl.DataFrame(
        {"timestamp": timestamps, "newest": newest, "modelled": modelled, "thresholds": thresholds}
    )
    regime = (
        pl.when("modelled")
        .then(persistent_regime(pl.col("newest").fill_nan(None)))
        .otherwise(pl.col("thresholds").fill_nan(None))
    )
    columns = [pl.Series(name, found[:, k]).fill_nan(None) for k, name in enumerate(PROBABILITIES)]
    return frame.with_columns(regime.alias(REGIME_COLUMN), *columns).select(
        "timestamp", pl.col(*PROBABILITIES, REGIME_COLUMN).cast(pl.Float32)
    )
