"""Seconds and windows a second of the group-wise PatchTST with its default leaf. Run: python tests/benchmarks/bench_patchtst.py [bars] [threads]."""

import resource
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components.experts.patchtst import Expert, Settings
from components.experts.protocol import Task

SYMBOLS, INPUTS_A_GROUP = 500, {"trend": 12, "mean_reversion": 8, "volatility": 9, "volume_liquidity": 9, "microstructure": 8, "style": 6, "calendar": 3, "regime": 7, "bars": 5}


def synthetic_frame(bars: int, groups: dict[str, str]) -> pl.DataFrame:
    """Noise of the size of a real panel, with the last 10 % of bars to predict and the 5 % before them for early stopping."""
    generator = np.random.default_rng(0)
    rows = bars * SYMBOLS
    day = np.repeat(np.arange(bars), SYMBOLS)
    part = np.select([day < 0.85 * bars, day < 0.9 * bars], ["train", "early_stopping"], "predict")
    columns = {name: generator.standard_normal(rows, dtype=np.float32).astype(np.float64) for name in groups}
    return pl.DataFrame(
        {
            "timestamp": pl.Series(day).cast(pl.Int64) * 86_400_000_000,
            "symbol": np.tile([f"S{i:04d}" for i in range(SYMBOLS)], bars),
            "part": part,
            "label": np.where(part == "predict", np.nan, 0.03 * generator.standard_normal(rows)),
            "regime_state": np.repeat(generator.integers(0, 4, bars), SYMBOLS).astype(np.int32),
            "volatility_20": np.full(rows, 0.015),
            **columns,
        }
    ).with_columns((pl.lit(datetime(2015, 1, 1, tzinfo=UTC)) + pl.duration(days=pl.Series(day))).alias("timestamp"), pl.col("label").fill_nan(None))


def main() -> None:
    """Measure one fit and one prediction."""
    from components.experts.patchtst_network import parameter_count

    bars = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    groups = {f"{group}_{i}": group for group, count in INPUTS_A_GROUP.items() for i in range(count)}
    frame = synthetic_frame(bars, groups)
    start, used = time.perf_counter(), time.process_time()
    expert = Expert(Settings())
    expert.fit(frame, Task("1d", 5, "sector_neutral_return", groups, seed=0, threads=threads), advance=lambda share, what: None)
    fitted, fitted_used = time.perf_counter(), time.process_time()
    trained = len(expert.evidence["training"]) * expert.settings.max_train_windows
    print(
        f"fit of {len(frame):,} rows, {len(groups)} inputs: {fitted - start:.1f} s ({fitted_used - used:.1f} s of CPU), {trained:,} windows trained, {parameter_count(expert.network):,} parameters"
    )
    first = frame.filter(pl.col("part") == "predict")["timestamp"].min() - timedelta(days=expert.lookback_bars)
    recent = frame.filter(pl.col("timestamp") >= first)
    fitted, fitted_used = time.perf_counter(), time.process_time()
    predicted = expert.predict(recent)
    end, end_used = time.perf_counter(), time.process_time()
    print(f"predict: {len(predicted):,} rows in {end - fitted:.1f} s ({end_used - fitted_used:.1f} s of CPU), {len(predicted) / (end - fitted):,.0f} windows/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, epochs {expert.evidence['training']}")


if __name__ == "__main__":
    main()
