"""How much of what a simulated market holds is found: the share of the attainable IC that each expert, equal
weights, the stack and an afternoon's baseline (`bench_afternoon.py`) reach on the same rows of the test
window, over markets of several seeds, and how far the stack is from the baseline.

    python -m tests.benchmarks.bench_planted --strengths 0.08 0.15 --seeds 10 --output runs/planted.jsonl
    python -m tests.benchmarks.bench_planted --variants now "early stopping only" --output runs/planted.jsonl

The market is that of `pipelines/configs/demo.yaml`, without its change; networks are left out unless
`--leaves` names them. Each variant trains anew, with its settings over those of the leaves. What was finished
is kept in the output file, so a bench that was stopped goes on.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import REGIME_COLUMN, SECTOR_COLUMN, VOLATILITY_COLUMN, target_labels
from components.experts.leaves import load_leaf
from components.experts.training.frames import LabelledRows
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.features.build import build_factors
from components.features.catalog import catalog
from components.labels.build import build_labels
from components.market.load import load_panel
from components.market.simulator import simulate
from components.metrics import information_coefficient
from components.stacking.combine import stack_experts
from components.stacking.oof import build_oof_table
from components.timeline import bar_index, resolve_windows, walk_forward
from components.validation.validate import validate_panel
from pipelines.config import LEAVES, Config, load_config
from tests.benchmarks.bench_afternoon import KEY, baseline_scores, classic_factors

CONFIG = "pipelines/configs/demo.yaml"
NAMES = ("elasticnet", "xgboost", "lightgbm")
TREES = ("xgboost", "lightgbm")
# By name: settings that stand over those of an expert's leaf.
VARIANTS: dict[str, dict[str, dict]] = {
    "now": {},
    "early stopping only": {
        "elasticnet": {"refit": False, "penalty_from": "newest_rows"},
        **{name: {"refit": False} for name in TREES},
    },
    "smaller steps": {
        "lightgbm": {"learning_rate": 0.01, "rounds": 1000, "patience_rounds": 100, "fewest_rounds": 75},
        "xgboost": {"learning_rate": 0.02, "rounds": 600, "patience_rounds": 80, "fewest_rounds": 60},
    },
    "three seeds": {name: {"ensemble": 3} for name in TREES},
}


@dataclass(frozen=True)
class Market:
    """One simulated market: what experts learn from, its panel, and what can be expected at each row."""

    tables: TrainingTables
    panel: pl.DataFrame
    truth: pl.DataFrame


def make_market(config: Config, seed: int) -> Market:
    """Panel, factors, labels and the truth of a seed."""
    made = simulate(config.market, seed)
    loaded = load_panel(config.market, data_folder=Path("data"), seed=seed)
    panel = validate_panel(loaded.panel, config.validation).panel
    factors, labels = build_factors(panel, config.features), build_labels(panel, config.labels)
    entries = catalog(config.features, config.market.period)
    inputs = [entry.column for entry in entries if entry.role == "input"]
    context = [name for name in (REGIME_COLUMN, VOLATILITY_COLUMN, SECTOR_COLUMN) if name not in inputs]
    rows = factors.join(panel.select(*KEY, "sector"), on=KEY)
    rows = rows.select(*KEY, "sector", *inputs, *context)
    expected = made.truth.select(*KEY, pl.col("expected_return_5").alias("score"))
    return Market(TrainingTables(rows, labels, entries), panel, expected)


def baseline(market: Market, config: Config) -> pl.DataFrame:
    """Scores of the afternoon's baseline in the folds of the run."""
    horizon, target = config.labels.primary_horizon, config.labels.target
    factors = classic_factors(market.panel)
    rows = market.tables.training_set.select(KEY)
    table = rows.join(factors, on=KEY, how="left", maintain_order="left")
    labels = target_labels(market.tables.labels, horizon, target)
    table = table.join(labels, on=KEY, how="left", maintain_order="left")
    calendar, bars = bar_index(table["timestamp"])
    windows = resolve_windows(calendar, config.timeline)
    longest = int(market.tables.labels["horizon"].max())
    folds = [f for f in walk_forward(windows, config.timeline, longest_horizon=longest) if len(f.predict)]
    names = [name for name in factors.columns if name not in KEY]
    return baseline_scores(LabelledRows(table, calendar, bars, windows.test[1]), folds, names)


