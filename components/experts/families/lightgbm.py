"""LightGBM (Ke et al. 2017), regularised for data with very little signal: few leaves, large leaves, rows and
inputs drawn anew for each tree.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field

from components.contracts import atomic_write_text, require_json
from components.contracts.classes import class_values
from components.experts.bands import Bands
from components.experts.classes import (
    ClassHead,
    can_go_on,
    fit_head,
    learned_labels,
    monitor_of,
    read_head,
    watched_loss,
)
from components.experts.protocol import Advance, Task
from components.experts.rounds import Part, RoundsFrom, purged_parts, rounds_by_folds
from components.experts.rows import (
    Monitor,
    Refit,
    Stopper,
    labelled,
    matrix,
    sample_weights,
)
from components.scoring.form import write_form
from components.scoring.trees import lightgbm_graph
from components.settings import Section


class Settings(Section):
    """Size of the forest and its regularisation."""

    replaced: ClassVar = {"target_transform": "labels.transform, or transform of a leaf"}

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
    rounds_from: RoundsFrom = "newest_rows"
    refit: Refit = True
    monitor: Monitor = Field(
        "rmse", description="what early stopping watches; of a target of classes always average precision"
    )


class Expert:
    """A gradient-boosted forest, saved as LightGBM's text."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.columns: list[str] = []
        self.booster: Any = None
        self.bands: Bands | ClassHead | None = None
        self.goes_on = False

    def fit(
        self, frame: pl.DataFrame, task: Task, *, advance: Advance, warm_start: Self | None = None
    ) -> None:
        """Boost on the train rows until the early-stopping rows, or purged folds, no longer gain.

        A warm start adds trees to those that are there, by the early-stopping rows; one that learned other
        classes, or a number, is left aside.
        """
        self.columns = list(task.groups)
        train, stopping = labelled(frame, "train"), labelled(frame, "early_stopping")
        self.goes_on = warm_start is not None and can_go_on(warm_start.bands, task)
        earlier = warm_start.booster if self.goes_on else None
        parts = []
        if self.settings.rounds_from == "purged_folds" and earlier is None:
            parts = purged_parts(frame, train, task.horizon)
        rounds = self._rounds(train, parts, task, advance) if parts else None
        self.booster = self._boost(train, stopping, task, advance, earlier, rounds)
        self.bands = fit_head(stopping, self._raw(stopping), task)
        advance(1.0, f"{self.booster.num_trees()} trees")

    def learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        """As many trees again, grown on all rows; trees that were added to those of a warm start stay."""
        if not self.settings.refit or self.goes_on:
            return
        import lightgbm

        train = labelled(frame, "train")
        params = _parameters(self.settings, task, len(train))
        data = self._data(train, task, params, weight=sample_weights(train))
        rounds = self.booster.current_iteration()
        self.booster = lightgbm.train(params, data, num_boost_round=rounds, keep_training_booster=False)
        advance(1.0, f"{self.booster.num_trees()} trees from all rows")

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
        expert.columns, expert.bands = values["columns"], read_head(values["bands"])
        expert.booster = lightgbm.Booster(model_str=(folder / "lightgbm.txt").read_text(encoding="utf-8"))
        return expert

    def _rounds(self, train: pl.DataFrame, parts: list[Part], task: Task, advance: Advance) -> int:
        """The number of trees that purged folds choose."""
        import lightgbm

        chosen = self.settings
        whole = self._data(train, task, _parameters(chosen, task, len(train)), weight=sample_weights(train))
        whole.construct()

        def grower(part: Part) -> Callable[[], float]:
            params = _parameters(chosen, task, len(part.learned))
            booster = lightgbm.Booster(params, whole.subset(part.learned))
            booster.add_valid(whole.subset(part.held), "held")
            timestamps = train["timestamp"].gather(part.held)

            def measure(output: np.ndarray, dataset: Any) -> tuple[str, float, bool]:
                found = watched_loss(task, chosen.monitor, timestamps, output, dataset.get_label())
                return chosen.monitor, found, False

            def grow() -> float:
                booster.update()
                return booster.eval_valid(measure)[-1][2]

            return grow

        growers = [grower(part) for part in parts]
        stopper = Stopper(chosen.patience_rounds, chosen.fewest_rounds)
        return rounds_by_folds(
            growers, parts, stopper, chosen.rounds, monitor=monitor_of(task, chosen.monitor), advance=advance
        )

    def _boost(
        self,
        train: pl.DataFrame,
        stopping: pl.DataFrame,
        task: Task,
        advance: Advance,
        earlier: Any,
        rounds: int | None,
    ) -> Any:
        """`rounds` trees, or as many as the early-stopping rows keep, after those of `earlier`."""
        import lightgbm

        chosen, timestamps = self.settings, stopping["timestamp"]
        params = _parameters(chosen, task, len(train))
        data = self._data(train, task, params, weight=sample_weights(train))
        checks = self._data(stopping, task, params, reference=data)
        stopper = Stopper(0 if rounds else chosen.patience_rounds, chosen.fewest_rounds)
        rounds_before = earlier.current_iteration() if earlier is not None else 0

        def measure(output: np.ndarray, dataset: Any) -> tuple[str, float, bool]:
            found = watched_loss(task, chosen.monitor, timestamps, output, dataset.get_label())
            return chosen.monitor, found, False

        def after_round(state: Any) -> None:
            stop = stopper.update(state.evaluation_result_list[0][2])
            stopper.report(advance, chosen.rounds, monitor_of(task, chosen.monitor))
            if stop:
                # LightGBM drops the trees after this one, and counts those of a warm start among them.
                raise lightgbm.callback.EarlyStopException(rounds_before + stopper.rounds - 1, [])

        booster = lightgbm.train(
            params,
            data,
            num_boost_round=rounds or chosen.rounds,
            valid_sets=[checks],
            feval=measure,
            init_model=earlier,
            callbacks=[after_round],
            keep_training_booster=False,
        )
        kept = rounds_before + stopper.kept_rounds
        return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=kept))

    def _data(self, rows: pl.DataFrame, task: Task, params: dict[str, Any], **more: Any) -> Any:
        import lightgbm

        label = learned_labels(rows, task)
        return lightgbm.Dataset(
            matrix(rows, self.columns), label=label, params=params, free_raw_data=True, **more
        )

    def _raw(self, rows: pl.DataFrame) -> np.ndarray:
        """The forest's sum [B], of classes logits [B, C]."""
        classes = self.booster.num_model_per_iteration()
        if not len(rows):
            return np.empty((0, classes)) if classes > 1 else np.empty(0)
        return self.booster.predict(matrix(rows, self.columns), raw_score=True)


def _parameters(chosen: Settings, task: Task, rows: int) -> dict[str, Any]:
    classes = len(class_values(task.target))
    learned = {"objective": "multiclass", "num_class": classes} if classes else {"objective": "regression"}
    return {
        **learned,
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
