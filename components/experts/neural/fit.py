"""One fit of a network, phase by phase: pretraining, learning from labels, the student, the bands.

Shapes: N rows, B windows, T tasks, E width of the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from components.contracts import VOLATILITY_COLUMN
from components.contracts.classes import class_values
from components.contracts.documents.experts import Epoch
from components.experts.neural import pretraining
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.bands import train_bands
from components.experts.neural.class_targets import heads_classes
from components.experts.neural.config import Neural
from components.experts.neural.continual import teach_student
from components.experts.neural.engine import Job, Keep, Watch, train
from components.experts.neural.family import Family
from components.experts.neural.heads import ForecastModel
from components.experts.neural.monitor import average_precision, monitored, some_timestamps
from components.experts.neural.panel import Panel
from components.experts.neural.phases import Phase, Progress
from components.experts.neural.predict import Predicted, predict, predict_among_others
from components.experts.neural.supervised import Supervised
from components.experts.neural.targets import Targets, make_targets
from components.experts.neural.track import Tracker
from components.experts.protocol import Advance, Task
from components.experts.rows import labelled

SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class FitRows:
    """The bars of a fit, and numbers of rows in them.

    train : every row of the training window
    learned : those that are learned from: the labelled ones, or every row of their days where the network
        looks across symbols
    watched, judged : the early-stopping rows that are looked at, as numbers and as a table
    """

    bars: PanelArrays
    train: np.ndarray
    learned: np.ndarray
    watched: np.ndarray
    judged: pl.DataFrame


def fit_rows(bars: PanelArrays, frame: pl.DataFrame, most: int, seed: int, *, whole_days: bool) -> FitRows:
    """The rows of a fit; at most about `most` early-stopping rows are watched.

    Raises
    ------
    ExpertError
        If no early-stopping row has a label.
    """
    stopping = labelled(
        frame.select("timestamp", "symbol", "part", "label", VOLATILITY_COLUMN), "early_stopping"
    )
    known, numbers = bars.rows("train", labelled=True), bars.rows("early_stopping", labelled=True)
    train_rows = bars.rows("train")
    learned = of_their_days(bars, train_rows, known) if whole_days else known
    watched, judged = some_timestamps(bars, numbers, stopping, most, seed)
    return FitRows(bars, train_rows, learned, watched, judged)


def of_their_days(bars: PanelArrays, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Those of `rows` that lie on the days of `known`."""
    return rows[np.isin(bars.day_N[rows], np.unique(bars.day_N[known]))]


@dataclass(frozen=True)
class NetworkFit:
    """One fit of a family's network; the model, on the panel's device, is changed in place."""

    family: Family
    settings: Neural
    task: Task
    model: ForecastModel
    panel: Panel
    rows: FitRows

    def run(self, advance: Advance) -> dict[str, list[Epoch]]:
        """All phases that the settings switch on, one after the other; returns the course of each by name.

        Raises
        ------
        ExpertError
            If the loss stops being a number, or weights are unusable.
        """
        settings, task, steps = self.settings, self.task, Progress(advance, self.settings)
        history = {}
        if settings.pretraining.epochs:
            phase = self._phase(self.rows.train, steps.pretraining, self.model.network)
            history["pretraining"] = pretraining.pretrain(phase, settings)
        horizons = [task.horizon, *(horizon for _, horizon in task.also)]
        targets = make_targets(
            self.rows.bars,
            self.rows.learned,
            settings.losses,
            settings.regularisation,
            horizons,
            task.transform,
            class_values(task.target),
        )
        history["training"] = self._learn(targets, steps.training)
        if settings.continual.student_bars:
            phase = self._phase(self.rows.learned, steps.student)
            history["student"] = teach_student(phase, targets, settings, self._monitor)
        self._scale_masks()
        if settings.training.band_epochs:
            phase = self._phase(self.rows.learned, steps.bands, whole_days=self.family.whole_days)
            history["bands"] = train_bands(phase, self.rows.watched, targets, settings, task.horizon)
        return history

    def watched(self, *, explain: bool = False) -> Predicted:
        """What the model says about the watched early-stopping rows."""
        return predicted(
            self.family, self.settings, self.model, self.panel, self.rows.watched, explain=explain
        )

    def _phase(
        self, rows: np.ndarray, advance: Advance, model: Any = None, *, whole_days: bool | None = None
    ) -> Phase:
        return Phase(
            self.model if model is None else model,
            self.panel,
            rows,
            self.task.seed,
            advance,
            days_together(self.family, self.settings) if whole_days is None else whole_days,
        )

    def _monitor(self) -> float:
        settings, judged = self.settings, self.rows.judged
        values = class_values(self.task.target)
        if values:
            class_N = heads_classes(judged["label"].to_numpy(), values)
            return average_precision(self.watched().direction_NC, class_N)
        monitor = settings.training.monitor
        return monitored(monitor, self.watched(), judged, settings.losses, self.task.transform)

    def _learn(self, targets: Targets, advance: Advance) -> list[Epoch]:
        settings, task = self.settings, self.task
        objective = Supervised(targets, settings.losses, settings.regularisation, self.panel.device)
        whole_days = days_together(self.family, settings)
        parameters = {
            "expert": self.family.name,
            "seed": task.seed,
            "target": task.target,
            "horizon": task.horizon,
        }
        with Tracker(task.tracking, task.name or self.family.name, parameters) as tracker:
            return train(
                Job(self.model, objective, self.panel, self.rows.learned, task.seed, whole_days),
                settings.training,
                settings.optimiser,
                Watch(advance, self._monitor, tracker.log if task.tracking else None),
                Keep(task.checkpoints / "training" if task.checkpoints else None, task.key),
            )

    def _scale_masks(self) -> None:
        """Make the usual spread of the dropout masks' scores, over the early-stopping rows, the one that
        leaves the band as wide as it is.
        """
        if not len(self.model.masks_ME):
            return
        bars, watched = self.rows.bars, self.rows.watched
        if self.family.whole_days:
            day_N = bars.day_N
            some = np.flatnonzero(np.isin(day_N, np.unique(day_N[watched])))
            some = some[day_N[some] == day_N[some[0]]]
        else:
            some = watched[: self.settings.training.predict_windows]
        self.model.eval()
        with torch.inference_mode():
            encoded = self.model.network(self.panel.batch(some))
            spread = self.model.sampled_scores(encoded.embedding_BTE).std(dim=0)[:, 0].median()
        self.model.usual_spread.fill_(max(float(spread), SMALLEST_SPREAD))


def days_together(family: Family, settings: Neural) -> bool:
    """Whether the batches of a training are whole timestamps."""
    return family.whole_days or settings.training.batch == "days"


def predicted(
    family: Family,
    settings: Neural,
    model: ForecastModel,
    panel: Panel,
    rows: np.ndarray,
    *,
    explain: bool = False,
) -> Predicted:
    """What the model says about `rows`; a network across symbols is shown all symbols of their days that the
    frame holds.
    """
    asked = predict_among_others if family.whole_days else predict
    return asked(model, panel, rows, settings.training.predict_windows, explain=explain)


def take_weights(model: ForecastModel, earlier: Mapping[str, torch.Tensor], *, same_codes: bool) -> None:
    """Copy weights of an earlier fit where names and shapes agree; those of sectors and industries only where
    the numbers mean the same ones (`same_codes`).
    """
    own = model.state_dict()
    fitting = {
        name: weight
        for name, weight in earlier.items()
        if (same_codes or not ("sector" in name or "industry" in name))
        and name in own
        and own[name].shape == weight.shape
    }
    model.load_state_dict({**own, **fitting})
