"""Factors: time and memory on a panel of 503 symbols x 2,653 daily bars: all of them raw and with their
inputs, 200 of them, one new day added, a panel built in pieces, and the same twelve factors written with
pandas groupby.rolling. Each case runs in a process of its own.

`python -m tests.benchmarks.bench_factors` reads us_equity_daily.parquet in the folder ALPHALOOP_DATA, else
makes a panel of that size. With ALPHALOOP_QLIB_PYTHON set, Qlib's Alpha158 follows (bench_alpha158).
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts.cut import cut_of
from components.features.build import build_factors, build_supported
from components.features.catalog import declared_factors
from components.features.config import Groups, Selection, Settings
from components.features.in_pieces import build_in_pieces
from components.features.incremental import append_factors
from components.features.library import FACTORS, GROUPS
from components.features.panels import PanelOnDisk
from components.features.raw_values import arranged, market_values, own_blocks
from components.features.support import unsupported

SYMBOLS, BARS = 503, 2653
EVERY_GROUP = Settings(groups=Groups(**dict.fromkeys(GROUPS, True)))
NEW_DAYS = 20
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


def main(case: str | None = None, path: str | None = None) -> None:
    """Print one line a case: factors, seconds of wall clock and CPU, microseconds of CPU a factor cell, peak
    memory.
    """
    if path:
        pieces_of(path)
        return
    if case:
        CASES[case](the_panel())
        return
    print(
        f"{'case':42s} {'factors':>8s} {'wall s':>8s} {'CPU s':>8s} {'us CPU a cell':>14s} {'peak GiB':>9s}",
        flush=True,
    )
    for name in CASES:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.bench_factors", name], check=True)
    if os.environ.get("ALPHALOOP_QLIB_PYTHON"):
        subprocess.run([sys.executable, "-m", "tests.benchmarks.bench_alpha158"], check=True)


def timed(name: str, factors: int, panel: Sized, call: Callable[[], object]) -> None:
    """Run `call` and print its line."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{name:42s} {factors:8d} {wall:8.2f} {cpu:8.2f} {cpu / factors / len(panel) * 1e6:14.3f}"
        f" {peak_gib():9.2f}",
        flush=True,
    )


def raw_200(panel: pl.DataFrame) -> None:
    timed("200 factors, raw", 200, panel, lambda: raw(panel, some_factors(panel, 200)))


def raw_all(panel: pl.DataFrame) -> None:
    factors = some_factors(panel, len(FACTORS))
    timed("all factors that the panel supports, raw", len(factors), panel, lambda: raw(panel, factors))


def inputs_200(panel: pl.DataFrame) -> None:
    wanted = {factor.name for factor in some_factors(panel, 200)}
    settings = EVERY_GROUP.model_copy(
        update={
            "factors": Selection(
                exclude=tuple(
                    f.name for f in FACTORS if f.name not in {*wanted, "regime_state", "volatility_20"}
                )
            )
        }
    )
    timed("200 factors and their inputs", 200, panel, lambda: build_factors(panel, settings))


def inputs_all(panel: pl.DataFrame) -> None:
    factors = some_factors(panel, len(FACTORS))
    timed("all of them and their inputs", len(factors), panel, lambda: build_factors(panel, EVERY_GROUP))


def inputs_default(panel: pl.DataFrame) -> None:
    count = len(declared_factors(Settings(), "1d")) - len(unsupported(panel, Settings()))
    timed("default groups and their inputs", count, panel, lambda: build_factors(panel, Settings()))


def one_new_day(panel: pl.DataFrame) -> None:
    """Median and range of the last NEW_DAYS days, each added to the table of the days before."""
    for name, settings in (
        ("one new day, default groups", Settings()),
        ("one new day, all groups", EVERY_GROUP),
    ):
        moments = panel["timestamp"].unique().sort()
        recent = panel.filter(pl.col("timestamp") >= moments[-1100])
        table, entries, _ = build_supported(recent, settings)
        walls, cpus, differing = [], [], 0
        for moment in moments[-NEW_DAYS:]:
            first = int(table["timestamp"].search_sorted(moment))
            bars, previous = recent.filter(pl.col("timestamp") <= moment), table[:first]
            wall, cpu = time.perf_counter(), time.process_time()
            new = append_factors(bars, previous, settings)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            differing += not new.equals(table[first : first + len(new)])
        factors = len({entry.factor for entry in entries})
        print(
            f"{name:42s} {factors:8d} {statistics.median(walls):8.2f} {statistics.median(cpus):8.2f}   wall"
            f" {min(walls):.2f} to {max(walls):.2f}; days that differ: {differing}",
            flush=True,
        )


def in_pieces(panel: pl.DataFrame) -> None:
    """Twice the symbols, built in pieces of 300,000 rows from a file."""
    twice = pl.concat([panel, panel.with_columns(symbol=pl.lit("second ") + pl.col("symbol"))]).sort(
        "timestamp", "symbol"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel.parquet"
        twice.write_parquet(path, row_group_size=100_000)
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bench_factors", "pieces_of", str(path)], check=True
        )


def pieces_of(path: str) -> None:
    """Build the panel at `path` in pieces, without ever holding it."""
    panel = pl.scan_parquet(path)
    rows = range(panel.select(pl.len()).collect().item())
    factors = len(declared_factors(Settings(), "1d")) - len(unsupported(panel, Settings()))
    target = Path(path).parent / "factors"
    timed(
        "twice the symbols in pieces, default",
        factors,
        rows,
        lambda: build_in_pieces(
            PanelOnDisk(panel, cut_of(panel, 300_000)), Settings(), target, code_version="bench", inputs={}
        ),
    )


