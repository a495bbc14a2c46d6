"""Selection: time, memory and what it finds.

`python -m tests.benchmarks.bench_selection [quick|full|rates]` chooses inputs for five folds of
us_equity_daily.parquet in the folder ALPHALOOP_DATA (else of a made-up market of that size) from 200 inputs:
those of the library, filled up with plain rolling windows; beside it the same rank correlations with pandas
and the same mutual information with scikit-learn. `rates` counts on made-up markets how often useless inputs
are called core or plus, and a planted one is found.
"""

import os
import resource
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import CatalogEntry
from components.features.build import build_factors
from components.features.catalog import catalog as library_catalog
from components.features.config import Settings as Features
from components.labels.build import build_labels
from components.labels.config import Settings as Labels
from components.selection.config import Settings
from components.selection.purpose import Purpose
from components.selection.rolling import daily_rank_ic
from components.selection.rows import read_rows
from components.selection.select import select_inputs
from components.timeline import Settings as Timeline
from components.timeline import Span
from tests.benchmarks.bench_factors import read_panel, synthetic_panel

INPUTS = 200
TIMELINE = Timeline(
    train=Span(start=date(2015, 1, 1), end=date(2018, 12, 31)),
    validation=Span(start=date(2019, 1, 1), end=date(2021, 12, 31)),
    test=Span(start=date(2022, 1, 1), end=date(2022, 12, 31)),
    backtest=Span(start=date(2022, 1, 1), end=date(2022, 12, 31)),
)
WINDOWS = (5, 10, 20, 30, 60)


