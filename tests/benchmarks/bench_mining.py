"""How often residual mining finds a planted non-linear factor that the library lacks, and how often it
accepts luck, over seeds of the simulator.

The whole factor library is searched. The current stack are walk-forward ridge regressions on all inputs, with
`--trees` one of them boosted trees, which may find an interaction by themselves. A formula counts as found
again where it agrees with the true product within bars (mean rank correlation above 0.7).

    python -m tests.benchmarks.bench_mining                    # null market, planted market, planted market
    with trees python -m tests.benchmarks.bench_mining --planted-ic 0 --seeds 10
"""

import argparse
import time

import polars as pl

from components.features.build import build_factors
from components.features.catalog import catalog
from components.features.config import Settings as FeatureSettings
from components.features.formulas import parse_formula
from components.labels.build import build_labels
from components.labels.config import Settings as LabelSettings
from components.market.config import Settings as MarketSettings
from components.market.simulator import simulate
from components.mining.config import Settings
from components.mining.mine import Mined, mine_formulas, signed
from components.mining.tables import RunTables
from tests.mining.mined_market import HORIZON, TARGET, TIMELINE, walk_forward_predictions

FOUND_AGAIN = 0.7
TRUE_PRODUCT = "mul(momentum_20_rank, momentum_20_60_rank)"


def run_seed(
    planted_ic: float, seed: int, *, trees: bool, symbols: int, bars: int, settings: Settings
) -> tuple[Mined, float, float]:
    """Result, seconds of mining, and the best agreement of an accepted formula with the true product (0 where
    nothing is accepted).
    """
    market = simulate(
        MarketSettings(
            planted_ic=planted_ic,
            simulator={"symbols": symbols, "bars": bars, "planted": {"trend_agreement": 1.0}},
        ),
        seed,
    )
    features = FeatureSettings()
    entries = catalog(features, "1d")
    inputs = [entry.column for entry in entries if entry.role == "input"]
    factors = build_factors(market.panel, features).join(
        market.panel.select("timestamp", "symbol", "sector"), on=["timestamp", "symbol"]
    )
    training_set = factors.select("timestamp", "symbol", "sector", *inputs)
    labels = build_labels(market.panel, LabelSettings())
    predictions = walk_forward_predictions(training_set, labels, entries, TIMELINE, trees=trees, seed=seed)
    start = time.monotonic()
    mined = mine_formulas(
        RunTables(training_set, labels, entries, predictions),
        settings,
        TIMELINE,
        horizon=HORIZON,
        target=TARGET,
        seed=seed,
    )
    return (
        mined,
        time.monotonic() - start,
        max((_agreement(signed(one), training_set) for one in mined.accepted), default=0.0),
    )


def _agreement(formula: str, training_set: pl.DataFrame) -> float:
    values = training_set.select(
        "timestamp", a=parse_formula(formula).expression, b=parse_formula(TRUE_PRODUCT).expression
    ).drop_nulls()
    return (
        values.group_by("timestamp")
        .agg(pl.corr("a", "b", method="spearman").alias("agreement"))["agreement"]
        .fill_nan(None)
        .mean()
    )


def series(
    planted_ic: float, seeds: int, *, trees: bool, symbols: int, bars: int, settings: Settings
) -> None:
    """All seeds of one kind of market, a line each, then the counts."""
    print(
        f"\nplanted IC {planted_ic:g}, {symbols} symbols x {bars} bars, stack of"
        f" ridge{' and trees' if trees else ''}",
        flush=True,
    )
    accepting = again = tries = accepted = 0
    for seed in range(1, seeds + 1):
        mined, seconds, agreement = run_seed(
            planted_ic, seed, trees=trees, symbols=symbols, bars=bars, settings=settings
        )
        accepting, again, tries, accepted = (
            accepting + bool(mined.accepted),
            again + (agreement > FOUND_AGAIN),
            tries + mined.tries,
            accepted + len(mined.accepted),
        )
        best = max((one for one in mined.judged if one.tried), key=lambda one: one.gain_holdout, default=None)
        said = (
            f"best: gain {best.gain_holdout:+.3f} [{best.lower:+.3f}] {signed(best)}"
            if best
            else "nothing tried"
        )
        stack = " ".join(f"{name} {values['mean']:+.3f}" for name, values in mined.stack_ic.items())
        print(
            f"seed {seed:2d}: {len(mined.sample.columns)} inputs, stack {stack}, tried {mined.tries},"
            f" accepted {len(mined.accepted)}, agreement {agreement:+.2f}, {seconds:.0f} s; {said}",
            flush=True,
        )
    print(
        f"accepted in {accepting} of {seeds} markets ({accepted} of {tries} tries); the planted factor found"
        f" again in {again}",
        flush=True,
    )


def main() -> None:
    """Run the series that were asked for, by default all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planted-ic", type=float, default=None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--symbols", type=int, default=150)
    parser.add_argument("--bars", type=int, default=1_000)
    parser.add_argument("--trees", action="store_true")
    arguments = parser.parse_args()
    size = {"symbols": arguments.symbols, "bars": arguments.bars, "settings": Settings()}
    kinds = (
        [(arguments.planted_ic, arguments.trees)]
        if arguments.planted_ic is not None
        else [(0.0, False), (0.15, False), (0.15, True)]
    )
    for planted_ic, trees in kinds:
        series(planted_ic, arguments.seeds, trees=trees, **size)


if __name__ == "__main__":
    main()
