"""A simulated market whose alpha is known: sectors, volatility regimes, listings, delistings, and signals
planted at a chosen strength.

Log returns are a market factor, a sector factor and symbol-specific noise, all scaled by a three-state regime
of volatility, minus half their variance: without alpha every price is a martingale and there is no risk
premium, so nothing known at t predicts anything after it. A bar's return has an overnight part (close to
open) and an intraday part; high and low are the extremes of the Brownian bridge between open and close.
Volume is persistent and grows with the size of the move.

Alpha: signals of bar s, computed from closes and volumes up to it, move the intraday return of
bar s + 5. So the five intraday moves that a position from open[t+1] to open[t+6] lives through are all
decided by bars t-4 to t, and their sum is the exact conditional expectation of the return, known at t: the
`truth` table. Summed over five bars the planted one-bar signals are the classic ones: five-bar reversal,
volume against its 20-bar mean, momentum from 60 to 20 bars ago, each against its sector. `trend_agreement` is
the non-linear one: the product of the standardised momentum from 60 to 20 bars ago and that of the last 20,
whose sign neither of the two tells.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import RAW_PANEL, atomic_path, atomic_write_text
from components.market.config import ChangeSettings, Settings
from components.market.errors import MarketError
from components.market.faults import FAULTS_SCHEMA, plant_faults
from components.market.truth import TRUTH_SCHEMA, write_truth
from components.timeline.periods import BARS_A_DAY, LENGTHS, is_daily

HORIZON = 5
WARM_UP_BARS = 70
CALIBRATIONS = 3
MAX_CELLS = 30_000_000
SECTOR_NAMES = ("Energy", "Financials", "Health Care", "Industrials", "Technology", "Utilities")
OPEN_TIME, CLOSE_TIME = time(14, 30), time(21, 0)

# Daily volatilities. Symbols differ little: with prices that are martingales the mean log return is minus
# half the variance, and a wide spread of it would be a predictable cross-section of log returns in a market
# that should have none.
MARKET_VOLATILITY, SECTOR_VOLATILITY, SYMBOL_VOLATILITY, SYMBOL_SPREAD = 0.009, 0.006, 0.017, 0.1
BETA_SPREAD = 0.15
REGIME_SCALE = np.array([0.7, 1.0, 1.8])
REGIME_BARS = np.array([60.0, 60.0, 20.0])
OVERNIGHT_SHARE = {"1d": 0.3, "4h": 0.02, "1h": 0.02}
VOLUME_MEMORY, VOLUME_TERMS = 0.7, 25
FIRST_BAR = {"reversal_5": 1, "volume_surprise_20": 19, "momentum_60_20": 60, "trend_agreement": 60}


@dataclass(frozen=True)
class SimulatedMarket:
    """`panel` (RAW_PANEL), `truth` (timestamp, symbol, expected_return_5) and `faults` (symbol, timestamp,
    kind).
    """

    panel: pl.DataFrame
    truth: pl.DataFrame
    faults: pl.DataFrame


@dataclass(frozen=True)
class _Draws:
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


def simulate(settings: Settings, seed: int) -> SimulatedMarket:
    """The market that `settings.simulator`, `settings.planted_ic` and `seed` describe.

    The mean over bars, from the 70th on, of the cross-sectional correlation of `expected_return_5` with the
    sector-neutral return open[t+1] to open[t+6] is `planted_ic` but for chance; no other predictor reaches
    more.

    Raises
    ------
    MarketError
        If the market would not fit into memory.
    """
    simulator = settings.simulator
    if simulator.symbols * simulator.bars > MAX_CELLS:
        raise MarketError(
            f"market.simulator: {simulator.symbols:,} symbols x {simulator.bars:,} bars are"
            f" {simulator.symbols * simulator.bars:,} rows, more than {MAX_CELLS:,}. Ask for fewer."
        )
    change = simulator.change
    draws = _draw(settings, np.random.default_rng(seed))
    extremes = np.random.default_rng([seed, 1])
    alpha = [(0, simulator.planted, _calibrate(draws, settings, simulator.planted))]
    if change:
        planted = change.planted or simulator.planted
        alpha.append((change.bar, planted, change.volatility * _calibrate(draws, settings, planted)))
        draws = _draw(settings, np.random.default_rng(seed), change)
    log_open, log_close, drift = _paths(draws, alpha)
    expected = _expected(drift, draws)
    opened, closed = calendar(settings)
    symbols = np.array([f"S{i + 1:0{len(str(simulator.symbols))}d}" for i in range(simulator.symbols)])
    bars, columns = np.nonzero(draws.listed)
    keys = {
        "timestamp": pl.Series(closed[bars]).dt.replace_time_zone("UTC"),
        "symbol": pl.Series(symbols[columns]),
    }
    low, high = _bridge_extremes(
        log_open[bars, columns], log_close[bars, columns], draws.intraday_variance[bars, columns], extremes
    )
    panel = pl.DataFrame(keys).with_columns(
        pl.lit(settings.period).alias("period"),
        pl.Series("event_time", opened[bars]).dt.replace_time_zone("UTC"),
        pl.Series("open", np.exp(log_open[bars, columns])),
        pl.Series("high", np.exp(high)),
        pl.Series("low", np.exp(low)),
        pl.Series("close", np.exp(log_close[bars, columns])),
        pl.Series("volume", np.round(np.exp(draws.log_volume[bars, columns]))),
        pl.Series(
            "sector",
            np.array([_sector_name(code) for code in range(simulator.sectors)])[draws.sector[columns]],
        ),
    )
    panel = panel.with_columns(
        (pl.col("timestamp") + timedelta(seconds=settings.publication_lag_s)).alias("known_time")
    ).select(*RAW_PANEL.columns)
    truth = pl.DataFrame({**keys, "expected_return_5": expected[bars, columns]}, schema=TRUTH_SCHEMA)
    faults = pl.DataFrame(schema=FAULTS_SCHEMA)
    if simulator.faults:
        panel, faults = plant_faults(
            panel,
            simulator.faults,
            simulator.fault_symbols,
            np.random.default_rng([simulator.fault_seed, seed]),
        )
    return SimulatedMarket(panel, truth, faults)


def simulate_to_files(settings: Settings, seed: int, folder: str | os.PathLike) -> None:
    """Write a simulated market into `folder`: panel.parquet (stamped with the bar's end, UTC), truth.parquet,
    faults.parquet and README.md.
    """
    market = simulate(settings, seed)
    folder = Path(folder)
    with atomic_path(folder / "panel.parquet") as temporary:
        market.panel.select(
            "symbol", "timestamp", "open", "high", "low", "close", "volume", "sector"
        ).write_parquet(temporary, compression="zstd")
    write_truth(market.truth, folder / "truth.parquet")
    with atomic_path(folder / "faults.parquet") as temporary:
        market.faults.write_parquet(temporary, compression="zstd")
    atomic_write_text(
        folder / "README.md",
        f"Simulated market: {settings.simulator.symbols} symbols x {settings.simulator.bars} bars of"
        f" {settings.period}, seed {seed}, attainable IC {settings.planted_ic:g} over 5 bars. panel.parquet:"
        " bars stamped with their end (UTC), `market.stamp: bar_close`; truth.parquet: the expected return"
        " open[t+1] to open[t+6] as known at t; faults.parquet: rows with a planted fault.\n",
    )


def calendar(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Opening and closing moments of the bars, datetime64[us] in UTC: business days (no holidays) for daily
    bars, else a plain grid.
    """
    bars = settings.simulator.bars
    if is_daily(settings.period):
        days = np.busday_offset(
            np.datetime64(settings.simulator.start, "D"), np.arange(bars), roll="forward"
        ).astype("datetime64[us]")
        return days + _since_midnight(OPEN_TIME), days + _since_midnight(CLOSE_TIME)
    start = np.datetime64(datetime.combine(settings.simulator.start, time(0), UTC).replace(tzinfo=None), "us")
    length = np.timedelta64(LENGTHS[settings.period])
    opened = start + np.arange(bars) * length
    return opened, opened + length


def _since_midnight(clock: time) -> np.timedelta64:
    return np.timedelta64(timedelta(hours=clock.hour, minutes=clock.minute))


def _sector_name(code: int) -> str:
    return SECTOR_NAMES[code] if code < len(SECTOR_NAMES) else f"Sector {code + 1}"


def _draw(settings: Settings, rng: np.random.Generator, change: ChangeSettings | None = None) -> _Draws:
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
        parts[part] = (
            np.sqrt(weight) * scale * (market + sectors + sigma * noise[part]) - weight * variance / 2
        )
    size = np.abs(np.sqrt(share) * noise["overnight"] + np.sqrt(1 - share) * noise["intraday"])
    listed, age = _listings(simulator, rng)
    specific = scale**2 * (sigma**2 * (1 - simulator.sectors / symbols) + beta.var() * MARKET_VOLATILITY**2)
    mean_variance = (specific * listed).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    base = np.log(1e6) + rng.standard_normal(symbols) - np.log(BARS_A_DAY[settings.period])
    log_volume = (
        base
        + _persistent(rng.standard_normal((bars + VOLUME_TERMS, symbols)))
        + 0.35 * (size - np.sqrt(2 / np.pi))
        + 0.15 * rng.standard_normal(shape)
    )
    return _Draws(
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


def _regimes(bars: int, rng: np.random.Generator) -> np.ndarray:
    """States of a Markov chain over calm, usual and stormy, one a bar: geometric stays, then one of the two
    other states.
    """
    visits = int(bars / REGIME_BARS.min()) * 4 + 10
    states = (1 + np.cumsum(rng.integers(1, 3, visits))) % 3
    lengths = rng.geometric(1 / REGIME_BARS[states])
    return (
        np.repeat(states, lengths)[:bars]
        if lengths.sum() >= bars
        else np.resize(np.repeat(states, lengths), bars)
    )


def _persistent(shocks: np.ndarray) -> np.ndarray:
    """Moving average of shocks with geometric weights, standard deviation 0.35; shape (bars, symbols) from
    (bars + VOLUME_TERMS, symbols).
    """
    bars = len(shocks) - VOLUME_TERMS
    total = np.zeros((bars, shocks.shape[1]))
    for lag in range(VOLUME_TERMS):
        total += VOLUME_MEMORY**lag * shocks[VOLUME_TERMS - lag : VOLUME_TERMS - lag + bars]
    return 0.35 * np.sqrt(1 - VOLUME_MEMORY**2) * total


def _listings(simulator, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    bars, symbols = simulator.bars, simulator.symbols
    first, last = np.zeros(symbols, dtype=int), np.full(symbols, bars - 1)
    chosen = rng.permutation(symbols)
    late, gone = round(simulator.late_share * symbols), round(simulator.delisted_share * symbols)
    first[chosen[:late]] = rng.integers(1, max(2, bars // 3), late)
    last[chosen[late : late + gone]] = rng.integers(
        bars // 2, max(bars // 2 + 1, bars - 5), len(chosen[late : late + gone])
    )
    age = np.arange(bars)[:, None] - first
    return (age >= 0) & (np.arange(bars)[:, None] <= last), age


def _next_five(values: np.ndarray, lead: int) -> np.ndarray:
    """Sum of values[t+lead], ..., values[t+lead+4] for each t; bars beyond the end count as the last."""
    padded = np.concatenate([values, np.repeat(values[-1:], HORIZON + lead, axis=0)])
    return sum(padded[lead + step : lead + step + len(values)] for step in range(HORIZON))


def _paths(
    draws: _Draws, alpha: list[tuple[int, dict[str, float], float]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log open, log close and drift of each bar, shape (bars, symbols).

    Goes in blocks of HORIZON bars, whose drift the block before decides.

    `alpha` holds (first bar, weights of the planted signals, drift a unit of signal); a block goes by the
    newest entry that it does not begin before.
    """
    bars, symbols = draws.overnight.shape
    drift = np.zeros((bars, symbols))
    if not any(strength for _, _, strength in alpha):
        moved = draws.overnight + draws.intraday
        moved[0] = draws.intraday[0]
        log_close = draws.first_price + np.cumsum(moved, axis=0)
        return log_close - draws.intraday, log_close, drift
    log_close = np.empty((bars, symbols))
    members = np.eye(draws.sector.max() + 1)[draws.sector]
    previous = draws.first_price - draws.overnight[0]
    for start in range(0, bars, HORIZON):
        block = slice(start, min(start + HORIZON, bars))
        if start:
            _, planted, strength = max(
                (entry for entry in alpha if entry[0] <= start), key=lambda entry: entry[0]
            )
            signal = _signal(start - HORIZON, log_close, draws, planted, members)
            drift[block] = strength * signal[: block.stop - block.start] * draws.listed[block]
        log_close[block] = previous + np.cumsum(
            draws.overnight[block] + draws.intraday[block] + drift[block], axis=0
        )
        previous = log_close[block.stop - 1]
    return log_close - draws.intraday - drift, log_close, drift


def _volume_surprise(log_volume: np.ndarray) -> np.ndarray:
    """Log volume minus the log of its mean over 20 bars, the present one included; meaningless in the first
    19 bars.
    """
    volume = np.round(np.exp(log_volume))
    sums = np.cumsum(volume, axis=0)
    sums[20:] = sums[20:] - sums[:-20]
    return np.log(np.maximum(volume, 1)) - np.log(np.maximum(sums / 20, 1))


def _signal(
    start: int, log_close: np.ndarray, draws: _Draws, planted: dict[str, float], members: np.ndarray
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
    deviation = np.sqrt(
        (neutral**2).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    )
    cut = np.clip(np.divide(neutral, deviation, out=np.zeros_like(neutral), where=deviation > 1e-12), -3, 3)
    return _against_sector(cut, known, members)


def _against_sector(values: np.ndarray, known: np.ndarray, members: np.ndarray) -> np.ndarray:
    counted = np.where(known, values, 0.0)
    means = (counted @ members) / np.maximum(known @ members, 1)
    return np.where(known, values - means @ members.T, 0.0)


def _expected(drift: np.ndarray, draws: _Draws) -> np.ndarray:
    """Sector-neutral expected return from open[t+1] to open[t+6] given bars up to t, shape (bars, symbols).

    Near the end of the data the drifts beyond it are taken as zero; no label is complete there.
    """
    bars = len(drift)
    padded = np.concatenate([drift, np.zeros((HORIZON + 1, drift.shape[1]))])
    total = sum(padded[step : step + bars] for step in range(1, HORIZON + 1))
    return _against_sector(total, draws.listed, np.eye(draws.sector.max() + 1)[draws.sector])


def _calibrate(draws: _Draws, settings: Settings, planted: dict[str, float]) -> float:
    """Drift a unit of signal at which the mean attainable IC is `planted_ic`: sd of the expected return over
    sd of the return.
    """
    if settings.planted_ic == 0:
        return 0.0
    usable = slice(min(WARM_UP_BARS, settings.simulator.bars // 2), settings.simulator.bars - HORIZON - 1)
    strength = settings.planted_ic * SYMBOL_VOLATILITY / np.sqrt(BARS_A_DAY[settings.period])
    for _ in range(CALIBRATIONS):
        expected = _expected(_paths(draws, [(0, planted, strength)])[2], draws)
        signal_variance = (expected**2).sum(axis=1)[usable] / np.maximum(draws.listed.sum(axis=1)[usable], 1)
        attained = np.sqrt(signal_variance / (signal_variance + draws.label_variance[usable])).mean()
        strength *= settings.planted_ic / max(attained, 1e-9)
    return float(strength)


def _bridge_extremes(
    start: np.ndarray, end: np.ndarray, variance: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of Brownian bridges from `start` to `end` (each drawn from its exact law,
    independently).
    """
    gap, middle = end - start, (start + end) / 2
    below, above = (np.sqrt(gap**2 - 2 * variance * np.log(1 - rng.random(len(gap)))) / 2 for _ in range(2))
    return np.minimum(middle - below, np.minimum(start, end)), np.maximum(
        middle + above, np.maximum(start, end)
    )
