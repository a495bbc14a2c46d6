"""What a training of a network is given: what is learned of which rows, who is told, where it may go on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from components.experts.neural.batch import Batch
from components.experts.neural.panel import Panel
from components.experts.protocol import Advance

Log = Callable[[int, dict[str, float]], None]


class Objective(Protocol):
    """What is learned.

    With several processes `loss` is given the outputs and targets of all of them, put together by rows. So it
    reaches the parameters through `outputs` alone, draws nothing at random, and numbers that say which rows
    belong together must hold across batches, such as that of a day.
    """

    def prepare(
        self, batch: Batch, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Batch, dict[str, Tensor]]:
        """The batch as the model is to see it, and its targets; `generator` is the only source of
        randomness.
        """

    def loss(self, outputs: Any, targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a whole batch, and its parts by name, detached."""


@dataclass(frozen=True)
class Job:
    """What is learned.

    model : on the panel's device
    rows : row numbers of the panel to learn from
    whole_days : a batch is whole timestamps
    """

    model: nn.Module
    objective: Objective
    panel: Panel
    rows: np.ndarray
    seed: int
    whole_days: bool = False


@dataclass(frozen=True)
class Watch:
    """Who is told, and who judges.

    monitor : higher is better; called at the end of each epoch with the weights that would be kept. NaN
        counts as no better
    log : called with the number of steps done and the figures of a step: `loss`, its parts, `gradient_norm`,
        `learning_rate`; at an epoch's end with `epoch`, `monitor`, `windows_per_second`
    """

    advance: Advance
    monitor: Callable[[], float] | None = None
    log: Log | None = None


@dataclass(frozen=True)
class Keep:
    """Folder for the checkpoints `last` and `best-<epoch>` of the best epochs (by the loss without a
    monitor); a training with the same `key`, settings and rows goes on from the newest whole one, to the same
    bits on the CPU.
    """

    folder: Path | None = None
    key: str = ""
