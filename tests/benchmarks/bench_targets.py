"""What of a target is learned, and how many trees: variants of linear models and trees side by side on the
validation folds, never on the test window.

On the tables of a finished run (`--tables` is its artifacts folder), or on simulated markets (`--markets`).
Each variant is compared with the first of its expert by the RankIC of each bar: mean difference and its t,
overlapping labels accounted for; over simulated markets by the mean over markets and its standard error.
What was finished is kept in the output file, so a run that was stopped goes on.

    python -m tests.benchmarks.bench_targets --config pipelines/configs/crypto_daily.yaml --tables FOLDER \
        --output runs/targets_crypto.jsonl
    python -m tests.benchmarks.bench_targets --config pipelines/configs/demo.yaml --markets 10 \
        --set market.planted_ic=0.08 --output runs/targets_simulated.jsonl
"""

import argparse
import json
import math
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import (
    LABELS,
    REGIME_COLUMN,
    TRAINING_SET,
    VOLATILITY_COLUMN,
    read_catalog,
    read_chosen,
    read_table,
    target_labels,
)
from components.experts.leaves import load_leaf, merged
from components.experts.studies.judging import daily_ic
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.features.build import build_factors
from components.features.catalog import catalog
from components.labels.build import build_labels
from components.market.load import load_panel
from components.metrics import t_value
from components.scoring.moments import TargetTransform
from components.timeline import bar_index, resolve_windows
from components.validation.validate import validate_panel
from pipelines.config import LEAVES, Config, load_config

# By name: the expert, what is learned, and settings that stand over those of its leaf.
Variants = Mapping[str, tuple[str, TargetTransform, Mapping[str, Any]]]
VARIANTS: Variants = {
    "linear zscore": ("elasticnet", "zscore", {}),
    "linear rank_gaussian": ("elasticnet", "rank_gaussian", {}),
    "ridge zscore": ("elasticnet", "zscore", {"l1_ratio": 0.01}),
    "ridge rank_gaussian": ("elasticnet", "rank_gaussian", {"l1_ratio": 0.01}),
    "lightgbm zscore": ("lightgbm", "zscore", {}),
    "lightgbm rank_gaussian": ("lightgbm", "rank_gaussian", {}),
    "lightgbm fixed 200": ("lightgbm", "zscore", {"rounds": 200, "patience_rounds": 0}),
    "lightgbm purged folds": ("lightgbm", "zscore", {"rounds_from": "purged_folds"}),
    "lightgbm rank, fixed 200": ("lightgbm", "rank_gaussian", {"rounds": 200, "patience_rounds": 0}),
    "lightgbm rank, purged folds": ("lightgbm", "rank_gaussian", {"rounds_from": "purged_folds"}),
    "xgboost zscore": ("xgboost", "zscore", {}),
    "xgboost rank_gaussian": ("xgboost", "rank_gaussian", {}),
    "xgboost fixed 120": ("xgboost", "zscore", {"rounds": 120, "patience_rounds": 0}),
    "xgboost purged folds": ("xgboost", "zscore", {"rounds_from": "purged_folds"}),
    "xgboost rank, purged folds": ("xgboost", "rank_gaussian", {"rounds_from": "purged_folds"}),
}


def main(variants: Variants = VARIANTS, about: str | None = __doc__) -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--markets", type=int, default=0)
    parser.add_argument("--symbols", type=int, help="so many symbols, the same ones each time")
    parser.add_argument("--variants", nargs="+", choices=variants, default=list(variants))
    parser.add_argument("--seeds", nargs="+", type=int, default=[7])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    config = load_config(options.config, options.set)
    done = _read(options.output)
    for market in range(max(options.markets, 1)):
        tables = None
        for seed in options.seeds:
            for name in options.variants:
                if any((one["market"], one["seed"], one["variant"]) == (market, seed, name) for one in done):
                    continue
                key = {"market": market, "seed": seed, "variant": name}
                found = _twin(done, key, variants)
                if found is None:
                    tables = tables or _tables(config, options, market)
                    found = {**_tried(config, tables, variants[name], seed, options.threads), **key}
                done.append(found)
                with options.output.open("a") as handle:
                    handle.write(json.dumps(found) + "\n")
                print(f"{market} {seed} {name}: {found['rank_ic']:+.4f} {found['trees']}", flush=True)
    print(_summary(done, options, config.labels.primary_horizon))


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _twin(done: list[dict], key: dict, variants: Variants) -> dict | None:
    """What was found of the same thing under another name."""
    own = variants[key["variant"]]
    for one in done:
        same = (one["market"], one["seed"]) == (key["market"], key["seed"])
        if same and variants.get(one["variant"]) == own:
            return {**one, **key}
    return None


def _tables(config: Config, options: argparse.Namespace, market: int) -> TrainingTables:
    tables = _simulated(config, market) if options.markets else _of_run(options.tables)
    calendar, _ = bar_index(tables.training_set["timestamp"])
    begins = calendar[resolve_windows(calendar, config.timeline).test[0]]
    # Nothing of the test window is in memory.
    known = pl.col("label_end").is_null() | (pl.col("label_end") < begins)
    kept = replace(tables, labels=tables.labels.filter(known & (pl.col("timestamp") < begins)))
    if options.symbols:
        names = sorted(tables.training_set["symbol"].unique(), key=lambda name: zlib.crc32(name.encode()))
        mine = pl.col("symbol").is_in(names[: options.symbols])
        kept = replace(kept, training_set=kept.training_set.filter(mine), labels=kept.labels.filter(mine))
    return kept


