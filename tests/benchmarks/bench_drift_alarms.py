"""How often drift is called where there is none, and how often planted drift is found and named, over seeds
of the simulator.

Each seed is a market of the demo's size: 60 symbols, 750 bars, stationary. The reference is made of the first
two thirds, current are the newest 60 bars, and once more the newest 60 of the reference itself. Scores are a
fixed mix of three factors. Two thirds of the columns are ranks within a bar, whose mean and spread are the
same in every bar by construction; the others depend over time, and drift in them is harder to tell from
chance.

    python -m tests.benchmarks.bench_drift_alarms --first 101 --seeds 20
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from components.contracts import REGIME_COLUMN, VOLATILITY_COLUMN, CatalogEntry
from components.drift.config import Settings
from components.drift.detect import detect
from components.drift.reference import make_reference
from components.features.build import build_factors
from components.features.catalog import catalog
from components.labels.build import build_labels
from components.market.load import load_panel
from components.timeline import Settings as TimelineSettings
from components.validation.validate import validate_panel
from pipelines.config import Config, load_config

WINDOW_BARS = 60
RANK, VOLUME, MARKET = "reversal_5_rank", "bar_volume", "market_volatility_zscore"


def factor_tables(config: Config, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, list[CatalogEntry]]:
    """Training set with a score, labels and catalog of one simulated market."""
    panel = validate_panel(
        load_panel(config.market, data_folder=Path("data"), seed=seed).panel, config.validation
    ).panel
    entries = catalog(config.features, config.market.period)
    inputs = [entry.column for entry in entries if entry.role == "input"]
    rows = build_factors(panel, config.features).join(
        panel.select("timestamp", "symbol", "sector"),
        on=["timestamp", "symbol"],
        how="left",
        maintain_order="left",
    )
    mix = sum(
        weight * pl.col(name).fill_null(0)
        for name, weight in (
            ("reversal_5_rank", 0.010),
            ("volume_surprise_20_rank", 0.006),
            ("momentum_60_rank", 0.004),
        )
    )
    table = rows.select(
        "timestamp",
        "symbol",
        "sector",
        *inputs,
        *(c for c in (REGIME_COLUMN, VOLATILITY_COLUMN) if c not in inputs),
        mix.cast(pl.Float64).alias("score"),
    )
    return table, build_labels(panel, config.labels), entries


def reference_and_current(
    table: pl.DataFrame, labels: pl.DataFrame, entries: list[CatalogEntry], folder: Path, settings: Settings
) -> pl.DataFrame:
    """Make the reference of the first two thirds in `folder`; returns the newest bars."""
    calendar = table["timestamp"].unique().sort()
    end = _end_of_reference(table)
    past = table.filter(pl.col("timestamp") < calendar[end])
    said = past.filter(pl.col("timestamp") >= calendar[end // 2]).select(
        "timestamp",
        "symbol",
        "score",
        expert=pl.lit("stack"),
        period=pl.lit("1d"),
        horizon=pl.lit(5, dtype=pl.Int32),
        target=pl.lit("sector_neutral_return"),
    )
    known = labels.filter(pl.col("label_end") < calendar[end])
    make_reference(past.drop("score"), known, said, entries, settings, TimelineSettings(), folder)
    return table.filter(pl.col("timestamp") >= calendar[-WINDOW_BARS])


def own_newest(table: pl.DataFrame) -> pl.DataFrame:
    """The newest bars of the reference."""
    calendar, end = table["timestamp"].unique().sort(), _end_of_reference(table)
    return table.filter(pl.col("timestamp").is_between(calendar[end - WINDOW_BARS], calendar[end - 1]))


def _end_of_reference(table: pl.DataFrame) -> int:
    return 2 * table["timestamp"].n_unique() // 3


def _with(
    column: str, change: Callable[[pl.Expr], pl.Expr]
) -> Callable[[pl.DataFrame, pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]:
    return lambda rows, labels: (
        rows.with_columns(change(pl.col(column)).cast(pl.Float32).alias(column)),
        labels,
    )


def _labels(
    change: Callable[[pl.Expr], pl.Expr],
) -> Callable[[pl.DataFrame, pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]:
    name = "sector_neutral_return"
    return lambda rows, labels: (rows, labels.with_columns(change(pl.col(name)).alias(name)))


def _shifted(share: float) -> Callable[[pl.Expr], pl.Expr]:
    return lambda x: x + share * x.std()


def _stretched(variance: float) -> Callable[[pl.Expr], pl.Expr]:
    return lambda x: x.mean() + (x - x.mean()) * variance**0.5


def _tailed(x: pl.Expr) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) % 25 == 0).then(x.mean() + 8 * (x - x.mean())).otherwise(x)


# name of the case: column that must be named (None: the labels), the rule's own `what`, and the change of the
# newest bars
PLANTED = {
    f"{what} of {kind}": (column, wanted, _with(column, change))
    for kind, column in (
        ("a rank", RANK),
        ("a factor over its own past", VOLUME),
        ("a market-wide factor", MARKET),
    )
    for what, wanted, change in (
        ("mean + 0.5 sd", "mean", _shifted(0.5)),
        ("mean + 1 sd", "mean", _shifted(1.0)),
        ("variance x 1.5", "scale", _stretched(1.5)),
        ("variance x 2", "scale", _stretched(2.0)),
        ("tail, 4 % of rows x 8", "tail", _tailed),
        ("dead factor", "constant", lambda x: pl.lit(0.0)),
        ("rescaled x 100", "scale", lambda x: 100 * x),
        ("30 % missing", "missing", lambda x: pl.when(pl.int_range(pl.len()) % 10 > 2).then(x)),
    )
} | {
    "labels + 1 sd": (None, None, _labels(_shifted(1.0))),
    "labels x 2": (None, None, _labels(lambda x: 2 * x)),
    "labels x 4": (None, None, _labels(lambda x: 4 * x)),
}


def planted_case(
    name: str, folder: Path, current: pl.DataFrame, labels: pl.DataFrame, settings: Settings
) -> dict:
    """Whether planted drift is found, by the column or the labels that moved, and what else is named."""
    column, wanted, change = PLANTED[name]
    rows, known = change(current, labels.filter(pl.col("timestamp") >= current["timestamp"].min()))
    # The classifier names no single column, and is most of the time.
    result = detect(folder, rows, known, settings.model_copy(update={"auc_windows": 0}))
    if column is None:
        fired = next(rule.fired for rule in result.rules if rule.rule == "label_shift")
        return {
            "found": fired,
            "what": None,
            "right": fired,
            "others": [entry.column for entry in result.moved],
        }
    moved = {entry.column: entry.what for entry in result.moved}
    return {
        "found": column in moved,
        "what": moved.get(column),
        "right": moved.get(column) == wanted,
        "others": [other for other in moved if other != column],
    }


def main() -> None:
    """One line a seed, then the table of planted drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="pipelines/configs/demo.yaml")
    parser.add_argument("--first", type=int, default=101)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    config, settings = load_config(arguments.config), Settings()
    alarms, own_alarms, found = 0, 0, {name: [] for name in PLANTED}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        start = time.monotonic()
        table, labels, entries = factor_tables(config, seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            current = reference_and_current(table, labels, entries, folder, settings)
            result = detect(folder, current, labels, settings)
            alarms += result.verdict == "drift"
            own_alarms += detect(folder, own_newest(table), labels, settings).verdict == "drift"
            for name, cases in found.items():
                cases.append(planted_case(name, folder, current, labels, settings))
        reason = result.reason if result.verdict == "drift" else ""
        print(
            f"seed {seed}: {result.verdict:9s} AUC {result.adversarial.auc:.2f}"
            f" ({time.monotonic() - start:.0f} s) {reason[:160]}",
            flush=True,
        )
    print(f"\nno drift planted: {alarms} of {arguments.seeds} seeds called drift")
    print(f"the reference's own newest bars: {own_alarms} of {arguments.seeds} seeds called drift")
    print(f"{'planted':48s} {'found':>6s} {'cause right':>12s} {'only it':>8s}")
    for name, cases in found.items():
        counts = [sum(case[key] for case in cases) for key in ("found", "right")]
        alone = sum(case["found"] and not case["others"] for case in cases)
        print(f"{name:48s} {counts[0]:3d}/{len(cases)} {counts[1]:9d}/{len(cases)} {alone:5d}/{len(cases)}")


if __name__ == "__main__":
    main()
