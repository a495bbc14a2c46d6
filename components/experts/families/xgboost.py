"""XGBoost (Chen and Guestrin 2016) with histograms, on CUDA where there is any, regularised for data with
very little signal.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

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
from components.progress import warn
from components.scoring.form import write_form
from components.scoring.trees import xgboost_graph
from components.settings import Section


class Settings(Section):
    """Size of the forest and its regularisation."""

    replaced: ClassVar = {"target_transform": "labels.transform, or transform of a leaf"}

    rounds: int = Field(250, ge=1, description="trees at most")
    patience_rounds: int = Field(
        40, ge=0, description="early stopping after so many trees without a gain; 0: never"
    )
    fewest_rounds: int = Field(25, ge=1, description="trees kept at least")
    learning_rate: float = Field(0.05, gt=0, le=1, description="weight of each tree")
    depth: int = Field(4, ge=1, le=12, description="levels of a tree")
    leaf_share: float = Field(
        0.002,
        gt=0,
        lt=0.5,
        description="smallest share of the train rows that a tree sees in a leaf; never fewer than 20 rows",
    )
    column_share: float = Field(0.3, gt=0, le=1, description="share of the inputs that a tree sees")
    row_share: float = Field(0.5, gt=0, le=1, description="share of the rows that a tree sees")
    l2: float = Field(10.0, ge=0, description="penalty on squared leaf values")
    bins: int = Field(64, ge=3, le=256, description="values that an input is binned to")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: CUDA where there is any, else the CPU; cuda falls back to the CPU with a warning",
    )
    rounds_from: RoundsFrom = "newest_rows"
    refit: Refit = True
    monitor: Monitor = Field(
        "rmse", description="what early stopping watches; of a target of classes always average precision"
    )


class Expert:
    """A gradient-boosted forest, saved as XGBoost's UBJSON."""

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
        self.booster = _on_a_device(
            self.settings.device,
            lambda device: self._boost(train, stopping, parts, task, device, advance, earlier),
        )
        self.bands = fit_head(stopping, self._raw(stopping), task)
        advance(1.0, f"{self.booster.num_boosted_rounds()} trees")

    def learn_all(self, frame: pl.DataFrame, task: Task, *, advance: Advance) -> None:
        """As many trees again, grown on all rows; trees that were added to those of a warm start stay."""
        if not self.settings.refit or self.goes_on:
            return
        import xgboost

        train, rounds = labelled(frame, "train"), self.booster.num_boosted_rounds()
        data = self._data(train, task, weight=sample_weights(train))
        self.booster = _on_a_device(
            self.settings.device,
            lambda device: xgboost.train(
                _parameters(self.settings, task, len(train), device), data, num_boost_round=rounds
            ),
        )
        self.booster.set_param({"device": "cpu"})
        advance(1.0, f"{rounds} trees from all rows")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Calibrated scores of the `predict` rows."""
        rows = frame.filter(pl.col("part") == "predict")
        return self.bands.predictions(rows, self._raw(rows))

    def save(self, folder: Path) -> None:
        """Write `xgboost.ubj` and `xgboost.json`."""
        self.booster.save_model(folder / "xgboost.ubj")
        gain = {
            self.columns[int(name[1:])]: value
            for name, value in self.booster.get_score(importance_type="total_gain").items()
        }
        values = {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "gain": gain,
            "bands": self.bands.to_dict(),
        }
        atomic_write_text(folder / "xgboost.json", json.dumps(values, indent=1))

    def export(self, folder: Path) -> None:
        """The trees as a graph."""
        write_form(
            folder, self.bands.served(self.columns, None), xgboost_graph(bytes(self.booster.save_raw("json")))
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import xgboost

        values = require_json(folder / "xgboost.json")
        expert = cls(Settings.model_validate(values["settings"]))
        expert.columns, expert.bands = values["columns"], read_head(values["bands"])
        expert.booster = xgboost.Booster(model_file=folder / "xgboost.ubj")
        return expert

    def _rounds(
        self, train: pl.DataFrame, parts: list[Part], task: Task, device: str, advance: Advance
    ) -> int:
        """The number of trees that purged folds choose."""
        import xgboost

        chosen, wanted, weight = self.settings, learned_labels(train, task), sample_weights(train)
        bins = {"max_bin": chosen.bins, "nthread": task.threads}

        def grower(part: Part) -> Callable[[], float]:
            counted = None if weight is None else weight[part.learned]
            learned = xgboost.QuantileDMatrix(
                matrix(train[part.learned], self.columns), wanted[part.learned], weight=counted, **bins
            )
            held = xgboost.QuantileDMatrix(matrix(train[part.held], self.columns), ref=learned, **bins)
            params = _parameters(chosen, task, len(part.learned), device)
            booster = xgboost.Booster(params, [learned, held])
            timestamps, label = train["timestamp"].gather(part.held), wanted[part.held]

            def grow() -> float:
                booster.update(learned, booster.num_boosted_rounds())
                return watched_loss(task, chosen.monitor, timestamps, booster.predict(held), label)

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
        parts: list[Part],
        task: Task,
        device: str,
        advance: Advance,
        earlier: Any,
    ) -> Any:
        import xgboost

        chosen, timestamps = self.settings, stopping["timestamp"]
        wanted = learned_labels(stopping, task)
        data = self._data(train, task, weight=sample_weights(train))
        checks = self._data(stopping, task, ref=data)
        rounds = self._rounds(train, parts, task, device, advance) if parts else None
        stopper = Stopper(0 if rounds else chosen.patience_rounds, chosen.fewest_rounds)

        class AfterRound(xgboost.callback.TrainingCallback):
            def after_iteration(self, model: Any, epoch: int, evals_log: dict) -> bool:
                stop = stopper.update(evals_log["early_stopping"]["monitor"][-1])
                stopper.report(advance, chosen.rounds, monitor_of(task, chosen.monitor))
                return stop

        def measure(output: np.ndarray, dataset: Any) -> tuple[str, float]:
            return "monitor", watched_loss(task, chosen.monitor, timestamps, output, wanted)

        booster = xgboost.train(
            _parameters(chosen, task, len(train), device),
            data,
            num_boost_round=rounds or chosen.rounds,
            evals=[(checks, "early_stopping")],
            custom_metric=measure,
            callbacks=[AfterRound()],
            verbose_eval=False,
            xgb_model=earlier.copy() if earlier is not None else None,
        )
        kept = booster[: stopper.kept_rounds + (earlier.num_boosted_rounds() if earlier is not None else 0)]
        kept.set_param({"device": "cpu"})
        return kept

    def _data(self, rows: pl.DataFrame, task: Task, **more: Any) -> Any:
        import xgboost

        bins = {"max_bin": self.settings.bins, "nthread": task.threads}
        return xgboost.QuantileDMatrix(matrix(rows, self.columns), learned_labels(rows, task), **bins, **more)

    def _raw(self, rows: pl.DataFrame) -> np.ndarray:
        """The forest's sum [B], of classes logits [B, C]."""
        if not len(rows):
            return np.empty((0, len(self.bands.values))) if isinstance(self.bands, ClassHead) else np.empty(0)
        return self.booster.inplace_predict(matrix(rows, self.columns), predict_type="margin", missing=np.nan)


