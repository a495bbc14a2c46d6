"""Everything random of a simulated market but its alpha: regimes of volatility, returns by part of the day,
listings, volume.
"""

from dataclasses import dataclass

import numpy as np

from components.market.config import Settings
from components.market.simulator_config import ChangeSettings, SimulatorSettings
from components.timeline.periods import BARS_A_DAY, INTRADAY

# Bars over which the alpha is paid out.
HORIZON = 5

# Daily volatilities. Symbols differ little: with prices that are martingales the mean log return is minus
# half the variance, and a wide spread of it would be a predictable cross-section of log returns in a market
# that should have none.
MARKET_VOLATILITY, SECTOR_VOLATILITY, SYMBOL_VOLATILITY, SYMBOL_SPREAD = 0.009, 0.006, 0.017, 0.1
BETA_SPREAD = 0.15
REGIME_SCALE = np.array([0.7, 1.0, 1.8])
REGIME_BARS = np.array([60.0, 60.0, 20.0])
OVERNIGHT_SHARE = {"1d": 0.3} | dict.fromkeys(INTRADAY, 0.02)
VOLUME_MEMORY, VOLUME_TERMS = 0.7, 25


@dataclass(frozen=True)
class Draws:
    """Everything random of a market but its alpha; arrays of shape (bars, symbols) unless marked."""

    sector: np.ndarray  # (symbols,), codes from 0
    listed: np.ndarray  # bool: the symbol trades in this bar
    age: np.ndarray  # bars since the listing, 0 in the first
    overnight: np.ndarray  # log return from the close before to the open
    intraday: np.ndarray  # log return from open to close, without alpha
    intraday_variance: np.ndarray
    # (bars,): mean cross-sectional variance of the sector-neutral return open[t+1] to open[t+6] without alpha
    label_variance: np.ndarray
    log_volume: np.ndarray
    surprise: np.ndarray  # log volume against its 20-bar mean
    first_price: np.ndarray  # (symbols,)


def draw(settings: Settings, rng: np.random.Generator, change: ChangeSettings | None = None) -> Draws:
    """Draw a market; with `change` the same one, changed from its bar on."""
    simulator = settings.simulator
    shape = bars, symbols = simulator.bars, simulator.symbols
    sector = rng.permutation(np.arange(symbols) % simulator.sectors)
    scale = REGIME_SCALE[_regimes(bars, rng)][:, None] / np.sqrt(BARS_A_DAY[settings.period])
    if change:
        scale[change.bar :] *= change.volatility
    beta = 1 + BETA_SPREAD * rng.standard_normal(symbols)
    sigma = SYMBOL_VOLATILITY * np.exp(SYMBOL_SPREAD * rng.standard_normal(symbols))
    share = OVERNIGHT_SHARE[settings.period]
    variance = scale**2 * (beta**2 * MARKET_VOLATILITY**2 + SECTOR_VOLATILITY**2 + sigma**2)
    noise = {part: rng.standard_normal(shape) for part in ("overnight", "intraday")}
    parts = {}
    for part, weight in (("overnight", share), ("intraday", 1 - share)):
        market = beta * MARKET_VOLATILITY * rng.standard_normal((bars, 1))
        sectors = SECTOR_VOLATILITY * rng.standard_normal((bars, simulator.sectors))[:, sector]
        moved = np.sqrt(weight) * scale * (market + sectors + sigma * noise[part])
        parts[part] = moved - weight * variance / 2
    size = np.abs(np.sqrt(share) * noise["overnight"] + np.sqrt(1 - share) * noise["intraday"])
    listed, age = _listings(simulator, rng)
    specific = scale**2 * (sigma**2 * (1 - simulator.sectors / symbols) + beta.var() * MARKET_VOLATILITY**2)
    mean_variance = (specific * listed).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    log_volume = _log_volume(size, settings.period, rng)
    return Draws(
        sector=sector,
        listed=listed,
        age=age,
        overnight=parts["overnight"],
        intraday=parts["intraday"],
        intraday_variance=(1 - share) * variance,
        label_variance=(1 - share) * _next_five(mean_variance, 1) + share * _next_five(mean_variance, 2),
        log_volume=log_volume,
        surprise=_volume_surprise(log_volume),
        first_price=np.log(rng.uniform(20, 200, symbols)),
    )


def _log_volume(size: np.ndarray, period: str, rng: np.random.Generator) -> np.ndarray:
    """Persistent, and larger with the size of the move (in standard deviations); shape (bars, symbols)."""
    bars, symbols = size.shape
    base = np.log(1e6) + rng.standard_normal(symbols) - np.log(BARS_A_DAY[period])
    return (
        base
        + _persistent(rng.standard_normal((bars + VOLUME_TERMS, symbols)))
        + 0.35 * (size - np.sqrt(2 / np.pi))
        + 0.15 * rng.standard_normal((bars, symbols))
    )


def _regimes(bars: int, rng: np.random.Generator) -> np.ndarray:
    """States of a Markov chain over calm, usual and stormy, one a bar: geometric stays, then one of the two
    other states.
    """
    visits = int(bars / REGIME_BARS.min()) * 4 + 10
    states = (1 + np.cumsum(rng.integers(1, 3, visits))) % 3
    lengths = rng.geometric(1 / REGIME_BARS[states])
    visited = np.repeat(states, lengths)
    return visited[:bars] if lengths.sum() >= bars else np.resize(visited, bars)


def _persistent(shocks: np.ndarray) -> np.ndarray:
    """Moving average of shocks with geometric weights, standard deviation 0.35; shape (bars, symbols) from
    (bars + VOLUME_TERMS, symbols).
    """
    bars = len(shocks) - VOLUME_TERMS
    total = np.zeros((bars, shocks.shape[1]))
    for lag in range(VOLUME_TERMS):
        total += VOLUME_MEMORY**lag * shocks[VOLUME_TERMS - lag : VOLUME_TERMS - lag + bars]
    return 0.35 * np.sqrt(1 - VOLUME_MEMORY**2) * total


def _listings(simulator: SimulatorSettings, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    bars, symbols = simulator.bars, simulator.symbols
    first, last = np.zeros(symbols, dtype=int), np.full(symbols, bars - 1)
    chosen = rng.permutation(symbols)
    late, gone = round(simulator.late_share * symbols), round(simulator.delisted_share * symbols)
    first[chosen[:late]] = rng.integers(1, max(2, bars // 3), late)
    ending = chosen[late : late + gone]
    last[ending] = rng.integers(bars // 2, max(bars // 2 + 1, bars - 5), len(ending))
    age = np.arange(bars)[:, None] - first
    return (age >= 0) & (np.arange(bars)[:, None] <= last), age


def _next_five(values: np.ndarray, lead: int) -> np.ndarray:
    """Sum of values[t+lead], ..., values[t+lead+4] for each t; bars beyond the end count as the last."""
    padded = np.concatenate([values, np.repeat(values[-1:], HORIZON + lead, axis=0)])
    return sum(padded[lead + step : lead + step + len(values)] for step in range(HORIZON))


def _volume_surprise(log_volume: np.ndarray) -> np.ndarray:
    """Log volume minus the log of its mean over 20 bars, the present one included; meaningless in the first
    19 bars.
    """
    volume = np.round(np.exp(log_volume))
    sums = np.cumsum(volume, axis=0)
    sums[20:] = sums[20:] - sums[:-20]
    return np.log(np.maximum(volume, 1)) - np.log(np.maximum(sums / 20, 1))
