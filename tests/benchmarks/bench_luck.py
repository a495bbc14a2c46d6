"""How often the gates approve luck, and how much of planted alpha the stack recovers, over seeds of the
simulator.

Every seed goes through the stages' own functions, from simulated bars to the verdict, with all experts of a
config; validation, Feast, MLflow and the report, which change no number, are left out (an end-to-end test
holds that the training set from Feast equals the factor table). Seeds that were finished are kept in the
output file, so a run that was stopped goes on.

    python -m tests.benchmarks.bench_luck --planted-ic 0 --seeds 20
    python -m tests.benchmarks.bench_luck --planted-ic 0.08 0.15 --seeds 10

The share of the attainable IC is the sum of a model's IC over the seeds by that of the simulator's own
expectation on the same test windows.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import polars as pl

from components.backtest.evaluate import evaluate
from components.backtest.market_facts import MarketFacts
from components.backtest.predictions import Task, split_predictions
from components.contracts import ALL_PREDICTIONS, PREDICTIONS, REGIME_COLUMN, VOLATILITY_COLUMN
from components.contracts.documents.trials import Trials
from components.experts.training.inputs import Assignment, TrainingTables
from components.experts.training.train import train_expert
from components.features.build import build_factors
from components.features.catalog import catalog
from components.gates.judge import judge
from components.gates.promotion import Contest
from components.labels.build import build_labels
from components.market.load import load_panel
from components.market.universe import tradable_universe
from components.metrics import ic_summary, information_coefficient
from components.registry.scored import scored_models
from components.stacking.combine import stack_experts
from components.stacking.oof import build_oof_table
from components.timeline import resolve_windows
from components.validation.validate import validate_panel
from pipelines.config import Config, load_config
from pipelines.leaves import resolve_leaf


def run_seed(config: Config, seed: int) -> dict:
    """Verdict and figures of one simulated market."""
    start = time.monotonic()
    market = load_panel(config.market, data_folder=Path("data"), seed=seed)
    panel = validate_panel(market.panel, config.validation).panel
    factors, labels = build_factors(panel, config.features), build_labels(panel, config.labels)
    entries = catalog(config.features, config.market.period)
    inputs = [entry.column for entry in entries if entry.role == "input"]
    rows = factors.join(panel.select("timestamp", "symbol", "sector"), on=["timestamp", "symbol"])
    training_set = rows.select(
        "timestamp",
        "symbol",
        "sector",
        *inputs,
        *(c for c in (REGIME_COLUMN, VOLATILITY_COLUMN) if c not in inputs),
    )
    horizon, target = config.labels.primary_horizon, config.labels.target
    experts = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in config.experts.leaves:
            leaf = resolve_leaf(name, config)
            trained = train_expert(
                TrainingTables(training_set, labels, entries),
                Assignment(leaf, config.timeline, config.market.period, horizon, target, seed),
                Path(scratch) / leaf.expert,
            )
            experts[leaf.expert] = trained.predictions.select(PREDICTIONS.columns.keys())
    calendar = training_set["timestamp"].unique().sort()
    windows = resolve_windows(calendar, config.timeline)
    oof = build_oof_table(experts, labels, training_set)
    together = pl.concat(experts.values()).sort(ALL_PREDICTIONS.key)
    stacked = stack_experts(
        oof,
        together,
        config.stacking,
        windows,
        calendar,
        embargo_bars=config.timeline.embargo(int(labels["horizon"].max())),
        seed=seed,
    )
    regimes = training_set.select("timestamp", "symbol", REGIME_COLUMN)
    task = Task(target, horizon)
    by_name = split_predictions(stacked.predictions, task, source="the stack").judged
    universe = tradable_universe(panel, config.market.universe)
    facts = MarketFacts(labels, panel, regimes, windows, calendar, universe)
    evaluation, returns = evaluate(by_name, facts, config.backtest, horizon=horizon, code="bench")
    trials = Trials(scored=(scored_models(evaluation, returns),), unseen=0)
    contest = Contest(evaluation, by_name["stack"], labels, None)
    verdict = judge(contest, trials, config.gates, code="bench")
    block = evaluation.experts["stack"].test
    attainable = _attainable(market.truth, labels, calendar[windows.test[0]], target, horizon)
    return {
        "seed": seed,
        "planted_ic": config.market.planted_ic,
        "approved": verdict.approved,
        "reason": verdict.reason,
        "ic": block.ic.mean,
        "rank_ic": block.rank_ic.mean,
        "t": block.ic.t_hac,
        "sharpe_net": block.portfolio.long_short.sharpe_net,
        "attainable_ic": attainable,
        "chosen": stacked.comparison.chosen,
        "experts": {
            name: part.test.ic.mean for name, part in evaluation.experts.items() if part.test is not None
        },
        "seconds": time.monotonic() - start,
    }


def _attainable(truth: pl.DataFrame, labels: pl.DataFrame, first_test, target: str, horizon: int) -> float:
    """IC of the simulator's own expectation on the test window."""
    scores = truth.filter(pl.col("timestamp") >= first_test).select(
        "timestamp", "symbol", pl.col("expected_return_5").alias("score")
    )
    known = labels.filter(pl.col("horizon") == horizon).select(
        "timestamp", "symbol", pl.col(target).cast(pl.Float64).alias("label")
    )
    return ic_summary(information_coefficient(scores, known)["ic"], horizon=horizon)["mean"]


