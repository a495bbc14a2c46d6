"""What the stack's choice of a combiner is worth on simulated markets, beside the rule that it replaced (the
largest mean of the validation window's later half, trees among the candidates).

A market is made at the level of experts' scores and labels: `tests/stacking/made_scores.py`. Figures are of
the test window, RankIC less that of equal weights, mean over markets and its t over markets.

    python -m tests.benchmarks.bench_combiners --markets 8
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import polars as pl

from components.metrics import fewest_values, t_value
from components.stacking.combine import Stacked, stack_experts
from components.stacking.combiners import EQUAL, PERFORMANCE, daily_rank_ics
from components.stacking.config import Settings
from tests.stacking.made_scores import (
    EMBARGO,
    HORIZON,
    SKILLS,
    as_predictions,
    calendar_of,
    made_market,
    windows_of,
)

FITTED = ("elasticnet", "lightgbm")


def one_market(kind: str, seed: int, options: argparse.Namespace) -> dict[str, object]:
    """RankIC of the test window by model, what was chosen by both rules, and the p of each candidate."""
    bars = options.validation + options.test
    oof = made_market(kind, seed, bars=bars, symbols=options.symbols, fold_bars=options.fold_bars)
    windows, calendar = windows_of(options.validation, options.test), calendar_of(bars)

    def stacked(combiners: tuple[str, ...]) -> Stacked:
        settings = Settings(combiners=combiners)
        return stack_experts(
            oof, as_predictions(oof), settings, windows, calendar, embargo_bars=EMBARGO, seed=seed
        )

    result = stacked(options.combiners)
    before = stacked(FITTED)
    first_test = calendar[options.validation]
    models = pl.concat([result.predictions, before.predictions]).unique(("timestamp", "symbol", "expert"))
    daily, earlier = _by_model(models, oof, first_test)
    found = {name: float(values.mean()) for name, values in daily.items()}
    old = largest_mean(earlier)
    found["old rule"] = found[old]
    new = result.comparison.chosen
    found["new, else regimes"] = found["z_regimes" if new == EQUAL else "stack"]
    gain = daily["stack"] - daily[EQUAL]
    return {
        "kind": kind,
        "rank_ic": found,
        "old": old,
        "new": new,
        "significantly_worse": bool(
            len(gain) >= fewest_values(HORIZON) and t_value(gain, horizon=HORIZON) < -1.96
        ),
        "p": {one.name: one.p for one in result.comparison.candidates},
    }


def _by_model(
    models: pl.DataFrame, oof: pl.DataFrame, first_test: object
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """RankIC at each bar of the test window, and its mean over the validation blocks, by model."""
    daily, earlier = {}, {}
    labels = oof.select("timestamp", "symbol", "label", "label_end")
    for (name,), frame in models.group_by("expert"):
        both = frame.join(labels, on=("timestamp", "symbol"))
        test = daily_rank_ics(both.filter(pl.col("timestamp") >= first_test), ["score"])["score"]
        known = daily_rank_ics(both.filter(pl.col("label_end") < first_test), ["score"])["score"]
        daily[name], earlier[name] = test.fill_null(0.0).to_numpy(), known.mean() or 0.0
    return daily, earlier


def largest_mean(earlier: dict[str, float]) -> str:
    """The choice of the rule that was replaced."""
    best = max((f"z_{name}" for name in FITTED), key=lambda name: earlier.get(name, -1.0))
    if earlier.get(best, -1.0) > earlier[EQUAL]:
        return best
    return PERFORMANCE if earlier[PERFORMANCE] > earlier[EQUAL] else EQUAL


def show(kind: str, rows: list[dict]) -> None:
    """A row a model, of the markets of one kind."""
    equal = np.array([row["rank_ic"][EQUAL] for row in rows])
    print(f"\n{kind}: {len(rows)} markets, equal weights reach {equal.mean():.4f}")
    first = ["old rule", "stack", "new, else regimes"]
    order = [*first, *sorted(set(rows[0]["rank_ic"]) - {*first, EQUAL})]
    for name in order:
        gains = np.array([row["rank_ic"][name] for row in rows]) - equal
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
        t = gains.mean() / error if error > 0 else 0.0
        print(
            f"  {name:22} {gains.mean():+.4f}  t {t:+5.1f}  worst {gains.min():+.4f}  best {gains.max():+.4f}"
        )
    print(f"  old rule chose {dict(Counter(row['old'] for row in rows))}")
    print(f"  new rule chose {dict(Counter(row['new'] for row in rows))}")
    print(
        f"  markets where the new one is significantly worse: {sum(r['significantly_worse'] for r in rows)}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", type=int, default=8, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(SKILLS), choices=list(SKILLS))
    parser.add_argument("--validation", type=int, default=250, help="bars")
    parser.add_argument("--test", type=int, default=500, help="bars")
    parser.add_argument("--fold-bars", type=int, default=125)
    parser.add_argument("--symbols", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--combiners", nargs="*", default=list(Settings().combiners))
    options = parser.parse_args()
    tasks = list(product(options.kinds, range(options.seed, options.seed + options.markets)))
    with ProcessPoolExecutor(options.processes) as pool:
        kinds, seeds = zip(*tasks, strict=True)
        rows = list(pool.map(one_market, kinds, seeds, [options] * len(tasks)))
    for kind in options.kinds:
        show(kind, [row for row in rows if row["kind"] == kind])
    show("all", rows)


if __name__ == "__main__":
    main()
