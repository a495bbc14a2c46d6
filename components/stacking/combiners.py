"""The combiners: how experts are weighed, from equal weights to trees, and what a fitted one gives at a
row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from components.contracts import REGIMES
from components.stacking.config import Settings
from components.stacking.inputs import design, standardised_scores, tree_columns, tree_inputs
from components.stacking.network import Network, fit_network
from components.stacking.shrinkage import regime_weights, shrunk_weights

EQUAL, BEST, PERFORMANCE = "equal_weights", "best_single", "performance_weights"
# Penalties tried inside the training rows, newest 30 % of bars held out.
ELASTICNET_ALPHAS = (0.03, 0.01, 0.003, 0.001, 0.0003)
# Share of the penalty that is absolute, the rest is squared: half drops experts, half keeps likes together.
ELASTICNET_L1_SHARE = 0.5
# Squared penalties tried in the same way, a row's share of the loss.
LOGISTIC_PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003)
# Bars with fewer symbols, or one side constant, have no rank correlation.
FEWEST_SYMBOLS = 3
# Leaves a tree: few, since a dozen noisy scores hold no deep interactions.
LIGHTGBM_LEAVES = 7
# Weight of each tree.
LIGHTGBM_LEARNING_RATE = 0.05
# Share of the rows that a leaf must hold, so that none stands for a few bars.
LIGHTGBM_MIN_LEAF_SHARE = 0.01


@dataclass(frozen=True)
class Combiner:
    """One fitted way to combine experts.

    `weights` by expert, and by `expert|regime` on top where they move with the regime; with trees the share
    of the gain by input column; none with a network. `alpha`: the penalty that was chosen. `booster`,
    `network`: LightGBM's text or the network, and `columns` the inputs that either takes.
    """

    method: str
    weights: dict[str, float] = field(default_factory=dict)
    alpha: float | None = None
    booster: str | None = None
    network: Network | None = None
    columns: tuple[str, ...] = ()

    @property
    def has_graph(self) -> bool:
        """Whether it is more than weights."""
        return self.booster is not None or self.network is not None


def fit_combiner(
    method: str, known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> Combiner:
    """Fit one combiner on rows with known labels.

    Below `min_train_bars` bars, and where nothing is left with a weight, every method is equal weights.
    """
    if method == EQUAL or known["timestamp"].n_unique() < settings.min_train_bars:
        return _equal(experts)
    fits: dict[str, Callable[[], Combiner | None]] = {
        BEST: lambda: Combiner(BEST, _best_weights(_merits(known, experts))),
        PERFORMANCE: lambda: Combiner(PERFORMANCE, _shares(_merits(known, experts))),
        "shrunk": lambda: _weighted("shrunk", shrunk_weights(known, experts)),
        "regimes": lambda: _weighted("regimes", regime_weights(known, experts)),
        "elasticnet": lambda: _fit_elasticnet(known, experts),
        "logistic": lambda: _fit_logistic(known, experts),
        "mlp": lambda: _fit_network(known, experts, seed),
        "lightgbm": lambda: _fit_lightgbm(known, experts, settings, seed),
    }
    return fits[method]() or _equal(experts)


def raw_output(combiner: Combiner, rows: pl.DataFrame) -> np.ndarray:
    """The combiner's output before calibration; shape (rows,).

    `components.scoring.stacker.Stacker` gives the same up to the last digits: one product with all columns
    here, as a fit sees them; row by row there, so that a row's answer does not depend on those beside it.
    """
    if combiner.booster is not None:
        import lightgbm

        booster = lightgbm.Booster(model_str=combiner.booster)
        return booster.predict(tree_inputs(rows, list(combiner.columns)), num_threads=2)
    if combiner.network is not None:
        return combiner.network(tree_inputs(rows, list(combiner.columns)))
    experts = [name for name in combiner.weights if "|" not in name]
    inputs = design if len(combiner.weights) > len(experts) else standardised_scores
    return inputs(rows, experts) @ np.fromiter(combiner.weights.values(), dtype=np.float64)


def listened_to(combiner: Combiner) -> list[str]:
    """Experts that the combiner listens to: those with a weight in any regime; trees and networks see
    all.
    """
    if combiner.has_graph:
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


def daily_rank_ics(rows: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """RankIC of each column against the label, one row a bar in time's order; null where it has none."""
    enough = pl.len() >= FEWEST_SYMBOLS
    found = (pl.corr(name, "label", method="spearman").fill_nan(None) for name in columns)
    by_bar = rows.filter(pl.col("label").is_not_null()).group_by("timestamp")
    return by_bar.agg(
        pl.when(enough).then(each).alias(name) for name, each in zip(columns, found, strict=True)
    ).sort("timestamp")


def _merits(known: pl.DataFrame, experts: list[str]) -> dict[str, float]:
    """Mean RankIC of each expert, 0 for a negative one."""
    means = daily_rank_ics(known, [f"z_{name}" for name in experts]).drop("timestamp").mean().row(0)
    return {name: max(mean or 0.0, 0.0) for name, mean in zip(experts, means, strict=True)}


def _weighted(method: str, weights: dict[str, float] | None) -> Combiner | None:
    return None if weights is None else Combiner(method, weights)


def _fit_elasticnet(known: pl.DataFrame, experts: list[str]) -> Combiner | None:
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
    return Combiner("elasticnet", weights, alpha=alpha) if any(weights.values()) else None


def _fit_logistic(known: pl.DataFrame, experts: list[str]) -> Combiner | None:
    """Logistic regression of whether a label lies above the mean of its bar: what is right in direction
    counts, however far a label is away.
    """
    from sklearn.linear_model import LogisticRegression

    above = known["label_z"].to_numpy() > 0
    inputs = standardised_scores(known, experts)

    def fit(rows: np.ndarray, penalty: float) -> np.ndarray:
        model = LogisticRegression(C=1.0 / (penalty * rows.sum()), fit_intercept=False)
        return model.fit(inputs[rows], above[rows]).coef_[0]

    earlier, later = earlier_and_later(known)
    signs = np.where(above[later], 1.0, -1.0)
    losses = [
        np.logaddexp(0.0, -signs * (inputs[later] @ fit(earlier, penalty))).mean()
        for penalty in LOGISTIC_PENALTIES
    ]
    penalty = LOGISTIC_PENALTIES[int(np.argmin(losses))]
    weights = dict(zip(experts, map(float, fit(np.ones(len(known), dtype=bool), penalty)), strict=True))
    return Combiner("logistic", weights, alpha=penalty) if any(weights.values()) else None


def _fit_network(known: pl.DataFrame, experts: list[str], seed: int) -> Combiner:
    network, penalty = fit_network(known, experts, earlier_and_later(known), seed)
    return Combiner("mlp", alpha=penalty, network=network, columns=tuple(tree_columns(experts)))


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