def finished(path: Path) -> dict[int, dict]:
    """Seeds that are in the file already."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["seed"]: row for row in map(json.loads, lines)}


def print_shares(rows: list[dict]) -> None:
    """Approvals, and what part of the attainable IC each model recovers, best first."""
    approved = sum(row["approved"] for row in rows)
    print(f"approved {approved} of {len(rows)}; mean IC of the stack {_mean(rows, 'stack'):+.4f}")
    possible = sum(row["attainable_ic"] or 0 for row in rows) / len(rows)
    if possible <= 0:
        return
    names = {name for row in rows for name, ic in row["experts"].items() if ic is not None}
    print(f"share of the attainable IC recovered (mean attainable {possible:.4f}):")
    for name in sorted(names, key=lambda name: -_mean(rows, name)):
        shares = [(row["experts"].get(name) or 0) / row["attainable_ic"] for row in rows]
        print(f"  {name:20s} {_mean(rows, name) / possible:6.0%}, worst seed {min(shares):6.0%}")


def _mean(rows: list[dict], name: str) -> float:
    """Mean IC; a seed in which the model has none counts as 0."""
    return sum(row["experts"].get(name) or 0 for row in rows) / len(rows)


def main() -> None:
    """Run the missing seeds, then print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="pipelines/configs/demo.yaml")
    parser.add_argument("--planted-ic", type=float, nargs="+", default=[0.0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of the finished seeds")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for planted in arguments.planted_ic:
        path = arguments.output / f"luck_{planted:g}.jsonl"
        config = load_config(arguments.config, [f"market.planted_ic={planted}", *arguments.overrides])
        done = finished(path)
        print(f"planted IC {planted:g}")
        for seed in range(1, arguments.seeds + 1):
            if seed not in done:
                done[seed] = run_seed(config, seed)
                with path.open("a") as handle:
                    handle.write(json.dumps(done[seed]) + "\n")
            row = done[seed]
            print(
                f"seed {seed:3d}: IC {row['ic']:+.4f} t {row['t']:+.1f} Sharpe net {row['sharpe_net']:+.2f}"
                f" attainable {row['attainable_ic'] or 0:.4f}"
                f" {'APPROVED' if row['approved'] else 'rejected'} ({row['seconds']:.0f} s)",
                flush=True,
            )
        print_shares([done[seed] for seed in range(1, arguments.seeds + 1)])


if __name__ == "__main__":
    main()
