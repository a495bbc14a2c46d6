"""The objective of learning from labels: the loss of a batch, put together of its weighed parts.

Shapes: N rows, B windows of a batch, T tasks, C classes down, flat, up.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from components.contracts import REGIMES
from components.experts.errors import ExpertError
from components.experts.neural.batch import Batch
from components.experts.neural.config import Losses, Regularisation
from components.experts.neural.heads import CLASSES, ModelOutputs
from components.experts.neural.losses import (
    distillation,
    focal,
    huber_with_cost,
    pinball,
    segment_correlation,
    soft_spearman,
)
from components.experts.neural.regularise import (
    capped,
    cutout,
    depth_by_turnover,
    mixup,
    numbered,
    smooth_classes,
)
from components.experts.neural.targets import Targets

# Of the soft ranks, in standard deviations of the score: low enough that they nearly are ranks, high enough
# that rows far apart still give a gradient.
RANK_TEMPERATURE = 0.1
# Where the Huber loss becomes linear, in deviations: targets are standardised, and beyond one lie the tails.
HUBER_DELTA = 1.0
# Round-trip cost, in deviations of the target: scores below it would not be traded, whatever their sign.
COST_DEVIATIONS = 0.1


class Supervised:
    """The objective of learning from labels: `prepare` a batch, run the model, take the `loss`.

    The tensors of `prepare` have the batch as their first axis and segments that hold across batches, and
    `loss` looks at nothing else: with the outputs and targets of several processes put together it is the
    loss of their common batch. Mixup and cutout are drawn for each batch alone.
    """

    def __init__(
        self,
        targets: Targets,
        losses: Losses,
        regularisation: Regularisation,
        device: torch.device,
    ):
        self.losses, self.regularisation = losses, regularisation
        factor_N = regime_factors(targets.regime_N, losses.regimes)
        self._tables = {
            "score_BT": torch.from_numpy(targets.score_NT).to(device),
            "quantile_BT": torch.from_numpy(targets.quantile_NT).to(device),
            "weight_B": torch.from_numpy(targets.weight_N * factor_N).to(device),
            "volatile_B": torch.from_numpy(targets.volatile_N).to(device),
            "segment_B": torch.from_numpy(targets.day_N.astype(np.int64)).to(device),
        }
        if losses.focal:
            self._tables["direction_BC"] = smooth_classes(
                _one_hot(torch.from_numpy(targets.direction_N)), regularisation.label_smoothing
            ).to(device)
        if targets.teacher_N is not None and losses.distillation:
            self._tables["teacher_B"] = torch.from_numpy(targets.teacher_N.astype(np.float32)).to(device)

    def prepare(
        self, batch: Batch, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Batch, dict[str, Tensor]]:
        """The batch and its targets, both changed by mixup and cutout where those are on, and how deep each
        window goes.
        """
        index_B = torch.from_numpy(rows_B).to(batch.inputs_BLF.device, non_blocking=True)
        targets = {name: table.index_select(0, index_B) for name, table in self._tables.items()}
        if batch.slot_B is None:
            targets["segment_B"] = torch.zeros_like(targets["segment_B"])
        batch = depth_by_turnover(batch, self.regularisation.depth_by_turnover)
        if self.regularisation.mixup:
            batch, targets = mixup(batch, targets, self.regularisation.mixup, generator)
        if self.regularisation.cutout_bars:
            batch = cutout(
                batch, self.regularisation.cutout_bars, self.regularisation.cutout_chance, generator
            )
        return batch, targets

    def loss(self, outputs: ModelOutputs, targets: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, the network's own penalty included, and its parts: each before its weight,
        detached.
        """
        losses = self.losses
        segment_B = numbered(targets["segment_B"])
        weight_B = capped(targets["weight_B"], targets["volatile_B"], self.regularisation.volatile_share)
        tasks = [
            self._task(outputs, targets, task, segment_B, weight_B)
            for task in range(targets["score_BT"].shape[1])
        ]
        parts = dict(tasks[0])
        total = self._weighed(tasks[0])
        if losses.also and len(tasks) > 1:
            parts["also"] = torch.stack([self._weighed(task) for task in tasks[1:]]).mean()
            total = total + losses.also * parts["also"]
        if losses.focal:
            parts["focal"] = focal(
                outputs.direction_BC, targets["direction_BC"], weight_B, losses.focal_gamma
            )
            total = total + losses.focal * parts["focal"]
        if "teacher_B" in targets:
            labelled_B = ~targets["score_BT"][:, 0].isnan()
            parts["distillation"] = distillation(
                outputs.score_BT[:, 0], targets["teacher_B"], torch.where(labelled_B, weight_B, 0.0)
            )
            total = total + losses.distillation * parts["distillation"]
        parts["penalty"] = outputs.encoded.penalty
        return total + parts["penalty"], {name: part.detach() for name, part in parts.items()}

    def _task(
        self,
        outputs: ModelOutputs,
        targets: Mapping[str, Tensor],
        task: int,
        segment_B: Tensor,
        weight_B: Tensor,
    ) -> dict[str, Tensor]:
        losses, score_B, target_B = self.losses, outputs.score_BT[:, task], targets["score_BT"][:, task]
        parts = {}
        if losses.correlation:
            parts["correlation"] = 1.0 - segment_correlation(score_B, target_B, segment_B, weight_B)
        if losses.soft_spearman:
            parts["soft_spearman"] = 1.0 - soft_spearman(
                score_B, target_B, segment_B, weight_B, RANK_TEMPERATURE
            )
        if losses.huber:
            cost = (losses.cost_penalty, COST_DEVIATIONS)
            parts["huber"] = huber_with_cost(score_B, target_B, weight_B, HUBER_DELTA, *cost)
        if losses.pinball:
            parts["pinball"] = pinball(
                outputs.quantiles_BT3[:, task], targets["quantile_BT"][:, task], weight_B
            )
        return parts

    def _weighed(self, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.losses, name) * part for name, part in parts.items()]).sum()


def regime_factors(regime_N: np.ndarray, factors: Mapping[str, float]) -> np.ndarray:
    """Factor of each row's weight by its regime, 1 where the regime is unknown or not named; float32.

    Raises
    ------
    ExpertError
        If a name is not one of REGIMES, or a factor is negative or not finite.
    """
    unknown = sorted(set(factors) - set(REGIMES))
    if unknown:
        raise ExpertError(
            f"losses.regimes names {', '.join(unknown)}, which is no regime. The regimes are"
            f" {', '.join(REGIMES)}."
        )
    wrong = {name: value for name, value in factors.items() if not (math.isfinite(value) and value >= 0)}
    if wrong:
        raise ExpertError(f"losses.regimes holds {wrong}. A weight is a finite number of 0 or more.")
    factor_R = np.array([factors.get(name, 1.0) for name in REGIMES] + [1.0], dtype=np.float32)
    return factor_R[regime_N]


def _one_hot(direction_N: Tensor) -> Tensor:
    """Float32 [N, C]; zeros for -1."""
    return (direction_N[:, None] == torch.arange(CLASSES)).float()
