"""Factors: time and memory on a panel of 503 symbols x 2,653 daily bars, and the same factors written with pandas groupby.rolling.

`python tests/benchmarks/bench_factors.py` reads us_equity_daily.parquet in the folder ALPHALOOP_DATA, else makes a panel of that size.
"""

import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.features.build import build_factors
from components.features.config import Groups, Selection, Settings
from components.features.library import FACTORS

SYMBOLS, BARS = 503, 2653
# What both sides compute, with the rank of each among the symbols of a day.
SUBSET = (
    "momentum_20",
    "momentum_60",
    "momentum_12_1",
    "reversal_5",
    "rsi_14",
    "bollinger_20",
    "volatility_20",
    "volume_surprise_20",
    "parkinson_20",
    "amihud_20",
    "high_252_distance",
    "skewness_60",
)


def main() -> None:
    """Print one line a case: seconds of wall clock and CPU, microseconds of CPU a cell, and the ratio to ours where both do the same."""
    path = Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet"
    panel = read_panel(path) if path.exists() else synthetic_panel()
    print(f"{path if path.exists() else 'synthetic panel'}: {len(panel):,} rows, {panel['symbol'].n_unique()} symbols, {os.cpu_count()} cores")
    every_input, raw_60 = Settings(), sixty_factors()
    subset = Settings(factors=Selection(exclude=tuple(f.name for f in FACTORS if f.name not in (*SUBSET, "regime_state"))))
    cases = {
        "60 factors and their inputs": lambda: build_factors(panel, raw_60),
        "all factors and inputs": lambda: build_factors(panel, every_input),
        f"{len(SUBSET)} factors and their ranks": lambda: build_factors(panel, subset),
        f"{len(SUBSET)} factors and ranks in pandas": lambda: with_pandas(panel),
    }
    cells = {0: 60 * len(panel), 1: len(FACTORS) * len(panel), 2: len(SUBSET) * len(panel), 3: len(SUBSET) * len(panel)}
    per_cell = []
    print(f"{'case':36s} {'wall s':>8s} {'CPU s':>8s} {'us CPU a cell':>14s} {'peak GiB':>9s}")
    for number, (name, case) in enumerate(cases.items()):
        wall, cpu = time.perf_counter(), time.process_time()
        case()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        per_cell.append(cpu / cells[number] * 1e6)
        print(f"{name:36s} {wall:8.2f} {cpu:8.2f} {per_cell[-1]:14.3f} {peak_gib():9.2f}")
    print(f"pandas against ours, CPU a cell, same factors and ranks: {per_cell[3] / per_cell[2]:.1f} times (ours also makes the market's regime)")


def sixty_factors() -> Settings:
    """Settings that leave 60 daily factors besides the calendar and the raw bars."""
    daily = [factor.name for factor in FACTORS if "1d" in factor.periods and factor.group not in ("calendar", "bars") and factor.name not in ("regime_state", "volatility_20")]
    return Settings(groups=Groups(calendar=False, bars=False), factors=Selection(exclude=tuple(daily[58:])))


def read_panel(path: Path) -> pl.DataFrame:
    """A file of symbol, timestamp, open, high, low, close, volume as a daily panel; repeated rows are dropped."""
    bars = pl.read_parquet(path).unique(["symbol", "timestamp"], keep="first", maintain_order=True)
    return as_panel(bars.rename({"timestamp": "event_time"}).with_columns(pl.col("open", "high", "low", "close", "volume").cast(pl.Float64)))


def synthetic_panel() -> pl.DataFrame:
    """Random walks of the real panel's size."""
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(0.02 * rng.standard_normal((BARS, SYMBOLS)), axis=0))
    opened = close * np.exp(0.005 * rng.standard_normal(close.shape))
    start = datetime(2015, 1, 2, tzinfo=UTC)
    columns = {"open": opened, "high": np.maximum(opened, close) * 1.005, "low": np.minimum(opened, close) * 0.995, "close": close}
    frame = pl.DataFrame(
        {
            "event_time": np.repeat(np.array([start.replace(tzinfo=None) + timedelta(days=i) for i in range(BARS)], dtype="datetime64[us]"), SYMBOLS),
            "symbol": [f"S{s:03d}" for s in range(SYMBOLS)] * BARS,
            **{name: values.reshape(-1) for name, values in columns.items()},
            "volume": np.exp(14 + rng.standard_normal(close.size)),
        }
    )
    return as_panel(frame.with_columns(pl.col("event_time").dt.replace_time_zone("UTC")))


def as_panel(bars: pl.DataFrame) -> pl.DataFrame:
    """Add what a panel has besides the bars; sectors by the symbol's first letter or number, for their cost only."""
    closed = (pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC"))
    sector = (pl.col("symbol").hash(seed=0) % 11).cast(pl.String)
    return bars.with_columns(timestamp=closed, known_time=closed, period=pl.lit("1d"), sector=sector).sort("timestamp", "symbol")


def with_pandas(panel: pl.DataFrame):
    """The subset as one would write it in pandas."""
    bars = panel.select("symbol", "timestamp", "high", "low", "close", "volume").to_pandas().sort_values(["symbol", "timestamp"]).reset_index(drop=True)
    log_close = np.log(bars["close"])
    by = bars["symbol"]
    bars["r"] = log_close.groupby(by).diff()

    def rolling(values, bars_count, how):
        return getattr(values.groupby(by).rolling(bars_count), how)().reset_index(level=0, drop=True)

    bars["momentum_20"] = log_close.groupby(by).diff(20)
    bars["momentum_60"] = log_close.groupby(by).diff(60)
    bars["momentum_12_1"] = log_close.groupby(by).shift(21) - log_close.groupby(by).shift(251)
    bars["reversal_5"] = -log_close.groupby(by).diff(5)
    bars["rsi_14"] = 100 * rolling(bars["r"].clip(lower=0), 14, "mean") / rolling(bars["r"].abs(), 14, "mean")
    bars["bollinger_20"] = (log_close - rolling(log_close, 20, "mean")) / (2 * rolling(log_close, 20, "std"))
    bars["volatility_20"] = rolling(bars["r"], 20, "std")
    bars["volume_surprise_20"] = np.log(bars["volume"].where(bars["volume"] > 0)) - np.log(rolling(bars["volume"], 20, "mean").where(lambda mean: mean > 0))
    bars["parkinson_20"] = np.sqrt(rolling(np.log(bars["high"] / bars["low"]) ** 2, 20, "mean") / (4 * np.log(2)))
    dollars = (bars["close"] * bars["volume"]).where(bars["volume"] > 0)
    bars["amihud_20"] = np.log(rolling(1e6 * bars["r"].abs() / dollars, 20, "mean").where(lambda mean: mean > 0))
    bars["high_252_distance"] = log_close - np.log(rolling(bars["high"], 252, "max"))
    bars["skewness_60"] = rolling(bars["r"], 60, "skew")
    ranks = bars.groupby("timestamp")[list(SUBSET)].rank(pct=True)
    return bars.join(ranks, rsuffix="_rank").sort_values(["timestamp", "symbol"])


def peak_gib() -> float:
    """Largest memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    main()
