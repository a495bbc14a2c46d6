"""A hidden Markov model of the market: its fit, and filtered probabilities, never smoothed.

The probability at bar t is that of the state given the inputs up to t, under parameters fitted before t.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.contracts import REGIMES
from components.features.errors import FeatureError
from components.features.regime import HIGH_VOLATILITY_QUANTILE
from components.features.regime_config import NAMING_INPUTS, Regimes

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


class DegenerateFit(FeatureError):
    """The bars of a window don't carry as many states as asked for."""


@dataclass(frozen=True)
class RegimeModel:
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


def fit(window: np.ndarray, names: Sequence[str], settings: Regimes) -> RegimeModel:
    """A model of the bars in `window`, shape (bars, inputs), by expectation maximisation from a start that is
    computed, not drawn.

    The first parameters are the moments of the bars above the HIGH_VOLATILITY_QUANTILE of volatility and,
    below it, of equal parts by trend.

    Raises
    ------
    DegenerateFit
        Where trend or volatility are unknown or don't vary, or where a state is left without bars.
    """
    columns, whole, centre, spread = _usable(window, names, settings)
    scaled = _scaled(window[whole], columns, centre, spread)
    trend, volatility = (list(columns).index(names.index(name)) for name in NAMING_INPUTS)
    first = _first_parameters(scaled, trend, volatility, settings.states)
    moves, means, variances = _learned(scaled, _stretches(whole), first, settings)
    regimes = _regimes(means[:, trend] * spread[trend] + centre[trend], means[:, volatility])
    start = np.full(settings.states, 1 / settings.states)
    model = RegimeModel(columns, centre, spread, start, moves, means, variances, regimes)
    share = filtered_states(model, window).mean(axis=0).min()
    if share < SMALLEST_STATE_SHARE:
        raise DegenerateFit(f"a state holds {share:.2%} of the bars")
    return model


def _learned(
    scaled: np.ndarray, stretches: np.ndarray, first: tuple[np.ndarray, ...], settings: Regimes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transitions, means and variances by expectation maximisation from the parameters `first`."""
    from hmmlearn.hmm import GaussianHMM

    learner = GaussianHMM(
        settings.states,
        covariance_type="diag",
        n_iter=settings.max_iterations,
        tol=TOLERANCE,
        covars_prior=0.0,
        init_params="",
    )
    learner.startprob_, learner.transmat_, learner.means_, learner.covars_ = first
    try:
        with np.errstate(all="ignore"):
            learner.fit(scaled, stretches)
    except ValueError as error:
        raise DegenerateFit(f"the fit broke off ({error})") from error
    moves = (1 - LEAKAGE) * learner.transmat_ + LEAKAGE / settings.states
    variances = np.maximum(learner._covars_, SMALLEST_VARIANCE)
    if not all(np.isfinite(parameter).all() for parameter in (moves, learner.means_, variances)):
        raise DegenerateFit("a state was left without bars")
    return moves, learner.means_, variances


def filtered(model: RegimeModel, values: np.ndarray) -> np.ndarray:
    """P(regime at t | inputs up to t), shape (bars, regimes)."""
    return filtered_states(model, values) @ np.eye(len(REGIMES))[model.regimes]


def filtered_states(model: RegimeModel, values: np.ndarray) -> np.ndarray:
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
