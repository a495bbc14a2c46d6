"""The leak audit: which planted leaks it catches and by which check, its false alarms on honest factors, and
its time on a large panel.

`python -m tests.benchmarks.bench_audit [caught|alarms|time]`; `time` reads us_equity_daily.parquet in the
folder ALPHALOOP_DATA, else makes a panel of that size.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

import polars as pl

from components.audit.config import Settings
from components.audit.factors import audit_factors
from components.audit.whole_run import Tables, audit_run
from components.features.build import build_factors
from components.features.catalog import catalog
from components.features.config import Settings as FeatureSettings
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from tests.audit.clean import build_clean_library
from tests.audit.conftest import build_with
from tests.audit.planted import PLANTED
from tests.benchmarks.bench_factors import peak_gib, read_panel, synthetic_panel

CUTS = 5
SEEDS = range(6)
SIMULATED = MarketSettings(
    planted_ic=0.03,
    simulator={"symbols": 60, "bars": 500, "sectors": 4, "late_share": 0.0, "delisted_share": 0.1},
)


def main(parts: list[str]) -> None:
    for part, measure in (("caught", caught), ("alarms", alarms), ("time", large)):
        if not parts or part in parts:
            print(f"-- {part}")
            measure()


def market(seed: int) -> pl.DataFrame:
    """A simulated panel with delistings."""
    return (
        simulate(SIMULATED, seed)
        .panel.with_columns(pl.col("sector").fill_null("unknown"))
        .sort("timestamp", "symbol")
    )


def caught() -> None:
    """Each planted leak beside two honest factors: the checks that named it, once with the command's scan and
    once with what the stage does.
    """
    panel = market(0)
    missed: dict[str, list[str]] = {"command": [], "stage": []}
    false_alarms = 0
    print(f"{'planted leak':32s} {'difficulty':17s} {'s':>5s}  found by (command)                     stage")
    for leak in PLANTED:
        row = {}
        started = time.perf_counter()
        for how, settings in (
            ("command", Settings(scan_cuts=4000, staggered_builds=12)),
            ("stage", Settings()),
        ):
            result = audit_factors(
                panel,
                lambda rows, leak=leak: build_with(pl.col("planted"))(leak.build(rows)),
                cuts=CUTS,
                seed=0,
                settings=settings,
            )
            checks = dict.fromkeys(found.check for found in result.leaks if found.factor == "planted")
            false_alarms += len({found.factor for found in result.leaks} - {"planted", "(rows)"})
            row[how] = ", ".join(checks) or "MISSED"
            missed[how] += [] if checks else [leak.name]
        print(
            f"{leak.name:32s} {leak.difficulty:17s} {time.perf_counter() - started:5.1f} "
            f" {row['command']:70s} {'caught' if row['stage'] != 'MISSED' else 'MISSED'}",
            flush=True,
        )
    print(
        f"{len(PLANTED)} planted; missed with the command's scan: {missed['command'] or 'none'}; with the"
        f" stage's: {missed['stage'] or 'none'}; honest columns accused: {false_alarms}"
    )


def alarms() -> None:
    """False alarms over the honest library on simulated markets."""
    for seed in SEEDS:
        started = time.perf_counter()
        result = audit_factors(
            market(seed),
            build_clean_library,
            cuts=CUTS,
            seed=seed,
            settings=Settings(scan_cuts=24, staggered_builds=3),
        )
        accused = [found.sentence() for found in result.leaks]
        seconds = time.perf_counter() - started
        print(
            f"seed {seed}: {result.checked['factors']} honest factors, {len(result.checked['cuts'])} cuts,"
            f" {len(accused)} false alarms {accused[:3]}, {seconds:.1f} s",
            flush=True,
        )


def large() -> None:
    """The stage's audit of our own library and labels, and the command's, on 503 symbols x 2,650
    daily bars.
    """
    path = Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet"
    panel = read_panel(path) if path.exists() else synthetic_panel()
    features, labels = FeatureSettings(), LabelSettings()
    build, of_labels = partial(build_factors, settings=features), partial(build_labels, settings=labels)
    started = time.perf_counter()
    factors = build(panel)
    entries = catalog(features, "1d")
    print(
        f"{len(panel):,} rows; {len({entry.factor for entry in entries})} factors, {len(entries)} columns,"
        f" built in {time.perf_counter() - started:.1f} s"
    )
    targets = of_labels(panel)
    for name, settings in (
        ("stage, 5 cuts", Settings(cuts=CUTS, guided_cuts=0)),
        ("stage, default", Settings()),
    ):
        started, cpu = time.perf_counter(), time.process_time()
        tables = Tables(panel, factors, targets, entries)
        result = audit_run(tables, build, of_labels, settings=settings, seed=0)
        print(
            f"{name}: {time.perf_counter() - started:.1f} s wall, {time.process_time() - cpu:.1f} s CPU,"
            f" {len(result.checked['cuts'])} cuts, {result.checked['builds']} builds, checks"
            f" {result.checked['checks']}, leaks {[leak.sentence() for leak in result.leaks][:5]}, peak"
            f" {peak_gib():.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