def main(modes: list[str]) -> None:
    """Print one line a measurement."""
    if "rates" in modes:
        rates()
    modes = [mode for mode in modes if mode != "rates"]
    if not modes:
        return
    path = Path(os.environ.get("ALPHALOOP_DATA", "data")) / "us_equity_daily.parquet"
    panel = read_panel(path) if path.exists() else synthetic_panel()
    training, labels, entries = training_set(panel.sort("timestamp", "symbol"))
    inputs = sum(entry.role == "input" for entry in entries)
    print(
        f"{path.name if path.exists() else 'made-up panel'}: {len(training):,} rows,"
        f" {training['symbol'].n_unique()} symbols, {inputs} inputs, {os.cpu_count()} cores",
        flush=True,
    )
    beside_others(training, labels, entries)
    for mode in modes:
        wall, cpu = time.perf_counter(), time.process_time()
        found = select_inputs(
            training,
            labels,
            entries,
            Purpose("tree", 5, "sector_neutral_return", 7),
            settings=Settings(mode=mode),
            timeline=TIMELINE,
            training_set_sha256="bench",
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        whole = found.overview.forward[-1]
        print(
            f"{mode}: {len(found.chosen.by_fold)} folds, {wall:.0f} s wall, {cpu:.0f} s CPU, peak"
            f" {peak:.1f} GiB",
            flush=True,
        )
        print(
            f"   core {[one.factor for one in found.overview.core]}, plus {len(found.overview.plus)} factors"
        )
        print(
            f"   RankIC on validation: subset {whole.subset:+.4f}, all {whole.full:+.4f}, difference"
            f" {whole.difference:+.4f} [{whole.low:+.4f}, {whole.high:+.4f}]",
            flush=True,
        )


def training_set(panel: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, list[CatalogEntry]]:
    """Inputs of the library, filled up to INPUTS with ranks of rolling windows; labels and catalog."""
    settings = Features()
    factors = build_factors(panel, settings)
    entries = [entry for entry in library_catalog(settings, "1d") if entry.role == "input"][:INPUTS]
    names = [entry.column for entry in entries]
    context = [name for name in ("regime_state", "volatility_20") if name not in names]
    keep = factors.select(
        "timestamp", "symbol", pl.col(names).cast(pl.Float32), pl.col(context).cast(pl.Float32)
    )
    bars = panel.select("timestamp", "symbol", "sector", "open", "high", "low", "close", "volume")
    windows = {}
    for bar in WINDOWS:
        for column in ("open", "high", "low", "close", "volume"):
            value = pl.col(column)
            windows |= {
                f"mean_{column}_{bar}": value.rolling_mean(bar) / value,
                f"deviation_{column}_{bar}": value.rolling_std(bar) / value,
                f"highest_{column}_{bar}": value.rolling_max(bar) / value,
                f"lowest_{column}_{bar}": value.rolling_min(bar) / value,
                f"change_{column}_{bar}": value.shift(bar) / value,
            }
    chosen = dict(list(windows.items())[: max(INPUTS - len(names), 0)])
    ranked = bars.with_columns(value.over("symbol").alias(name) for name, value in chosen.items())
    ranks = ranked.select(
        "timestamp",
        *(
            (pl.col(name).rank() / pl.len() - 0.5).over("timestamp").cast(pl.Float32).alias(name)
            for name in chosen
        ),
    ).drop("timestamp")
    made = [CatalogEntry(name, name, "windows", "input", "rank", 60, "", "bench") for name in chosen]
    training = pl.concat(
        [keep.select("timestamp", "symbol"), bars.select("sector"), keep.drop("timestamp", "symbol"), ranks],
        how="horizontal",
    )
    return training, build_labels(panel, Labels()), [*entries, *made]


def beside_others(training: pl.DataFrame, labels: pl.DataFrame, entries: list[CatalogEntry]) -> None:
    """Daily RankIC of 20 inputs beside pandas, and mutual information of 20 inputs on 20,000 rows beside
    scikit-learn.
    """
    from sklearn.feature_selection import mutual_info_regression

    from components.selection.chance import mutual_information, redrawn_signs
    from components.selection.samples import Sample

    some = entries[:20]
    rows = read_rows(training, labels, some, Purpose("tree", 5, "sector_neutral_return", 7))
    daily_rank_ic(rows)
    wall = time.perf_counter()
    ours = daily_rank_ic(rows)
    ours_s = time.perf_counter() - wall
    names = [entry.column for entry in some]
    frame = (
        pl.DataFrame(rows.values, schema=names)
        .with_columns(pl.Series("bar", rows.bars), pl.Series("label", rows.target))
        .to_pandas()
    )
    wall = time.perf_counter()
    theirs = {
        name: (
            frame[["bar", "label", name]]
            .dropna()
            .groupby("bar")
            .corr(method="spearman")[name]
            .xs("label", level=1)
        )
        for name in names[:2]
    }
    theirs_s = (time.perf_counter() - wall) * len(names) / len(theirs)
    apart = max(
        float(np.nanmax(np.abs(series.to_numpy() - ours[series.index.to_numpy(), names.index(name)])))
        for name, series in theirs.items()
    )
    print(
        f"daily RankIC of {len(names)} inputs: ours {ours_s:.2f} s, pandas groupby.corr {theirs_s:.1f} s (two"
        f" measured, scaled); largest difference {apart:.1e}",
        flush=True,
    )
    place = np.flatnonzero(np.isfinite(rows.target))[:: len(rows.target) // 20_000][:20_000]
    sample = Sample(rows.values[place], rows.target[place], rows.bars[place], rows.symbols[place])
    signs = redrawn_signs(6, 4, np.random.default_rng(0))
    block = np.minimum(sample.bars * 6 // (sample.bars.max() + 1), 5)
    wall = time.perf_counter()
    mutual_information(sample, block, signs, np.isfinite(sample.values).mean(axis=0) > 0.6)
    ours_s = time.perf_counter() - wall
    wall = time.perf_counter()
    mutual_info_regression(np.nan_to_num(sample.values), sample.target, random_state=0)
    theirs_s = time.perf_counter() - wall
    print(
        f"mutual information of {len(names)} inputs and 4 redrawn labels, {len(place):,} rows: ours"
        f" {ours_s:.2f} s, scikit-learn (one label) {theirs_s:.1f} s",
        flush=True,
    )


def rates(seeds: int = 20) -> None:
    """Share of useless inputs called core and plus, and of folds in which a planted one is core, by its
    strength.
    """
    from tests.selection.made_up import SETTINGS, choose, market

    for strength in (0.0, 0.03, 0.06, 0.1):
        planted, useless, core_markets = [], [], 0
        for seed in range(seeds):
            evidence = choose(
                market(1000 + seed, bars=700, symbols=50, inputs=30, strength=strength), SETTINGS
            ).evidence
            is_planted = (evidence["factor"] == "noise_00") & (strength > 0)
            planted += evidence.filter(is_planted)["decision"].to_list()
            useless += (others := evidence.filter(~is_planted)["decision"].to_list())
            core_markets += "core" in others
        share = {kind: useless.count(kind) / len(useless) for kind in ("core", "plus")}
        found = (
            f", planted: core in {planted.count('core') / len(planted):.0%}, plus in"
            f" {planted.count('plus') / len(planted):.0%} of folds"
            if planted
            else ""
        )
        print(
            f"label = noise + {strength:g} * factor, {seeds} markets: useless inputs core"
            f" {share['core']:.2%}, plus {share['plus']:.1%} of input-folds; markets with a useless core"
            f" input in any fold {core_markets}/{seeds}{found}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:] or ["quick", "full", "rates"])
