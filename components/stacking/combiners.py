"""The combiners: how experts are weighed, from equal weights to trees, and what a fitted one gives at a
row.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.contracts import REGIMES
from components.metrics import information_coefficient
from components.stacking.config import Settings
from components.stacking.inputs import design, standardised_scores, tree_columns, tree_inputs

EQUAL, BEST, PERFORMANCE = "equal_weights", "best_single", "performance_weights"
# Penalties tried inside the training rows, newest 30 % of bars held out.
ELASTICNET_ALPHAS = (0.03, 0.01, 0.003, 0.001, 0.0003)
# Share of the penalty that is absolute, the rest is squared: half drops experts, half keeps likes together.
ELASTICNET_L1_SHARE = 0.5
# Leaves a tree: few, since a dozen noisy scores hold no deep interactions.
LIGHTGBM_LEAVES = 7
# Weight of each tree.
LIGHTGBM_LEARNING_RATE = 0.05
# Share of the rows that a leaf must hold, so that none stands for a few bars.
LIGHTGBM_MIN_LEAF_SHARE = 0.01


@dataclass(frozen=True)
class Combiner:
    """One fitted way to combine experts.

    `weights` by expert, with the elastic net by `expert|regime` too; with trees the share of the gain by
    input column. `alpha`: the elastic net's penalty. `booster`, `columns`: LightGBM's text and the inputs
    that it takes.
    """

    method: str
    weights: dict[str, float] = field(default_factory=dict)
    alpha: float | None = None
    booster: str | None = None
    columns: tuple[str, ...] = ()


def fit_combiner(
    method: str, known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> Combiner:
    """Fit one combiner on rows with known labels.

    Below `min_train_bars` bars every method is equal weights.
    """
    if method == EQUAL or known["timestamp"].n_unique() < settings.min_train_bars:
        return _equal(experts)
    if method in (BEST, PERFORMANCE):
        merits = {
            name: max(rank_ic(known.select("timestamp", "symbol", score=f"z_{name}"), known), 0.0)
            for name in experts
        }
        return Combiner(method, _best_weights(merits) if method == BEST else _shares(merits))
    if method == "elasticnet":
        return _fit_elasticnet(known, experts)
    return _fit_lightgbm(known, experts, settings, seed)


def raw_output(combiner: Combiner, rows: pl.DataFrame) -> np.ndarray:
    """The combiner's output before calibration; shape (rows,).

    `components.scoring.stacker.Stacker` gives the same up to the last digits: one product with all columns
    here, as a fit sees them; row by row there, so that a row's answer does not depend on those beside it.
    """
    if combiner.booster is not None:
        import lightgbm

        booster = lightgbm.Booster(model_str=combiner.booster)
        return booster.predict(tree_inputs(rows, list(combiner.columns)), num_threads=2)
    experts = [name for name in combiner.weights if "|" not in name]
    inputs = design if combiner.method == "elasticnet" else standardised_scores
    return inputs(rows, experts) @ np.fromiter(combiner.weights.values(), dtype=np.float64)


def listened_to(combiner: Combiner) -> list[str]:
    """Experts that the combiner listens to: those with a weight in any regime; trees see all."""
    if combiner.booster is not None:
        return [name.removeprefix("z_") for name in combiner.columns if name.startswith("z_")]
    weighed = {key.partition("|")[0] for key, weight in combiner.weights.items() if weight}
    return [name for name in combiner.weights if "|" not in name and name in weighed]


def earlier_and_later(known: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the newest 30 % of bars (second) and of the rows whose label was known before
    these (first).
    """
    moments = known["timestamp"].unique().sort()
    split = moments[int(0.7 * len(moments))]
    return (known["label_end"] < split).to_numpy(), (known["timestamp"] >= split).to_numpy()


def rank_ic(scored: pl.DataFrame, labels: pl.DataFrame) -> float:
    """Mean over bars of the rank correlation of score and label; 0 where no bar has one."""
    value = information_coefficient(
        scored.select("timestamp", "symbol", "score"),
        labels.select("timestamp", "symbol", "label"),
        rank=True,
    )["ic"].mean()
    return float(value) if value is not None else 0.0


def _fit_elasticnet(known: pl.DataFrame, experts: list[str]) -> Combiner:
    """Non-negative elastic net (Breiman 1996: stacked weights are kept non-negative) with weights that move
    with the regime.
    """
    from sklearn.linear_model import ElasticNet

    def net(alpha: float) -> ElasticNet:
        return ElasticNet(
            alpha=alpha,
            l1_ratio=ELASTICNET_L1_SHARE,
            positive=True,
            fit_intercept=False,
            precompute=True,
        )

    inputs, target = design(known, experts), known["label_z"].to_numpy()
    names = [*experts, *(f"{name}|{regime}" for regime in REGIMES for name in experts)]
    inner, later = earlier_and_later(known)
    errors = []
    for alpha in ELASTICNET_ALPHAS:
        model = net(alpha).fit(inputs[inner], target[inner])
        errors.append(np.mean((target[later] - model.predict(inputs[later])) ** 2))
    alpha = ELASTICNET_ALPHAS[int(np.argmin(errors))]
    model = net(alpha).fit(inputs, target)
    weights = dict(zip(names, (float(w) for w in model.coef_), strict=True))
    return Combiner("elasticnet", weights, alpha=alpha) if any(weights.values()) else _equal(experts)


def _fit_lightgbm(known: pl.DataFrame, experts: list[str], settings: Settings, seed: int) -> Combiner:
    import lightgbm

    parameters = {
        "objective": "regression",
        "num_leaves": LIGHTGBM_LEAVES,
        "learning_rate": LIGHTGBM_LEARNING_RATE,
        "min_data_in_leaf": max(int(len(known) * LIGHTGBM_MIN_LEAF_SHARE), 20),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }
    names = tree_columns(experts)
    data = lightgbm.Dataset(tree_inputs(known, names), known["label_z"].to_numpy(), feature_name=names)
    booster = lightgbm.train(parameters, data, settings.lightgbm_rounds)
    gain = booster.feature_importance("gain")
    weights = dict(zip(names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))
    return Combiner("lightgbm", weights, booster=booster.model_to_string(), columns=tuple(names))


def _equal(experts: list[str]) -> Combiner:
    return Combiner(EQUAL, dict.fromkeys(experts, 1.0 / len(experts)))


def _best_weights(merits: dict[str, float]) -> dict[str, float]:
    best = max(merits, key=merits.get)
    return {name: float(name == best) for name in merits}


def _shares(merits: dict[str, float]) -> dict[str, float]:
    total = sum(merits.values())
    return {name: merit / total if total > 0 else 1.0 / len(merits) for name, merit in merits.items()}
