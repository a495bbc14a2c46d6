"""The last phase of a fit: the bands learn which rows are noisy while everything that the score depends on
stays as it is.

The epoch that orders symbols best may come before the quantiles have learned anything, so they learn again by
themselves. The network runs once over the rows; what it says is a table of which the bands learn. Shapes: N
rows of a table, B rows of a batch, K inputs of the bands.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from components.experts.neural import distributed
from components.experts.neural.config import Neural
from components.experts.neural.heads import ForecastModel, ordered, widened
from components.experts.neural.panel import Panel, epoch_batches
from components.experts.neural.phases import Phase
from components.experts.neural.predict import parts

if TYPE_CHECKING:
    from components.experts.neural.targets import Targets

# How the bands learn, whatever the settings say of the network.
EPOCH = {"batch": "rows", "batch_windows": 256, "accumulate_batches": 1}
STEPS = {"name": "adamw", "learning_rate": 1e-2, "cycles": 1, "average_decay": 0.0, "bfloat16": "never"}


@dataclass(frozen=True)
class BandRows:
    """Rows as the bands see them; to the engine it is the panel.

    inputs_NK : what the bands are given
    raw_N3, factor_N : the raw quantiles that they add to, and the factor by which dropout masks widen the
        result
    target_N, weight_N : label in units of volatility, NaN where there is none, and how much the row counts
    """

    inputs_NK: Tensor
    raw_N3: Tensor
    factor_N: Tensor
    target_N: Tensor
    weight_N: Tensor
    day_N: np.ndarray

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self.inputs_NK.device

    def batch(self, rows_B: np.ndarray) -> Tensor:
        """Inputs [B, K] of rows."""
        return self.inputs_NK[torch.from_numpy(rows_B).to(self.device)]

    def loss(self, added_N3: Tensor) -> Tensor:
        """Mean pinball loss of all rows, given what the bands add."""
        return _loss(added_N3, vars(self))


class Pinball:
    """The objective: pinball loss of the rows of a table, whose scores nothing here can reach."""

    def __init__(self, table: BandRows):
        self.table = table

    def prepare(
        self, inputs_BK: Tensor, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The inputs as they are, and what their loss needs."""
        index_B = torch.from_numpy(rows_B).to(inputs_BK.device)
        return inputs_BK, {
            name: getattr(self.table, name)[index_B]
            for name in ("raw_N3", "factor_N", "target_N", "weight_N")
        }

    def loss(self, added_B3: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, which has no parts."""
        return _loss(added_B3, targets), {}


def train_bands(
    phase: Phase, watched: np.ndarray, targets: "Targets", settings: Neural, horizon: int
) -> list[dict[str, float]]:
    """Train `bands` of the phase's model, and nothing else of it; `watched` rows choose the epoch, before the
    first one included.

    Parameters
    ----------
    phase : its rows are train rows, labelled or not; at most `training.max_train_windows` of them are drawn,
        once. `whole_days`: the network looks across symbols
    watched : labelled early-stopping rows
    targets : of the train rows
    horizon : bars that the first task's label spans

    Returns
    -------
    An entry before the first epoch (`monitor` alone) and one an epoch; the monitor is minus the mean pinball
    loss of the watched rows.
    """
    from components.experts.neural.engine import Job, Watch, train

    bands, training = phase.model.bands, settings.training
    learned = _learned(phase, targets, settings)
    judged = _judged(phase, watched, training.predict_windows, horizon)

    def monitor() -> float:
        with torch.inference_mode():
            return -float(judged.loss(bands(judged.inputs_NK)))

    before = {name: value.clone() for name, value in bands.state_dict().items()}
    history = [{"monitor": distributed.agreed(monitor() if distributed.is_main() else math.nan)}]
    bands.requires_grad_(True)
    history += train(
        Job(bands, Pinball(learned), learned, np.arange(len(learned.day_N)), phase.seed),
        training.model_copy(update={**EPOCH, "epochs": training.band_epochs}),
        settings.optimiser.model_copy(update=STEPS),
        Watch(phase.advance, monitor),
    )
    bands.requires_grad_(False)
    if not max(entry["monitor"] for entry in history[1:]) > history[0]["monitor"]:
        bands.load_state_dict(before)
    return history


def _learned(phase: Phase, targets: "Targets", settings: Neural) -> BandRows:
    """The rows that the bands learn from, drawn once."""
    training = settings.training
    drawn = epoch_batches(
        phase.rows,
        phase.panel.day_N,
        whole_days=phase.whole_days,
        batch_windows=training.batch_windows,
        most_windows=training.max_train_windows,
        seed=phase.seed,
        epoch=0,
    )
    return table(
        phase.model,
        phase.panel,
        np.concatenate(drawn),
        targets.quantile_NT[:, 0],
        targets.weight_N,
        training.predict_windows,
        whole_days=phase.whole_days,
    )


def _judged(phase: Phase, watched: np.ndarray, windows: int, horizon: int) -> BandRows:
    """The rows by which the epoch is chosen, all of one weight."""
    from components.experts.neural.targets import QUANTILE_CLIP

    bars = phase.panel.bars
    target_N = np.clip(bars.label_N / (bars.volatility_N * math.sqrt(horizon)), -QUANTILE_CLIP, QUANTILE_CLIP)
    weight_N, whole_days = np.ones_like(target_N), phase.whole_days
    return table(phase.model, phase.panel, watched, target_N, weight_N, windows, whole_days=whole_days)


def table(
    model: ForecastModel,
    panel: Panel,
    rows: np.ndarray,
    target_N: np.ndarray,
    weight_N: np.ndarray,
    windows: int,
    *,
    whole_days: bool,
) -> BandRows:
    """What the model says about rows, in their days' order; a network across symbols is shown all rows of
    their days.
    """
    model.eval()
    shown = np.flatnonzero(np.isin(panel.day_N, np.unique(panel.day_N[rows]))) if whole_days else rows
    shown = shown[np.argsort(panel.day_N[shown], kind="stable")]
    with torch.inference_mode():
        prepared = panel.prepared(model.network)
        found = [
            model.band_parts(panel.batch(shown[part], prepared))
            for part in parts(panel.day_N[shown], windows, whole_days)
        ]
    wanted = np.isin(shown, rows)
    kept, mask = shown[wanted], torch.from_numpy(wanted).to(panel.device)
    # Cloned outside inference mode, so that they may be part of a graph.
    inputs_NK, raw_N3, factor_N = (torch.cat(values)[mask].clone() for values in zip(*found, strict=True))
    target, weight = (
        torch.from_numpy(values[kept].astype(np.float32)).to(panel.device) for values in (target_N, weight_N)
    )
    return BandRows(inputs_NK, raw_N3, factor_N, target, weight, panel.day_N[kept])


def _loss(added_B3: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
    from components.experts.neural.losses import pinball

    return pinball(
        widened(ordered(rows["raw_N3"] + added_B3), rows["factor_N"]), rows["target_N"], rows["weight_N"]
    )
