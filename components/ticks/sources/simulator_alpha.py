"""The alpha planted in simulated order books: drifts from a wanted rank correlation, and what the best
forecast reaches in a session that was made.

The planted drift at a moment is linear * x + product * u * v + trend, in ticks a second, with x, u, v
Ornstein-Uhlenbeck states of unit variance. Given them, the mid's expected move over h seconds is
linear * x * (1 - exp(-a h)) / a + product * u * v * (1 - exp(-b h)) / b + ...: the best forecast there is.
"""

import math

import numpy as np
from scipy.stats import rankdata, spearmanr

from components.contracts.documents.tick_truth import Attainable
from components.ticks.sources import simulator_flow as flow
from components.ticks.sources.simulator_config import SimulatorSettings

HORIZONS_MS = (250, 1_000, 5_000, 30_000)
GRID_S = 0.25
# The horizon at which the planted rank correlation is meant.
PLANTED_S = 1.0
SAMPLE = 200_000


def planted_flow(settings: SimulatorSettings) -> flow.Flow:
    """The kernel's rates and drifts for the rank correlation that `settings` want."""
    alpha = settings.alpha
    linear_speed = math.log(2) / alpha.linear_half_life_s
    factor_speed = math.log(2) / alpha.nonlinear_half_life_s
    linear, product = _drifts(settings, linear_speed, 2 * factor_speed)
    return flow.Flow(
        base_rate=settings.events_per_s * (1 - settings.clustering),
        branching=settings.clustering,
        move_share=settings.moves_per_s / settings.events_per_s,
        linear=linear,
        product=product,
        trend=alpha.trend * math.hypot(linear, product),
        linear_speed=linear_speed,
        product_speed=factor_speed,
        noise=alpha.noise,
    )


def _drifts(settings: SimulatorSettings, linear_speed: float, product_speed: float) -> tuple[float, float]:
    """Standard deviations of both drifts, ticks a second: the forecast's variance over the planted horizon is
    to be `correlation` squared of that of the move.
    """
    alpha = settings.alpha
    speeds = np.array([linear_speed, product_speed])
    reach = _reach(speeds, PLANTED_S)
    shares = np.array([1 - alpha.nonlinear_share, alpha.nonlinear_share])
    correlation = alpha.planted / _rank_share(shares)
    gone = np.exp(-speeds * PLANTED_S)
    spread = 2 * (speeds * PLANTED_S - 1 + gone) / speeds**2
    noise = settings.moves_per_s * PLANTED_S
    scale = correlation**2 * noise / (1 - correlation**2 * np.sum(shares * spread / reach**2))
    linear, product = np.sqrt(scale * shares) / reach
    return float(linear), float(product)


def _reach(speed: np.ndarray | float, seconds: float) -> np.ndarray | float:
    """What a drift of 1 that dies away at `speed` moves in that time."""
    return (1 - np.exp(-speed * seconds)) / speed


def _rank_share(shares: np.ndarray) -> float:
    """Rank correlation over linear correlation of a weak forecast of this mixture with a normal outcome:
    12 Cov(F(s), s) / (2 sqrt(pi)), 3 / pi where the forecast is normal too.
    """
    x, u, v = np.random.default_rng(0).standard_normal((3, SAMPLE))
    signal = np.sqrt(shares[0]) * x + np.sqrt(shares[1]) * u * v
    ranks = rankdata(signal) / SAMPLE - 0.5
    return 12 * float(np.mean(ranks * signal)) / (2 * math.sqrt(math.pi))


def attainable(states: np.ndarray, planted: flow.Flow, regime_s: float) -> list[Attainable]:
    """What the best forecast reached in a session, from its `states` on the grid, by horizon; all moments of
    the grid count, those of a halt too.
    """
    return [_at_horizon(states, planted, regime_s, horizon) for horizon in HORIZONS_MS]


def _at_horizon(states: np.ndarray, planted: flow.Flow, regime_s: float, horizon_ms: int) -> Attainable:
    steps = round(horizon_ms / 1_000 / GRID_S)
    now, seconds = states[:-steps], horizon_ms / 1_000
    mid = states[:, flow.TWICE_MID]
    moved = np.log(mid[steps:] / mid[:-steps])
    linear = planted.linear * now[:, flow.LINEAR] * _reach(planted.linear_speed, seconds)
    product = planted.product * now[:, flow.PRODUCT] * _reach(2 * planted.product_speed, seconds)
    linear, product = now[:, flow.SCALE] * linear, now[:, flow.SCALE] * product
    trend = planted.trend * now[:, flow.TREND] * _reach(1 / regime_s, seconds)
    return Attainable(
        horizon_ms=horizon_ms,
        moments=len(now),
        rank_correlation=_rank_correlation(linear + product + trend, moved),
        linear=_rank_correlation(linear, moved),
        nonlinear=_rank_correlation(product, moved),
    )


def _rank_correlation(forecast: np.ndarray, moved: np.ndarray) -> float | None:
    if len(forecast) < 2 or np.ptp(forecast) == 0 or np.ptp(moved) == 0:
        return None
    return float(spearmanr(forecast, moved).statistic)


def mean_attainable(sessions: list[list[Attainable]]) -> list[Attainable]:
    """By horizon the mean over sessions, of those that have a figure."""
    return [_mean([session[number] for session in sessions]) for number in range(len(HORIZONS_MS))]


def _mean(same: list[Attainable]) -> Attainable:
    def mean(name: str) -> float | None:
        known = [getattr(one, name) for one in same if getattr(one, name) is not None]
        return float(np.mean(known)) if known else None

    return Attainable(
        horizon_ms=same[0].horizon_ms,
        moments=sum(one.moments for one in same),
        rank_correlation=mean("rank_correlation"),
        linear=mean("linear"),
        nonlinear=mean("nonlinear"),
    )
