"""The two families that judge inputs: a small forest and a ridge regression, each with importance,
contributions (SHAP values) and outputs.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Family = Literal["tree", "linear"]
LARGEST_INPUT = 5.0
RIDGE = 0.02
LEAVES = 15


@dataclass(frozen=True)
class Forest:
    """A LightGBM forest (Ke et al. 2017)."""

    booster: Any
    threads: int

    @property
    def importance(self) -> np.ndarray:
        """Gain of each input, shape (inputs,)."""
        return np.asarray(self.booster.feature_importance("gain"), dtype=float)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """TreeSHAP values (Lundberg et al. 2020), shape (rows, inputs)."""
        return self.booster.predict(values, pred_contrib=True, num_threads=self.threads)[:, :-1]

    def outputs(self, values: np.ndarray) -> np.ndarray:
        """Scores, shape (rows,)."""
        return self.booster.predict(values, num_threads=self.threads)


@dataclass(frozen=True)
class Ridge:
    """A ridge regression on standardised inputs; missing values stand at the mean."""

    coefficients: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    @property
    def importance(self) -> np.ndarray:
        """Absolute coefficient a standard deviation of the input, shape (inputs,)."""
        return np.abs(self.coefficients)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Coefficient times distance from the mean: the SHAP values of a linear model with independent
        inputs; shape (rows, inputs).
        """
        return standardised(values, self.mean, self.spread) * self.coefficients

    def outputs(self, values: np.ndarray) -> np.ndarray:
        """Scores, shape (rows,)."""
        return standardised(values, self.mean, self.spread) @ self.coefficients


@dataclass(frozen=True)
class Learnt:
    """Rows prepared once for several fits to different targets: a binned LightGBM data set, or a
    Gram matrix.
    """

    family: Family
    values: np.ndarray
    prepared: Any
    threads: int
    seed: int
    rounds: int

    def fit(self, target: np.ndarray) -> Forest | Ridge:
        """Fit the family's model to `target`, shape (rows,)."""
        if self.family == "linear":
            gram, mean, spread, scored = self.prepared
            return Ridge(ridge(gram, scored.T @ (target - target.mean()) / len(target)), mean, spread)
        import lightgbm

        parameters = forest_parameters(len(target), self.threads, self.seed)
        self.prepared.set_label(target)
        return Forest(lightgbm.train(parameters, self.prepared, self.rounds), self.threads)


def prepare(family: Family, values: np.ndarray, *, rounds: int, threads: int, seed: int) -> Learnt:
    """Bin the inputs, or take their Gram matrix, once.

    `values` (rows, inputs) Float32 with NaN for missing.
    """
    if family == "linear":
        mean, spread = moments(values)
        scored = standardised(values, mean, spread)
        return Learnt(
            family, values, (scored.T @ scored / len(scored), mean, spread, scored), threads, seed, rounds
        )
    import lightgbm

    parameters = forest_parameters(len(values), threads, seed)
    data = lightgbm.Dataset(
        values, label=np.zeros(len(values), dtype=np.float32), params=parameters, free_raw_data=False
    )
    return Learnt(family, values, data.construct(), threads, seed, rounds)


def forest_parameters(rows: int, threads: int, seed: int) -> dict[str, Any]:
    """LightGBM's parameters for data with little signal."""
    return {
        "objective": "regression",
        "learning_rate": 0.08,
        "num_leaves": LEAVES,
        "min_data_in_leaf": max(20, rows // 200),
        "feature_fraction": 0.5,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
        "max_bin": 31,
        "feature_pre_filter": False,
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each input over its values; 0 and 1 where it has none or does not vary.

    Shapes (inputs,).
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
    spread = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)
    return mean, np.where(spread > 1e-6, spread, 1.0)


def standardised(values: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(value - mean) / spread, cut off at 5, missing ones 0; Float64, shape of `values`."""
    return np.nan_to_num(np.clip((values - mean) / spread, -LARGEST_INPUT, LARGEST_INPUT), nan=0.0)


def ridge(gram: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Coefficients for a Gram matrix on the correlation scale and the inputs' covariances with the target."""
    return np.linalg.solve(gram + RIDGE * np.eye(len(gram)), response)
