"""Alpha158: our group `alpha158` against Qlib's own handler, same panel, same run, CPU time a factor cell.

`ALPHALOOP_QLIB_PYTHON=/path/to/python python -m tests.benchmarks.bench_alpha158` reads
us_equity_daily.parquet in the folder ALPHALOOP_DATA, else makes a panel of that size; the variable names a
Python that has Qlib (pyqlib 0.9.7). Both sides get the typical price as vwap, so that all 158 have values.

In the time of Qlib: its handler's loading, which reads its data files (warm in the disk cache) and computes
the 158 factors and one label, on one process, without processors; not the writing of its data folder and not
its import. In ours: from the panel in memory to the finished Float32 columns, sorting and the way back
included. Ours with inputs is `build_factors`: also the ranks among the symbols, the market's regime and the
known times.
"""

import os
import time
from pathlib import Path

import polars as pl

from components.contracts import PANEL
from components.features.build import build_factors
from components.features.config import Groups, Settings
from components.features.library import FACTORS, GROUPS
from components.features.raw_values import arranged, own_blocks
from tests.benchmarks.bench_factors import peak_gib, read_panel, synthetic_panel
from tests.features.alpha158_panel import qlib_factors

ALPHA158 = tuple(factor for factor in FACTORS if factor.group == "alpha158")
SETTINGS = Settings(groups=Groups(**{name: name == "alpha158" for name in GROUPS}))


def main() -> None:
    """Print one line a side: seconds of wall clock and CPU, microseconds of CPU a cell; the ratios, and how
    far both agree.
    """
    path = Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet"
    panel = read_panel(path) if path.exists() else synthetic_panel()
    prices = pl.col("open", "high", "low", "close", "volume")
    # Qlib keeps Float32: both sides start from the same numbers.
    panel = panel.with_columns(prices.cast(pl.Float32).cast(pl.Float64)).with_columns(
        vwap=((pl.col("high") + pl.col("low") + pl.col("close")) / 3).cast(pl.Float32).cast(pl.Float64)
    )
    cells = len(ALPHA158) * len(panel)
    print(
        f"{path.name if path.exists() else 'synthetic panel'}: {len(panel):,} rows,"
        f" {panel['symbol'].n_unique()} symbols, {len(ALPHA158)} factors, {os.cpu_count()} cores"
    )
    print(f"{'side':34s} {'wall s':>8s} {'CPU s':>8s} {'us CPU a cell':>14s}")
    ours, raw_cpu = _timed("ours, the 158 factors", lambda: our_factors(panel), cells)
    _, all_cpu = _timed("ours, with ranked inputs", lambda: build_factors(panel, SETTINGS).height, cells)
    print(f"peak memory of ours: {peak_gib():.2f} GiB")
    python = os.environ.get("ALPHALOOP_QLIB_PYTHON")
    if not python:
        print("Qlib was not measured: ALPHALOOP_QLIB_PYTHON does not name a Python that has it.")
        return
    theirs, figures = qlib_factors(panel, python)
    qlib_cpu = figures["cpu_s"]
    print(
        f"{'Qlib ' + figures['qlib'] + ', its handler':34s} {figures['wall_s']:8.2f} {qlib_cpu:8.2f}"
        f" {qlib_cpu / (figures['rows'] * figures['factors']) * 1e6:14.3f}"
    )
    print(
        f"Qlib's CPU over ours: {qlib_cpu / raw_cpu:.1f} times for the factors, {qlib_cpu / all_cpu:.1f}"
        " times against ours with ranked inputs"
    )
    print_agreement(panel, ours, theirs)


def our_factors(panel: pl.DataFrame) -> pl.DataFrame:
    """The 158 factors in the panel's order, without ranks or scores."""
    panel = panel.sort(*PANEL.key)
    bars = arranged(panel, ALPHA158, SETTINGS)
    return pl.concat([block[bars.back] for block in own_blocks(bars, ALPHA158)], how="horizontal")


def print_agreement(panel: pl.DataFrame, ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """The share of values known on both sides, 60 bars or more into a symbol, that agree to 1e-4 of their
    size (2e-5 near 0), and the factors that agree least.

    Qlib counts days of the calendar, ours the symbol's bars: where a symbol misses days they differ.
    """
    days = pl.col("event_time").dt.date().alias("day")
    both = (
        panel.sort(*PANEL.key)
        .select("symbol", days)
        .hstack(ours)
        .join(theirs.with_columns(pl.col("day").cast(pl.Date)), on=["symbol", "day"], how="left")
    )
    both = both.filter(pl.int_range(pl.len()).over("symbol") >= 60)
    shares = {}
    for factor in ALPHA158:
        mine, other = (
            both[factor.name].cast(pl.Float64),
            both[factor.source.split()[-1]].cast(pl.Float64).fill_nan(None),
        )
        shares[factor.name] = ((mine - other).abs() <= 1e-4 * other.abs() + 2e-5).mean()
    least = sorted(shares, key=shares.get)[:5]
    print(
        f"values that agree: {sum(shares.values()) / len(shares):.4%} on average; least:"
        f" {', '.join(f'{name} {shares[name]:.3%}' for name in least)}"
    )


def _timed(name: str, run, cells: int) -> tuple[object, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:34s} {wall:8.2f} {cpu:8.2f} {cpu / cells * 1e6:14.3f}", flush=True)
    return result, cpu


if __name__ == "__main__":
    main()
