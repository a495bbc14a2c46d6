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
from components.market.alpha import Alpha, Paths, calibrate, expected_returns, paths
from components.market.config import Settings
from components.market.draws import Draws, draw
from components.market.errors import MarketError
from components.market.faults import FAULTS_SCHEMA, plant_faults
from components.market.rare import without_trades
from components.market.simulator_config import SimulatorSettings
from components.market.truth import TRUTH_SCHEMA, write_truth
from components.timeline.periods import LENGTHS, is_daily

MAX_CELLS = 30_000_000
SECTOR_NAMES = ("Energy", "Financials", "Health Care", "Industrials", "Technology", "Utilities")
OPEN_TIME, CLOSE_TIME = time(14, 30), time(21, 0)
# Seeds of where the faults lie, and of which symbols trade rarely and when.
FAULT_SEED, RARE_SEED = 1, 2


@dataclass(frozen=True)
class SimulatedMarket:
    """`panel` (RAW_PANEL), `truth` (timestamp, symbol, expected_return_5) and `faults` (symbol, timestamp,
    kind; the bars without a trade among them).
    """

    panel: pl.DataFrame
    truth: pl.DataFrame
    faults: pl.DataFrame


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
    draws = draw(settings, np.random.default_rng(seed))
    alphas = [Alpha(0, simulator.planted, calibrate(draws, settings, simulator.planted))]
    if change:
        planted = change.planted or simulator.planted
        alphas.append(Alpha(change.bar, planted, change.volatility * calibrate(draws, settings, planted)))
        draws = draw(settings, np.random.default_rng(seed), change)
    made = paths(draws, alphas)
    bars, columns = np.nonzero(draws.listed)
    panel = _panel(settings, draws, made, np.random.default_rng([seed, 1]))
    expected = pl.Series("expected_return_5", expected_returns(made.drift, draws)[bars, columns])
    truth = panel.select("timestamp", "symbol").with_columns(expected).cast(TRUTH_SCHEMA)
    faults = pl.DataFrame(schema=FAULTS_SCHEMA)
    if simulator.faults:
        rng = np.random.default_rng([FAULT_SEED, seed])
        panel, faults = plant_faults(panel, simulator.faults, simulator.fault_symbols, rng)
    if simulator.rare.share:
        rng = np.random.default_rng([RARE_SEED, seed])
        panel, untraded = without_trades(panel, faults, simulator.rare, rng)
        faults = pl.concat([faults, untraded])
        truth = truth.join(untraded, on=["timestamp", "symbol"], how="anti", maintain_order="left")
    return SimulatedMarket(panel, truth, faults)


def _panel(settings: Settings, draws: Draws, made: Paths, extremes: np.random.Generator) -> pl.DataFrame:
    """The bars in which symbols were listed as RAW_PANEL, sorted by (timestamp, symbol)."""
    opened, closed = calendar(settings)
    bars, columns = np.nonzero(draws.listed)
    log_open, log_close = made.log_open[bars, columns], made.log_close[bars, columns]
    low, high = _bridge_extremes(log_open, log_close, draws.intraday_variance[bars, columns], extremes)
    timestamp = pl.Series(closed[bars]).dt.replace_time_zone("UTC")
    panel = pl.DataFrame(
        {
            "timestamp": timestamp,
            "symbol": pl.Series(_symbol_names(settings.simulator)[columns]),
            "event_time": pl.Series(opened[bars]).dt.replace_time_zone("UTC"),
            "known_time": timestamp + timedelta(seconds=settings.publication_lag_s),
            "open": np.exp(log_open),
            "high": np.exp(high),
            "low": np.exp(low),
            "close": np.exp(log_close),
            "volume": np.round(np.exp(draws.log_volume[bars, columns])),
            "sector": _sector_names(settings.simulator)[draws.sector[columns]],
        }
    )
    return panel.with_columns(pl.lit(settings.period).alias("period")).select(*RAW_PANEL.columns)


def _symbol_names(simulator: SimulatorSettings) -> np.ndarray:
    digits = len(str(simulator.symbols))
    return np.array([f"S{number + 1:0{digits}d}" for number in range(simulator.symbols)])


def _sector_names(simulator: SimulatorSettings) -> np.ndarray:
    more = [f"Sector {code + 1}" for code in range(len(SECTOR_NAMES), simulator.sectors)]
    return np.array([*SECTOR_NAMES, *more][: simulator.sectors])


def simulate_to_files(settings: Settings, seed: int, folder: str | os.PathLike) -> None:
    """Write a simulated market into `folder`: panel.parquet (stamped with the bar's end, UTC), truth.parquet,
    faults.parquet and README.md.
    """
    market = simulate(settings, seed)
    folder = Path(folder)
    with atomic_path(folder / "panel.parquet") as temporary:
        market.panel.select(_given(settings)).write_parquet(temporary, compression="zstd")
    write_truth(market.truth, folder / "truth.parquet")
    with atomic_path(folder / "faults.parquet") as temporary:
        market.faults.write_parquet(temporary, compression="zstd")
    atomic_write_text(
        folder / "README.md",
        f"Simulated market: {settings.simulator.symbols} symbols x {settings.simulator.bars} bars of"
        f" {settings.period}, seed {seed}, attainable IC {settings.planted_ic:g} over 5 bars. panel.parquet:"
        " bars stamped with their end (UTC), `market.stamp: bar_close`; truth.parquet: the expected return"
        " open[t+1] to open[t+6] as known at t; faults.parquet: rows with a planted fault, and bars without"
        " a trade.\n",
    )


def _given(settings: Settings) -> list[str]:
    """The columns of the file, without those that `market.columns` leaves out."""
    columns = ("symbol", "timestamp", "open", "high", "low", "close", "volume", "sector")
    return [name for name in columns if settings.columns.get(name) != ""]


def calendar(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Opening and closing moments of the bars, datetime64[us] in UTC: business days (no holidays) for daily
    bars, else a plain grid.
    """
    bars = settings.simulator.bars
    if is_daily(settings.period):
        first = np.datetime64(settings.simulator.start, "D")
        days = np.busday_offset(first, np.arange(bars), roll="forward").astype("datetime64[us]")
        return days + _since_midnight(OPEN_TIME), days + _since_midnight(CLOSE_TIME)
    start = np.datetime64(datetime.combine(settings.simulator.start, time(0), UTC).replace(tzinfo=None), "us")
    length = np.timedelta64(LENGTHS[settings.period])
    opened = start + np.arange(bars) * length
    return opened, opened + length


def _since_midnight(clock: time) -> np.timedelta64:
    return np.timedelta64(timedelta(hours=clock.hour, minutes=clock.minute))


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