def trained(market: Market, config: Config, leaves: list[str], variant: str, seed: int) -> pl.DataFrame:
    """Predictions of all experts and of the stack over them: `expert`, KEY, `score`."""
    horizon, target = config.labels.primary_horizon, config.labels.target
    found = {}
    for name in leaves:
        overrides = dict(config.experts.overrides.get(name, {})) | VARIANTS[variant].get(name, {})
        leaf = load_leaf(LEAVES / name / config.market.period / "base.yaml", {name: overrides})
        leaf = leaf.model_copy(update={"transform": config.labels.transform})
        assignment = Assignment(leaf, config.timeline, config.market.period, horizon, target, seed)
        with tempfile.TemporaryDirectory() as folder:
            found[name] = train_expert(market.tables, assignment, Path(folder), until="test").predictions
    labels = market.tables.labels.filter(pl.col("horizon") == horizon)
    oof = build_oof_table(found, labels, market.tables.training_set)
    calendar, _ = bar_index(market.tables.training_set["timestamp"])
    stacked = stack_experts(
        oof,
        pl.concat(found.values()),
        config.stacking,
        resolve_windows(calendar, config.timeline),
        calendar,
        embargo_bars=config.timeline.embargo(horizon),
        seed=seed,
    )
    return stacked.predictions.select("expert", *KEY, "score")


def shares(models: pl.DataFrame, market: Market, config: Config) -> tuple[dict[str, float], float]:
    """Mean IC of each model on the test window over that of the market's own expectation, same rows; and the
    latter.
    """
    labels = target_labels(market.tables.labels, config.labels.primary_horizon, config.labels.target)
    labels = labels.select(*KEY, "label").drop_nulls()
    calendar, _ = bar_index(market.tables.training_set["timestamp"])
    start = calendar[resolve_windows(calendar, config.timeline).test[0]]
    found, attainable = {}, float("nan")
    for (name,), frame in models.filter(pl.col("timestamp") >= start).group_by("expert", maintain_order=True):
        own = information_coefficient(frame.select(*KEY, "score"), labels)["ic"].mean()
        best = market.truth.join(frame.select(KEY), on=KEY, how="semi")
        attainable = float(information_coefficient(best, labels)["ic"].mean())
        found[name] = own / attainable
    return found, attainable


def show(done: list[dict], strength: float, variant: str) -> None:
    """Share of each model over seeds, and the paired difference from the baseline."""
    mine = [one for one in done if (one["strength"], one["variant"]) == (strength, variant)]
    if not mine:
        return
    print(f"\nplanted IC {strength:g}, {variant}: {len(mine)} markets")
    # A market in which chance left little to find counts less: what is shown is the ratio of the mean ICs.
    weight = np.array([one["attainable"] for one in mine])
    weight /= weight.mean()
    for name in mine[0]["shares"]:
        values = np.array([one["shares"][name] for one in mine]) * weight
        gaps = values - np.array([one["shares"]["afternoon"] for one in mine]) * weight
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        t = f"{gaps.mean() / error:+5.1f}" if error > 0 else "    -"
        print(
            f"  {name:22} {values.mean():6.1%}, markets {(values / weight).min():.0%} to"
            f" {(values / weight).max():.0%}, against the baseline {gaps.mean():+6.1%}, t {t}"
        )


def main() -> None:
    """Do what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strengths", nargs="+", type=float, default=[0.08, 0.15])
    parser.add_argument("--seeds", type=int, default=10, help="markets of each strength")
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--symbols", type=int, default=60)
    parser.add_argument("--bars", type=int, default=1000)
    parser.add_argument("--leaves", nargs="+", default=list(NAMES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["now"])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    done = []
    if options.output.exists():
        done = [json.loads(line) for line in options.output.read_text().splitlines()]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for strength in options.strengths:
            done += _one_market(options, strength, seed, done)
    for strength in options.strengths:
        for variant in options.variants:
            show(done, strength, variant)


def _one_market(options: argparse.Namespace, strength: float, seed: int, done: list[dict]) -> list[dict]:
    """The variants of a market that are not done yet; each is written as soon as it is."""
    have = {one["variant"] for one in done if (one["strength"], one["seed"]) == (strength, seed)}
    missing = [name for name in options.variants if name not in have]
    if not missing:
        return []
    size = [f"market.simulator.symbols={options.symbols}", f"market.simulator.bars={options.bars}"]
    whole = ["market.end=null", "market.simulator.change=null", f"market.planted_ic={strength}"]
    config = load_config(CONFIG, [*size, *whole, "timeline.fold_bars=175", *options.set])
    market = make_market(config, seed)
    afternoon = baseline(market, config).select(pl.lit("afternoon").alias("expert"), *KEY, "score")
    found = []
    for variant in missing:
        started = time.process_time()
        models = trained(market, config, options.leaves, variant, seed)
        seconds = time.process_time() - started
        both = pl.concat([models, afternoon.join(models.select(KEY).unique(), on=KEY, how="semi")])
        one = {"strength": strength, "seed": seed, "variant": variant, "seconds": seconds}
        reached, attainable = shares(both, market, config)
        found.append(one | {"shares": reached, "attainable": attainable})
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("a") as handle:
            handle.write(json.dumps(found[-1]) + "\n")
        print(strength, seed, variant, f"{seconds:.0f} s", found[-1]["shares"], flush=True)
    return found


if __name__ == "__main__":
    main()
