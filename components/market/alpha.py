"""The alpha of a simulated market: planted signals, the paths that they bend, and what they let one expect.

Signals of bar s, computed from closes and volumes up to it, move the intraday return of bar s + HORIZON.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.market.config import Settings
from components.market.draws import HORIZON, SYMBOL_VOLATILITY, Draws
from components.timeline.periods import BARS_A_DAY

# Bars before the first one by which the strength is set.
WARM_UP_BARS = 70
CALIBRATIONS = 3
FIRST_BAR = {"reversal_5": 1, "volume_surprise_20": 19, "momentum_60_20": 60, "trend_agreement": 60}


@dataclass(frozen=True)
class Alpha:
    """Signals with their weights, the drift a unit of signal, and the bar from which on they move prices."""

    first_bar: int
    planted: dict[str, float]
    strength: float


@dataclass(frozen=True)
class Paths:
    """Log open, log close and drift of each bar, shape (bars, symbols)."""

    log_open: np.ndarray
    log_close: np.ndarray
    drift: np.ndarray


def paths(draws: Draws, alphas: Sequence[Alpha]) -> Paths:
    """The prices that `draws` and `alphas` make; a block goes by the newest alpha that it does not begin
    before.

    Goes in blocks of HORIZON bars, whose drift the block before decides.
    """
    bars, symbols = draws.overnight.shape
    drift = np.zeros((bars, symbols))
    if not any(alpha.strength for alpha in alphas):
        moved = draws.overnight + draws.intraday
        moved[0] = draws.intraday[0]
        log_close = draws.first_price + np.cumsum(moved, axis=0)
        return Paths(log_close - draws.intraday, log_close, drift)
    log_close = np.empty((bars, symbols))
    members = np.eye(draws.sector.max() + 1)[draws.sector]
    previous = draws.first_price - draws.overnight[0]
    for start in range(0, bars, HORIZON):
        block = slice(start, min(start + HORIZON, bars))
        if start:
            alpha = max((one for one in alphas if one.first_bar <= start), key=lambda one: one.first_bar)
            signal = _signal(start - HORIZON, log_close, draws, alpha.planted, members)
            drift[block] = alpha.strength * signal[: block.stop - block.start] * draws.listed[block]
        moved = draws.overnight[block] + draws.intraday[block] + drift[block]
        log_close[block] = previous + np.cumsum(moved, axis=0)
        previous = log_close[block.stop - 1]
    return Paths(log_close - draws.intraday - drift, log_close, drift)


def expected_returns(drift: np.ndarray, draws: Draws) -> np.ndarray:
    """Sector-neutral expected return from open[t+1] to open[t+6] given bars up to t, shape (bars, symbols).

    Near the end of the data the drifts beyond it are taken as zero; no label is complete there.
    """
    bars = len(drift)
    padded = np.concatenate([drift, np.zeros((HORIZON + 1, drift.shape[1]))])
    total = sum(padded[step : step + bars] for step in range(1, HORIZON + 1))
    return _against_sector(total, draws.listed, np.eye(draws.sector.max() + 1)[draws.sector])


def calibrate(draws: Draws, settings: Settings, planted: dict[str, float]) -> float:
    """Drift a unit of signal at which the mean attainable IC is `planted_ic`: sd of the expected return over
    sd of the return.
    """
    if settings.planted_ic == 0:
        return 0.0
    usable = slice(min(WARM_UP_BARS, settings.simulator.bars // 2), settings.simulator.bars - HORIZON - 1)
    strength = settings.planted_ic * SYMBOL_VOLATILITY / np.sqrt(BARS_A_DAY[settings.period])
    for _ in range(CALIBRATIONS):
        expected = expected_returns(paths(draws, [Alpha(0, planted, strength)]).drift, draws)
        symbols = np.maximum(draws.listed.sum(axis=1)[usable], 1)
        signal_variance = (expected**2).sum(axis=1)[usable] / symbols
        attained = np.sqrt(signal_variance / (signal_variance + draws.label_variance[usable])).mean()
        strength *= settings.planted_ic / max(attained, 1e-9)
    return float(strength)


def _signal(
    start: int, log_close: np.ndarray, draws: Draws, planted: dict[str, float], members: np.ndarray
) -> np.ndarray:
    """Weighted sum of the standardised one-bar signals of bars start to start + HORIZON - 1, shape (HORIZON,
    symbols).
    """
    rows = np.arange(start, start + HORIZON)
    raw = {
        "reversal_5": lambda known: log_close[np.maximum(rows - 1, 0)] - log_close[rows],
        "volume_surprise_20": lambda known: draws.surprise[rows],
        "momentum_60_20": (
            lambda known: log_close[np.maximum(rows - 20, 0)] - log_close[np.maximum(rows - 60, 0)]
        ),
        "trend_agreement": lambda known: (
            _standardise(raw["momentum_60_20"](known), known, members)
            * _standardise(log_close[rows] - log_close[np.maximum(rows - 20, 0)], known, members)
        ),
    }
    known = {name: draws.listed[rows] & (draws.age[rows] >= FIRST_BAR[name]) for name in planted}
    return sum(
        weight * _standardise(raw[name](known[name]), known[name], members)
        for name, weight in planted.items()
    )


def _standardise(values: np.ndarray, known: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Values against their sector's mean, in cross-sectional standard deviations, cut at 3; zero where not
    known.
    """
    neutral = _against_sector(values, known, members)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    deviation = np.sqrt((neutral**2).sum(axis=1, keepdims=True) / count)
    cut = np.clip(np.divide(neutral, deviation, out=np.zeros_like(neutral), where=deviation > 1e-12), -3, 3)
    return _against_sector(cut, known, members)


def _against_sector(values: np.ndarray, known: np.ndarray, members: np.ndarray) -> np.ndarray:
    counted = np.where(known, values, 0.0)
    means = (counted @ members) / np.maximum(known @ members, 1)
    return np.where(known, values - means @ members.T, 0.0)
