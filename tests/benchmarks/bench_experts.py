"""Experts side by side on the same rows: train each walk-forward on a run's tables, several seeds, and judge
the test window.

Run: python -m tests.benchmarks.bench_experts --config pipelines/configs/us_equities.yaml --tables FOLDER
--selection FILE --experts lightgbm patchtst --seeds 7 8 9 --out FOLDER

`--tables` is the artifacts folder of one pipeline run (it holds make-training-set, make-labels,
build-features); the first expert is what the others are compared with.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

WINDOWS = ("validation", "test")


def main() -> None:
    """Train what is missing, then print the table of each window."""
    options = _options()
    out = Path(options.out)
    for expert in options.experts:
        for seed in options.seeds:
            if not (out / f"{expert}_{seed}" / "status.json").exists():
                # One process a training: its peak of memory is its own.
                subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "tests.benchmarks.bench_experts",
                        *sys.argv[1:],
                        "--one",
                        expert,
                        str(seed),
                    ],
                    check=True,
                )
    labels = pl.read_parquet(_table(options.tables, "make-labels", "labels"))
    for window in WINDOWS:
        print(f"\n{window}\n{_summary(options, out, labels, window)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--selection", type=Path)
    parser.add_argument("--learnable", type=Path)
    parser.add_argument("--experts", nargs="+", default=["lightgbm", "patchtst", "tft", "adaptive_tft"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9])
    parser.add_argument("--out", required=True)
    parser.add_argument("--one", nargs=2, metavar=("EXPERT", "SEED"))
    options = parser.parse_args()
    if options.one:
        _train(options, options.one[0], int(options.one[1]))
        sys.exit()
    return options


def _table(tables: Path, task: str, name: str) -> Path:
    return tables / task / name


def _train(options: argparse.Namespace, expert: str, seed: int) -> None:
    from components.contracts import LABELS, LEARNABLE, TRAINING_SET, read_catalog, read_chosen, read_table
    from components.experts.training.inputs import Assignment, TrainingTables
    from components.experts.training.train import train_expert
    from pipelines.config import load_config
    from pipelines.leaves import resolve_leaf

    config = load_config(Path(options.config), options.set)
    leaf = resolve_leaf(f"{expert}/{config.market.period}/base", config)
    folder = Path(options.out) / f"{expert}_{seed}"
    started, used = time.perf_counter(), time.process_time()
    tables = TrainingTables(
        read_table(_table(options.tables, "make-training-set", "training_set"), TRAINING_SET),
        read_table(_table(options.tables, "make-labels", "labels"), LABELS),
        read_catalog(_table(options.tables, "build-features", "catalog")),
        chosen=read_chosen(options.selection) if options.selection else None,
        learnable=read_table(options.learnable, LEARNABLE) if options.learnable else None,
    )
    labels = config.labels
    assignment = Assignment(
        leaf, config.timeline, config.market.period, labels.primary_horizon, labels.target, seed
    )
    trained = train_expert(tables, assignment, folder / "work", until="test")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    trained.predictions.write_parquet(folder / "predictions.parquet")
    shutil.copytree(trained.model_folder, folder / "model", dirs_exist_ok=True)
    fits = [fit.seconds for fit in trained.status.folds]
    status = {
        "seconds": seconds,
        "cpu": cpu,
        "fits": fits,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "inputs": trained.status.inputs,
    }
    (folder / "status.json").write_text(
        json.dumps({**status, "inference_us": _inference_us(options, trained.model_folder, config)})
    )
    print(
        f"{expert}, seed {seed}: {seconds:.0f} s, {cpu:.0f} s of CPU, {status['peak_gib']:.1f} GiB",
        flush=True,
    )


def _inference_us(options: argparse.Namespace, model: Path, config) -> float:
    """Microseconds a row of the served form, over 500 made-up rows as one bar, two threads, best of five."""
    from components.contracts import REGIMES
    from components.experts.leaves import Leaf, expert_module
    from components.scoring.expert import ServedExpert
    from components.scoring.model import one_hot

    manifest = json.loads((model / "manifest.json").read_text())
    module = expert_module(Leaf.model_validate(manifest["leaf"]))
    copy = model.parent / "served"
    shutil.copytree(model, copy, dirs_exist_ok=True)
    module.Expert.load(copy).export(copy)
    served = ServedExpert(copy, threads=2)
    random = np.random.default_rng(0)
    rows, width, lookback = 500, len(served.form.columns), max(served.form.lookback_bars, 1)
    window = random.uniform(-0.5, 0.5, (rows, lookback, width)).astype(np.float32)
    regime, volatility, codes = (
        one_hot(random.integers(0, len(REGIMES), rows).astype(np.float32)),
        np.full(rows, 0.02),
        np.full((rows, 2), np.nan, dtype=np.float32),
    )
    times = []
    for _ in range(5):
        started = time.perf_counter()
        served(window[:, -1], window, regime, volatility, codes)
        times.append(time.perf_counter() - started)
    return min(times) / rows * 1e6


def _summary(options: argparse.Namespace, out: Path, labels: pl.DataFrame, window: str) -> str:
    from components.experts.studies.judging import daily_ic
    from components.metrics import coverage, ic_summary, t_value
    from pipelines.config import load_config

    config = load_config(Path(options.config), options.set)
    horizon, dates = config.labels.primary_horizon, getattr(config.timeline, window)
    wanted = (
        labels.filter(pl.col("horizon") == horizon)
        .select("timestamp", "symbol", pl.col(config.labels.target).alias("label"))
        .drop_nulls()
    )
    inside = pl.col("timestamp").dt.date().is_between(dates.start, dates.end)
    series, lines = {}, []
    for expert in options.experts:
        found = []
        for seed in options.seeds:
            predictions = pl.read_parquet(out / f"{expert}_{seed}" / "predictions.parquet").filter(inside)
            ic, rank = (
                ic_summary(daily_ic(predictions, wanted, rank=r)["ic"], horizon=horizon)
                for r in (False, True)
            )
            daily = daily_ic(predictions, wanted).rename({"ic": "value"})
            series.setdefault(expert, []).append(daily)
            band = coverage(
                predictions.join(wanted, on=["timestamp", "symbol"]).select("label", "p10", "p50", "p90")
            )
            status = json.loads((out / f"{expert}_{seed}" / "status.json").read_text())
            found.append(
                [
                    ic["mean"],
                    rank["mean"],
                    rank["icir"],
                    rank["t_hac"],
                    band["inside_p10_p90"],
                    sum(status["fits"]),
                    status["inference_us"],
                    status["peak_gib"],
                ]
            )
        mean, low, high = np.mean(found, axis=0), np.min(found, axis=0), np.max(found, axis=0)
        lines.append((expert, mean, low, high))
    first = _mean_by_day(series[options.experts[0]])
    text = (
        f"{'expert':14} {'IC':>24} {'RankIC':>24} {'ICIR':>8} {'t':>6} {'inside 80 % band':>17}"
        f" {'train s':>8} {'us a row':>9} {'GiB':>5}   RankIC against {options.experts[0]} (t)\n"
    )
    for expert, mean, low, high in lines:
        both = _mean_by_day(series[expert]).join(first, on="timestamp", suffix="_first")
        gap = (both["value"] - both["value_first"]).drop_nulls().drop_nans().to_numpy()
        t = t_value(gap, horizon=horizon)
        spread = [f"{mean[i]:+.4f} [{low[i]:+.4f}, {high[i]:+.4f}]" for i in (0, 1)]
        rest = f"{mean[2]:8.3f} {mean[3]:6.2f} {mean[4]:17.3f} {mean[5]:8.0f} {mean[6]:9.1f} {high[7]:5.1f}"
        text += f"{expert:14} {spread[0]:>24} {spread[1]:>24} {rest}   {gap.mean():+.4f} ({t:+.1f})\n"
    return text


def _mean_by_day(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).group_by("timestamp").agg(pl.col("value").mean()).sort("timestamp")


if __name__ == "__main__":
    main()
