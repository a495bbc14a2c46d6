"""How often the gates of ticks approve luck, and how much of planted alpha each expert recovers, over seeds
of simulated order books.

Every seed goes through the stages' own functions, from simulated events to the verdict on each expert; the
leak audit, the report and the orchestrator, which change no number, are left out. Seeds that were finished
are kept in the output file, so a run that was stopped goes on.

    python -m tests.benchmarks.bench_tick_luck --set ticks.simulator.alpha.planted=0 --seeds 1-20
    python -m tests.benchmarks.bench_tick_luck --config pipelines/configs/ticks_demo.yaml --seeds 4-6

Without `--config` it is the small one of the tests, of `--minutes`, whose experts take seconds; on a busy
machine with OMP_WAIT_POLICY=PASSIVE in the environment, as tasks have it, or trees take minutes.

The share recovered is the rank correlation, over time within each symbol, of an expert's score with the mid's
return from the order's arrival on, over that of the best forecast there is. That one knows the planted state
and stands where the score does, without the order's way: so a share of 1 is out of reach.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import polars as pl

from components.contracts import LABELS, read_table
from components.contracts.documents.tick_replay import PartFigures, TickReplay
from components.contracts.documents.tick_truth import TRUTH, TickTruth
from components.experts.training.inputs import Assignment, Inputs
from components.experts.training.publish import publish_expert, train_on_tables
from components.gates import judge_ticks
from components.gather import run as gather
from components.stacking.run import OofInputs, OofOutputs, run_build_oof
from components.tick_features import run as features
from components.tick_labels import run as labels
from components.tick_labels.training_set import run_make_training_set
from components.tick_replay import run as replay
from components.ticks.run import IngestOutputs, ValidateOutputs, run_ingest, run_validate
from pipelines.config import Config, learning_config, load_config, section_json
from pipelines.leaves import resolve_leaves
from tests.pipelines.tick_run import write_config

CODE = "bench"
POLICY, LATENCY = "taker", "measured"


def run_seed(config: Config, seed: int, folder: Path) -> dict:
    """Verdicts and figures of one simulated market; `folder` is empty and may be thrown away."""
    started, cpu = time.monotonic(), time.process_time()
    make_samples(config, seed, folder)
    train(config, seed, folder)
    found = replayed(config, seed, folder)
    return {
        "seed": seed,
        "planted": config.ticks.simulator.alpha.planted,
        "attainable": attainable(config, folder),
        "experts": {
            expert: {
                "approved": judged(config, expert, folder),
                "rank_correlation": correlation,
                **money(found.strategy(expert, POLICY, LATENCY, where="found").whole),
            }
            for expert, correlation in rank_correlations(config, folder).items()
        },
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
    }


def make_samples(config: Config, seed: int, folder: Path) -> None:
    """From simulated events to the training set and its labels."""
    ticks = section_json(config.ticks)
    run_ingest(IngestOutputs(folder / "raw", folder / "read.json"), settings=ticks, seed=seed, code=CODE)
    names = ("ticks", "delays", "quarantine", "quality.json", "quality.html", "work")
    places = (folder / name for name in names)
    run_validate(folder / "raw", ValidateOutputs(*places), settings=ticks, code=CODE)
    features.run(
        features.Inputs(folder / "ticks"),
        features.Outputs(folder / "features", folder / "catalog", folder / "work_features"),
        settings=section_json(config.tick_features),
        code=CODE,
    )
    labels.run(
        labels.Inputs(folder / "ticks", folder / "features", folder / "delays"),
        labels.Outputs(folder / "labels", folder / "work_labels"),
        settings=section_json(config.tick_labels),
        code=CODE,
    )
    run_make_training_set(folder / "features", folder / "training_set", code=CODE)


def train(config: Config, seed: int, folder: Path) -> None:
    """Every expert of the config, and what they predict in one table."""
    learning, experts = learning_config(config), {}
    task = (learning.market.period, learning.labels.primary_horizon, learning.labels.target, seed, CODE)
    inputs = Inputs(*(folder / name for name in ("training_set", "labels", "catalog")))
    for leaf in resolve_leaves(config):
        assignment, work = Assignment(leaf, config.timeline, *task), folder / "work" / leaf.expert
        experts[leaf.expert] = folder / "trained" / leaf.expert
        publish_expert(experts[leaf.expert], train_on_tables(inputs, assignment, work), assignment, work)
    gather.run([*experts], [*experts.values()], folder / "experts", what="experts")
    run_build_oof(
        OofInputs(
            folder / "labels",
            folder / "training_set",
            folder / "experts",
            learning.labels.target,
            learning.labels.primary_horizon,
        ),
        OofOutputs(folder / "oof", folder / "predictions", folder / "oof_audit.json"),
        settings=section_json(config.stacking),
        code=CODE,
    )


def replayed(config: Config, seed: int, folder: Path) -> TickReplay:
    """What the experts could have earned."""
    names = ("ticks", "predictions", "labels", "features", "delays")
    return replay.run(
        replay.Inputs(*(folder / name for name in names)),
        replay.Outputs(folder / "fills", folder / "curve", folder / "found.json", folder / "work_replay"),
        settings=section_json(config.tick_replay),
        target=config.tick_labels.target,
        horizon=config.tick_labels.primary_horizon,
        seed=seed,
        code=CODE,
    )


def judged(config: Config, expert: str, folder: Path) -> bool:
    """Whether the gates approve this expert; the baseline is not held against itself."""
    baselines = {name: least for name, least in config.tick_gates.baselines.items() if name != expert}
    asked = {"candidate": expert, "policy": POLICY, "latency": LATENCY, "baselines": baselines}
    gates = config.tick_gates.model_copy(update=asked)
    names = ("found.json", "curve", "predictions", "labels")
    inputs = judge_ticks.Inputs(*(str(folder / name) for name in names))
    verdict = folder / f"verdict_{expert}.json"
    return judge_ticks.run(inputs, str(verdict), settings=gates.model_dump_json(), code=CODE).approved


def money(whole: PartFigures) -> dict[str, float | None]:
    """Profits in quote currency: at once and free of costs; late, before costs; after the spread; after
    fees.
    """
    kinds = ("paper", "at_mid", "gross", "net")
    return {**{kind: getattr(whole, kind).total for kind in kinds}, "trades": whole.trades}


def rank_correlations(config: Config, folder: Path) -> dict[str, float]:
    """Of score and return by expert, the mean over symbols."""
    horizon = config.tick_labels.primary_horizon
    came = read_table(folder / "labels", LABELS).filter(pl.col("horizon") == horizon)
    came = came.select("timestamp", "symbol", "log_return").drop_nulls()
    said = pl.read_parquet(folder / "predictions").filter(pl.col("horizon") == horizon)
    both = said.join(came, on=["timestamp", "symbol"]).group_by("expert", "symbol", maintain_order=True)
    each = both.agg(pl.corr("score", "log_return", method="spearman").alias("found"))
    return dict(each.group_by("expert").agg(pl.col("found").fill_nan(0.0).mean()).sort("expert").rows())


def attainable(config: Config, folder: Path) -> float | None:
    """Rank correlation of the best forecast at the primary horizon; None where nothing is planted."""
    truth, wanted = TickTruth.read(folder / "raw" / TRUTH), config.tick_labels.primary_horizon_ms
    at_horizon = {one.horizon_ms: one.rank_correlation for one in truth.attainable}
    return at_horizon[wanted] or None


def print_seed(row: dict) -> None:
    best = row["attainable"]
    for expert, found in row["experts"].items():
        share = f" {found['rank_correlation'] / best:5.0%} of {best:.3f}" if best else ""
        profits = " ".join(f"{kind} {found[kind] or 0:8.0f}" for kind in ("paper", "at_mid", "gross", "net"))
        verdict = "APPROVED" if found["approved"] else "rejected"
        print(
            f"seed {row['seed']:3d} {expert:16s} {found['rank_correlation']:+.3f}{share} {profits}"
            f" {found['trades']:6d} trades {verdict}",
            flush=True,
        )


def print_together(rows: list[dict]) -> None:
    """Over the seeds: approvals, mean profits with their standard errors, mean share of the attainable."""
    for expert in rows[0]["experts"]:
        table = pl.DataFrame([row["experts"][expert] for row in rows])
        error = len(table) ** 0.5
        told = (
            f"{kind} {table[kind].mean():.0f} +- {(table[kind].std() or 0) / error:.0f}"
            for kind in ("paper", "at_mid", "gross", "net")
        )
        shares = [
            row["experts"][expert]["rank_correlation"] / row["attainable"]
            for row in rows
            if row["attainable"]
        ]
        recovered = f"; {sum(shares) / len(shares):.0%} of the attainable" if shares else ""
        print(f"{expert}: approved {table['approved'].sum()} of {len(table)}; {', '.join(told)}{recovered}")


def seeds_of(text: str) -> range:
    """`4-6` as 4, 5, 6."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Run the missing seeds, then print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of a session, without --config")
    parser.add_argument("--seeds", type=seeds_of, default=range(1, 21), help="such as 1-20")
    parser.add_argument("--output", type=Path, default=Path("runs/tick_luck.jsonl"), help="finished seeds")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    lines = given.output.read_text().splitlines() if given.output.exists() else []
    done = {row["seed"]: row for row in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as scratch:
        path = given.config or write_config(
            Path(scratch) / "small.yaml",
            Path(scratch) / "run",
            ticks={"simulator": {"symbols": 2, "session_minutes": given.minutes}},
        )
        config = load_config(path, given.overrides)
    for seed in given.seeds:
        if seed not in done:
            with tempfile.TemporaryDirectory() as scratch:
                done[seed] = run_seed(config, seed, Path(scratch))
            with given.output.open("a") as handle:
                handle.write(json.dumps(done[seed]) + "\n")
        print_seed(done[seed])
    print_together([done[seed] for seed in given.seeds])


if __name__ == "__main__":
    main()
