"""Parts of networks side by side on the validation folds, never on the test window: the networks themselves,
rank-Gaussian targets, instance normalisation of windows, pairs of InfoNCE apart in time, stochastic depth by
turnover, restarts that lengthen; and the median regression beside the elastic net.

Options, data and what is printed are those of `bench_targets`; each variant is compared with the first whose
name begins with the same word.

    python -m tests.benchmarks.bench_networks --config pipelines/configs/crypto_daily.yaml --tables FOLDER \
        --set timeline.train.end=2021-06-30 --set timeline.validation.start=2021-07-01 \
        --set timeline.fold_bars=450 --output runs/networks_crypto.jsonl
    python -m tests.benchmarks.bench_networks --config pipelines/configs/demo.yaml --markets 4 \
        --output runs/networks_simulated.jsonl
"""

from typing import Any

from components.experts.leaves import merged
from tests.benchmarks.bench_targets import Variants, main

# A quarter of a minute a fold on one core. Bands take no part in scores.
QUICK = {"training": {"epochs": 4, "max_train_windows": 10_000, "band_epochs": 0}}


def quick(**settings: Any) -> dict[str, Any]:
    """Settings of a variant over those of a quick training."""
    return merged(QUICK, settings)


def revin(inputs: str) -> dict[str, Any]:
    """Windows normalised by themselves."""
    return quick(window_normalisation=inputs)


def pretrained(*apart_bars: int) -> dict[str, Any]:
    """Two epochs of rebuilding and InfoNCE first."""
    return quick(pretraining={"epochs": 2, "apart_bars": apart_bars})


def depth(rate: float, by_turnover: float = 0.0) -> dict[str, Any]:
    """Stochastic depth."""
    return quick(regularisation={"stochastic_depth": rate, "depth_by_turnover": by_turnover})


def cycles(count: int, growth: float = 1.0) -> dict[str, Any]:
    """Warm restarts."""
    return quick(optimiser={"cycles": count, "cycle_growth": growth})


RANK = "rank_gaussian"
VARIANTS: Variants = {
    "network gru": ("gru", RANK, quick()),
    "network lightgbm": ("lightgbm", RANK, {}),
    "network patchtst": ("patchtst", RANK, quick()),
    "network tft": ("tft", RANK, quick()),
    "network adaptive_tft": ("adaptive_tft", RANK, quick()),
    "gru zscore": ("gru", "zscore", quick()),
    "gru rank_gaussian": ("gru", RANK, quick()),
    "patchtst zscore": ("patchtst", "zscore", quick()),
    "patchtst rank_gaussian": ("patchtst", RANK, quick()),
    "revin none": ("gru", RANK, quick()),
    "revin all": ("gru", RANK, revin("all")),
    "revin bars": ("gru", RANK, revin("bars")),
    "revin_patchtst none": ("patchtst", RANK, quick()),
    "revin_patchtst all": ("patchtst", RANK, revin("all")),
    "infonce off": ("gru", RANK, quick()),
    "infonce off, 2 epochs more": ("gru", RANK, quick(training={"epochs": 6})),
    "infonce same bar": ("gru", RANK, pretrained()),
    "infonce 5 apart": ("gru", RANK, pretrained(5)),
    "infonce 10 apart": ("gru", RANK, pretrained(10)),
    "infonce 20 apart": ("gru", RANK, pretrained(20)),
    "infonce 5, 10, 20 apart": ("gru", RANK, pretrained(5, 10, 20)),
    "depth 0": ("gru", RANK, depth(0.0)),
    "depth 0.2": ("gru", RANK, depth(0.2)),
    "depth 0.2 by turnover": ("gru", RANK, depth(0.2, 1.0)),
    "restarts none": ("gru", RANK, cycles(1)),
    "restarts 2 equal": ("gru", RANK, cycles(2)),
    "restarts 2 lengthening": ("gru", RANK, cycles(2, 2.0)),
    "median elasticnet": ("elasticnet", RANK, {}),
    "median regression": ("median_regression", RANK, {}),
    "median elasticnet zscore": ("elasticnet", "zscore", {}),
    "median regression zscore": ("median_regression", "zscore", {}),
}

if __name__ == "__main__":
    main(VARIANTS, __doc__)