def _of_run(folder: Path) -> TrainingTables:
    chosen = next(iter(sorted(folder.glob("select-factors*/selection"))), None)
    return TrainingTables(
        read_table(folder / "make-training-set" / "training_set", TRAINING_SET),
        read_table(folder / "make-labels" / "labels", LABELS),
        read_catalog(folder / "build-features" / "catalog"),
        chosen=read_chosen(chosen) if chosen else None,
    )


def _simulated(config: Config, seed: int) -> TrainingTables:
    market = load_panel(config.market, data_folder=Path("data"), seed=seed)
    panel = validate_panel(market.panel, config.validation).panel
    factors, labels = build_factors(panel, config.features), build_labels(panel, config.labels)
    entries = catalog(config.features, config.market.period)
    inputs = [entry.column for entry in entries if entry.role == "input"]
    rows = factors.join(panel.select("timestamp", "symbol", "sector"), on=["timestamp", "symbol"])
    context = [name for name in (REGIME_COLUMN, VOLATILITY_COLUMN) if name not in inputs]
    return TrainingTables(rows.select("timestamp", "symbol", "sector", *inputs, *context), labels, entries)


def _tried(
    config: Config,
    tables: TrainingTables,
    variant: tuple[str, TargetTransform, Mapping[str, Any]],
    seed: int,
    threads: int,
) -> dict:
    """Figures and daily RankIC of one variant on the validation folds."""
    expert, transform, settings = variant
    leaf = load_leaf(LEAVES / expert / config.market.period / "base.yaml")
    own = {"transform": transform, "threads": threads, "settings": merged(leaf.settings, settings)}
    leaf = leaf.model_copy(update=own)
    horizon, target = config.labels.primary_horizon, config.labels.target
    assignment = Assignment(leaf, config.timeline, config.market.period, horizon, target, seed)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trained = train_expert(tables, assignment, Path(folder), until="validation")
        seconds = time.process_time() - started
        trees = [_trees(model) for model in sorted(Path(folder).glob("*/model"))]
    wanted = target_labels(tables.labels, horizon, target).select("timestamp", "symbol", "label").drop_nulls()
    daily = daily_ic(trained.predictions, wanted)
    judged = trained.predictions.join(wanted, on=["timestamp", "symbol"])
    return {
        "rank_ic": daily["ic"].mean(),
        "ic": daily_ic(trained.predictions, wanted, rank=False)["ic"].mean(),
        "inside": judged.select(pl.col("label").is_between("p10", "p90").mean()).item(),
        "seconds": seconds,
        "trees": trees,
        "days": daily["timestamp"].dt.epoch("s").to_list(),
        "daily": daily["ic"].to_list(),
    }


def _trees(model: Path) -> int:
    """Trees of a saved forest; 0 for a linear model."""
    if (model / "lightgbm.txt").exists():
        return (model / "lightgbm.txt").read_text().count("\nTree=")
    if (model / "xgboost.ubj").exists():
        import xgboost

        return xgboost.Booster(model_file=model / "xgboost.ubj").num_boosted_rounds()
    return 0


def _summary(done: list[dict], options: argparse.Namespace, horizon: int) -> str:
    heads = ("RankIC", "IC", "inside", "CPU s")
    text = f"{'variant':28}" + "".join(f"{head:>9}" for head in heads)
    text += "   trees; against the first of its expert\n"
    first: dict[str, list[dict]] = {}
    for name in options.variants:
        mine = sorted(
            (one for one in done if one["variant"] == name), key=lambda one: (one["market"], one["seed"])
        )
        base = first.setdefault(name.split()[0], mine)
        mean = {key: np.mean([one[key] for one in mine]) for key in ("rank_ic", "ic", "inside", "seconds")}
        gaps = [_gap(one, other, horizon) for one, other in zip(mine, base, strict=True)]
        gap = np.mean([gap for gap, _ in gaps])
        if options.markets > 1:
            values = np.array([gap for gap, _ in gaps])
            t = gap / (values.std(ddof=1) / math.sqrt(len(values))) if values.std() else 0.0
        else:
            t = np.mean([t for _, t in gaps])
        trees = np.concatenate([one["trees"] for one in mine])
        figures = f"{mean['rank_ic']:+9.4f}{mean['ic']:+9.4f}{mean['inside']:9.3f}{mean['seconds']:9.1f}"
        forest = f"{np.median(trees):.0f} [{trees.min()}, {trees.max()}]"
        text += f"{name:28}{figures}   {forest}; {gap:+.4f} (t {t:+.1f})\n"
    return text


def _gap(one: dict, other: dict, horizon: int) -> tuple[float, float]:
    """Mean difference of the daily RankIC and its t value."""
    tables = (pl.DataFrame({"day": each["days"], "ic": each["daily"]}) for each in (one, other))
    mine, base = tables
    both = mine.join(base, on="day", suffix="_base")
    gap = (both["ic"] - both["ic_base"]).to_numpy()
    t = t_value(gap, horizon=horizon) if gap.any() else 0.0
    return float(gap.mean()), math.nan if t is None else float(t)


if __name__ == "__main__":
    main()