def subset(panel: pl.DataFrame) -> None:
    settings = EVERY_GROUP.model_copy(
        update={
            "factors": Selection(
                exclude=tuple(f.name for f in FACTORS if f.name not in (*SUBSET, "regime_state"))
            )
        }
    )
    timed(
        f"{len(SUBSET)} factors and their ranks", len(SUBSET), panel, lambda: build_factors(panel, settings)
    )


def subset_in_pandas(panel: pl.DataFrame) -> None:
    timed(f"the same {len(SUBSET)} in pandas", len(SUBSET), panel, lambda: with_pandas(panel))


CASES = {
    case.__name__: case
    for case in (
        raw_200,
        raw_all,
        inputs_200,
        inputs_default,
        inputs_all,
        one_new_day,
        in_pieces,
        subset,
        subset_in_pandas,
    )
}


def raw(panel: pl.DataFrame, factors) -> pl.DataFrame:
    """The factors' values in the panel's order, Float32, without ranks or scores."""
    panel = panel.sort("timestamp", "symbol")
    bars = arranged(panel, factors, EVERY_GROUP)
    market = market_values(bars, factors)
    time_of_row = panel["timestamp"].rle_id().to_numpy()
    blocks = [
        block[bars.back]
        for block in own_blocks(bars, [factor for factor in factors if factor.scope != "market"])
    ]
    return pl.concat([*blocks, market[time_of_row]], how="horizontal")


def some_factors(panel: pl.DataFrame, count: int) -> list:
    """The first `count` factors that the panel supports, in the library's order."""
    gone = unsupported(panel, EVERY_GROUP)
    return [factor for factor in declared_factors(EVERY_GROUP, "1d") if factor.name not in gone][:count]


def the_panel() -> pl.DataFrame:
    """The US panel where ALPHALOOP_DATA has it, else a made-up one of its size."""
    path = Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet"
    return read_panel(path) if path.exists() else synthetic_panel()


def read_panel(path: Path) -> pl.DataFrame:
    """A file of symbol, timestamp, open, high, low, close, volume as a daily panel; repeated rows are
    dropped.
    """
    bars = pl.read_parquet(path).unique(["symbol", "timestamp"], keep="first", maintain_order=True)
    return as_panel(
        bars.rename({"timestamp": "event_time"}).with_columns(
            pl.col("open", "high", "low", "close", "volume").cast(pl.Float64)
        )
    )


def synthetic_panel() -> pl.DataFrame:
    """Random walks of the real panel's size."""
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(0.02 * rng.standard_normal((BARS, SYMBOLS)), axis=0))
    opened = close * np.exp(0.005 * rng.standard_normal(close.shape))
    start = datetime(2015, 1, 2, tzinfo=UTC)
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.005,
        "low": np.minimum(opened, close) * 0.995,
        "close": close,
    }
    frame = pl.DataFrame(
        {
            "event_time": np.repeat(
                np.array(
                    [start.replace(tzinfo=None) + timedelta(days=i) for i in range(BARS)],
                    dtype="datetime64[us]",
                ),
                SYMBOLS,
            ),
            "symbol": [f"S{s:03d}" for s in range(SYMBOLS)] * BARS,
            **{name: values.reshape(-1) for name, values in columns.items()},
            "volume": np.exp(14 + rng.standard_normal(close.size)),
        }
    )
    return as_panel(frame.with_columns(pl.col("event_time").dt.replace_time_zone("UTC")))


def as_panel(bars: pl.DataFrame) -> pl.DataFrame:
    """Add what a panel has besides the bars; sectors by the symbol's first letter or number, for their cost
    only.
    """
    closed = (pl.col("event_time") + timedelta(days=1)).cast(pl.Datetime("us", "UTC"))
    sector = (pl.col("symbol").hash(seed=0) % 11).cast(pl.String)
    return bars.with_columns(timestamp=closed, known_time=closed, period=pl.lit("1d"), sector=sector).sort(
        "timestamp", "symbol"
    )


def with_pandas(panel: pl.DataFrame):
    """The subset as one would write it in pandas."""
    bars = (
        panel.select("symbol", "timestamp", "high", "low", "close", "volume")
        .to_pandas()
        .sort_values(["symbol", "timestamp"])
        .reset_index(drop=True)
    )
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
    bars["volume_surprise_20"] = np.log(bars["volume"].where(bars["volume"] > 0)) - np.log(
        rolling(bars["volume"], 20, "mean").where(lambda mean: mean > 0)
    )
    bars["parkinson_20"] = np.sqrt(
        rolling(np.log(bars["high"] / bars["low"]) ** 2, 20, "mean") / (4 * np.log(2))
    )
    dollars = (bars["close"] * bars["volume"]).where(bars["volume"] > 0)
    bars["amihud_20"] = np.log(
        rolling(1e6 * bars["r"].abs() / dollars, 20, "mean").where(lambda mean: mean > 0)
    )
    bars["high_252_distance"] = log_close - np.log(rolling(bars["high"], 252, "max"))
    bars["skewness_60"] = rolling(bars["r"], 60, "skew")
    ranks = bars.groupby("timestamp")[list(SUBSET)].rank(pct=True)
    return bars.join(ranks, rsuffix="_rank").sort_values(["timestamp", "symbol"])


def peak_gib() -> float:
    """Largest memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


if __name__ == "__main__":
    main(*sys.argv[1:3])