def _on_a_device(wanted: str, boost: Callable[[str], Any]) -> Any:
    """The forest that `boost` grows on CUDA where there is any; on the CPU, with a warning, where that
    fails.
    """
    import xgboost

    device = _device(wanted)
    try:
        return boost(device)
    except xgboost.core.XGBoostError as error:
        if device == "cpu":
            raise
        warn(
            "train xgboost",
            f"CUDA failed ({str(error).strip().splitlines()[0]}); training on the CPU instead.",
        )
        return boost("cpu")


def _device(wanted: str) -> str:
    """`cuda` only where the library was built for it; whether a card is there shows when training begins."""
    import xgboost

    if wanted == "cpu" or not xgboost.build_info().get("USE_CUDA"):
        if wanted == "cuda":
            warn(
                "train xgboost",
                "This XGBoost is built without CUDA; training on the CPU instead. Install the package"
                " `xgboost` (extra `gpu`).",
            )
        return "cpu"
    return "cuda" if wanted == "cuda" or any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


def _parameters(chosen: Settings, task: Task, rows: int, device: str) -> dict[str, Any]:
    classes = len(class_values(task.target))
    learned = (
        {"objective": "multi:softprob", "num_class": classes}
        if classes
        else {"objective": "reg:squarederror"}
    )
    return {
        **learned,
        "disable_default_eval_metric": 1,
        "tree_method": "hist",
        "device": device,
        "eta": chosen.learning_rate,
        "max_depth": chosen.depth,
        "min_child_weight": max(20, int(rows * chosen.row_share * chosen.leaf_share)),
        "colsample_bytree": chosen.column_share,
        "subsample": chosen.row_share,
        "lambda": chosen.l2,
        "max_bin": chosen.bins,
        "seed": task.seed,
        "seed_per_iteration": True,
        "nthread": task.threads,
        "verbosity": 0,
    }
