"""What the steps of a training were like, without holding up the device."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.experts.errors import ExpertError
from components.experts.neural.job import Log

# Steps that a GPU may be ahead of the check of their figures, so that the check does not hold it up.
UNCHECKED_STEPS = 2


@dataclass(frozen=True)
class StepPlace:
    """Where in a training a step stands, of how many batches it was, and its learning rate."""

    step: int
    epoch: int
    batches: int
    learning_rate: float


@dataclass(frozen=True)
class StepFigures:
    """What one step was like. The values may still be on their way from the device until `arrived`."""

    names: tuple[str, ...]
    values: Tensor
    arrived: Any
    place: StepPlace


class FigureCheck:
    """Figures of steps on their way from the device: counted, logged and judged when they have arrived."""

    def __init__(self, log: Log | None, steps: int):
        self._log, self._steps = log, steps
        self._unchecked: deque[StepFigures] = deque()
        # Loss of the newest step that was checked.
        self.latest = math.nan

    def note(self, figures: dict[str, Tensor], place: StepPlace, sums: dict[str, float]) -> None:
        """Send a step's figures to the CPU, and check those that have arrived."""
        values = torch.stack([value.detach().float().reshape(()) for value in figures.values()])
        arrived = None
        if values.device.type == "cuda":
            values = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._unchecked.append(StepFigures(tuple(figures), values, arrived, place))
        self.check(sums, UNCHECKED_STEPS if arrived else 0)

    def check(self, sums: dict[str, float], most: int = 0) -> None:
        """Add the oldest steps to the epoch's `sums`, log and judge them, until at most `most` are left
        unchecked.

        Raises
        ------
        ExpertError
            If a loss or the norm of its gradient is not finite.
        """
        while len(self._unchecked) > most:
            figures = self._unchecked.popleft()
            place = figures.place
            if figures.arrived is not None:
                figures.arrived.synchronize()
            values = dict(zip(figures.names, figures.values.tolist(), strict=True))
            for name, value in values.items():
                if not math.isfinite(value) and name in ("loss", "gradient_norm"):
                    raise self._not_finite(place, name, values)
            norm = values.pop("gradient_norm")
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            if self._log:
                means = {name: value / place.batches for name, value in values.items()}
                self._log(
                    place.step + 1, {**means, "gradient_norm": norm, "learning_rate": place.learning_rate}
                )
            self.latest = values["loss"] / place.batches

    def _not_finite(self, place: StepPlace, name: str, values: dict[str, float]) -> ExpertError:
        what = {"loss": "The loss", "gradient_norm": "The norm of the gradients"}[name]
        parts = ", ".join(f"{part} {value:.4g}" for part, value in values.items())
        return ExpertError(
            f"{what} is {values[name]} at step {place.step + 1} of about {self._steps} (epoch"
            f" {place.epoch + 1}, learning rate {place.learning_rate:.3g}; {parts}). The training stops"
            " there. Set a lower optimiser.learning_rate or optimiser.clip_norm, a longer"
            " optimiser.warm_up_share, or optimiser.bfloat16: never; if it stays, look for inputs or labels"
            " of an odd size."
        )
