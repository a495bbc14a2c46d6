"""LightGBM (Ke et al. 2017), regularised for data with very little signal: few leaves, large leaves, rows and
inputs drawn anew for each tree.
"""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import atomic_write_text, require_json
from components.experts.bands import Bands, fit_bands
from components.experts.protocol import Advance, Task
from components.experts.rows import (
    Monitor,
    Stopper,
    TargetTransform,
    labelled,
    loss,
    matrix,
    sample_weights,
    target,
)
from components.scoring.form import write_form
from components.scoring.trees import lightgbm_graph
from components.settings import Section


class Settings(Section):
    """Size of the forest and its regularisation."""

    rounds: int = Field(400, ge=1, description="trees at most")
    patience_rounds: int = Field(
        50, ge=0, description="early stopping after so many trees without a gain; 0: never"
    )
    fewest_rounds: int = Field(25, ge=1, description="trees kept at least")
    learning_rate: float = Field(0.03, gt=0, le=1, description="weight of each tree")
    leaves: int = Field(15, ge=2, description="leaves of a tree at most")
    leaf_share: float = Field(
        0.002,
        gt=0,
        lt=0.5,
        description="smallest share of the train rows in a leaf; never fewer than 20 rows",
    )
    column_share: float = Field(0.3, gt=0, le=1, description="share of the inputs that a tree sees")
    row_share: float = Field(0.5, gt=0, le=1, description="share of the rows that a tree sees")
    l2: float = Field(10.0, ge=0, description="penalty on squared leaf values")
    bins: int = Field(63, ge=3, le=255, description="values that an input is binned to")
    monitor: Monitor = Field("rmse", description="what early stopping watches")
    target_transform: TargetTransform = Field(
        "cross_sectional_zscore", description="what is learned of the target at each bar"
    )


class Expert:
    """A gradient-boosted forest, saved as LightGBM's text."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.columns: list[str] = []
        self.booster: Any = None
        self.bands: Bands | None = None

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """Boost on the train rows until the early-stopping rows no longer gain.

        A warm start adds trees to those that are there.
        """
        self.columns = list(task.groups)
        train, stopping = labelled(frame, "train"), labelled(frame, "early_stopping")
        earlier = warm_start.booster if warm_start is not None else None
        self.booster = self._boost(train, stopping, task, advance, earlier)
        self.bands = fit_bands(stopping, self._raw(stopping), horizon=task.horizon)
        advance(1.0, f"{self.booster.num_trees()} trees")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Calibrated scores of the `predict` rows."""
        rows = frame.filter(pl.col("part") == "predict")
        return self.bands.predictions(rows, self._raw(rows))

    def save(self, folder: Path) -> None:
        """Write `lightgbm.txt` and `lightgbm.json`."""
        atomic_write_text(folder / "lightgbm.txt", self.booster.model_to_string())
        gain = dict(zip(self.columns, self.booster.feature_importance("gain").tolist(), strict=True))
        values = {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "gain": gain,
            "bands": self.bands.to_dict(),
        }
        atomic_write_text(folder / "lightgbm.json", json.dumps(values, indent=1))

    def export(self, folder: Path) -> None:
        """The trees as a graph."""
        write_form(folder, self.bands.served(self.columns, None), lightgbm_graph(self.booster.dump_model()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import lightgbm

        values = require_json(folder / "lightgbm.json")
        expert = cls(Settings.model_validate(values["settings"]))
        expert.columns, expert.bands = values["columns"], Bands.from_dict(values["bands"])
        expert.booster = lightgbm.Booster(model_str=(folder / "lightgbm.txt").read_text(encoding="utf-8"))
        return expert

    def _boost(
        self, train: pl.DataFrame, stopping: pl.DataFrame, task: Task, advance: Advance, earlier: Any
    ) -> Any:
        """The trees that the early-stopping rows keep, after those of `earlier`."""
        import lightgbm

        chosen, timestamps = self.settings, stopping["timestamp"]
        params = _parameters(chosen, task, len(train))
        data = self._data(train, params, weight=sample_weights(train))
        checks = self._data(stopping, params, reference=data)
        stopper = Stopper(chosen.patience_rounds, chosen.fewest_rounds)
        trees_before = earlier.num_trees() if earlier is not None else 0

        def measure(output: np.ndarray, dataset: Any) -> tuple[str, float, bool]:
            return chosen.monitor, loss(chosen.monitor, timestamps, output, dataset.get_label()), False

        def after_round(state: Any) -> None:
            stop = stopper.update(state.evaluation_result_list[0][2])
            stopper.report(advance, chosen.rounds, chosen.monitor)
            if stop:
                # LightGBM drops the trees after this one, and counts those of a warm start among them.
                raise lightgbm.callback.EarlyStopException(trees_before + stopper.rounds - 1, [])

        booster = lightgbm.train(
            params,
            data,
            num_boost_round=chosen.rounds,
            valid_sets=[checks],
            feval=measure,
            init_model=earlier,
            callbacks=[after_round],
            keep_training_booster=False,
        )
        kept = trees_before + stopper.kept_rounds
        return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=kept))

    def _data(self, rows: pl.DataFrame, params: dict[str, Any], **more: Any) -> Any:
        import lightgbm

        label = target(rows, self.settings.target_transform)
        return lightgbm.Dataset(
            matrix(rows, self.columns), label=label, params=params, free_raw_data=True, **more
        )

    def _raw(self, rows: pl.DataFrame) -> np.ndarray:
        return self.booster.predict(matrix(rows, self.columns)) if len(rows) else np.empty(0)


def _parameters(chosen: Settings, task: Task, rows: int) -> dict[str, Any]:
    return {
        "objective": "regression",
        "metric": "none",
        "learning_rate": chosen.learning_rate,
        "num_leaves": chosen.leaves,
        "min_data_in_leaf": max(20, int(rows * chosen.leaf_share)),
        "feature_fraction": chosen.column_share,
        "bagging_fraction": chosen.row_share,
        "bagging_freq": 1,
        "lambda_l2": chosen.l2,
        "max_bin": chosen.bins,
        "feature_pre_filter": False,
        "seed": task.seed,
        "num_threads": task.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
