"""What a neural network is given and what it gives back.

Shapes: B windows of a batch, L bars of lookback (oldest first, the newest is the predicted row's own), F
inputs, R regimes, D days, S slots a day, T tasks (the target to predict first, then the leaf's `also`), E
width of an embedding, K columns of some evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from components.experts.neural.family import Family as Family


@dataclass(frozen=True)
class Layout:
    """What stands in the windows of one fit. Everything a network's shapes depend on, beside its settings.

    inputs : name to group of each input, in their order
    tasks : (target, horizon) of each task; the first is the one that is predicted
    sectors, industries : how many there are; a row's number is 1 to that many, 0 where unknown
    means, deviations : of the inputs, as they were standardised: raw = x * deviation + mean
    trading_days : days a week on which the panel has bars, 5 or 7; with `period` it gives the calendar of
        bars to come
    """

    inputs: Mapping[str, str]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    lookback: int
    regimes: int
    tasks: tuple[tuple[str, int], ...]
    sectors: int
    industries: int
    trading_days: int
    period: str

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names."""
        return tuple(self.inputs)

    def columns(self, group: str) -> tuple[int, ...]:
        """Numbers of the inputs of a group."""
        return tuple(number for number, found in enumerate(self.inputs.values()) if found == group)


@dataclass(frozen=True)
class Batch:
    """Windows of a batch.

    inputs_BLF : float, standardised and clipped; missing values and bars before the window began are 0
    began_BL : bool, from the symbol's first bar with any known input on; the newest bar may be False too
    regime_BR : float, one-hot, all 0 where unknown
    sector_B, industry_B : int64, 0 where unknown
    slot_B : int64, day * slots + place within the day: one timestamp is one graph. None: all windows are of
        one day, in their order
    prepared : `inputs_BLF` holds what the network's `prepare` made of each bar
    newest_BF : the newest bar's inputs where the batch is prepared; None: they stand in `inputs_BLF`
    depth_B : in training, factor of each window's stochastic depth; None: 1
    """

    inputs_BLF: Tensor
    began_BL: Tensor
    regime_BR: Tensor
    sector_B: Tensor
    industry_B: Tensor
    slot_B: Tensor | None = None
    days: int = 1
    slots: int = 0
    prepared: bool = False
    newest_BF: Tensor | None = None
    depth_B: Tensor | None = None

    def depth_rate(self, rate: float) -> float | Tensor:
        """Chance that a window skips a block, one for all or [B], where it is `rate` in the mean."""
        return rate if self.depth_B is None or not rate else rate * self.depth_B

    def newest(self) -> Tensor:
        """Inputs [B, F] of the newest bar."""
        return self.inputs_BLF[:, -1] if self.newest_BF is None else self.newest_BF

    def grid(self, x_BX: Tensor) -> Tensor:
        """Rows by day: [D, S, ...], 0 in empty slots."""
        if self.slot_B is None:
            return x_BX[None]
        grid = x_BX.new_zeros(self.days * self.slots, *x_BX.shape[1:])
        return grid.index_copy(0, self.slot_B, x_BX).view(self.days, self.slots, *x_BX.shape[1:])

    def rows(self, x_DSX: Tensor) -> Tensor:
        """The inverse of `grid`: [B, ...]."""
        return x_DSX[0] if self.slot_B is None else x_DSX.flatten(0, 1)[self.slot_B]

    def filled(self) -> Tensor:
        """Bool [D, S]: which slots hold a window."""
        return self.grid(torch.ones_like(self.sector_B)) > 0

    def day(self) -> Tensor:
        """Number of each window's day, int64 [B]."""
        return torch.zeros_like(self.sector_B) if self.slot_B is None else self.slot_B // self.slots

    def with_inputs(self, inputs_BLF: Tensor) -> "Batch":
        """The batch with other inputs."""
        return replace(self, inputs_BLF=inputs_BLF)


@dataclass(frozen=True)
class Encoded:
    """What a network makes of a batch.

    embedding_BTE : one embedding a task, or T = 1 for all of them together
    penalty : scalar that is added to the loss, mean over the windows, such as the cost of open gates
    evidence : weights that explain, by name, each [B, K], detached from the graph; the family's `evidence`
        names their columns
    """

    embedding_BTE: Tensor
    penalty: Tensor
    evidence: Mapping[str, Tensor] = field(default_factory=dict)


class Network(Protocol):
    """A torch module from windows to embeddings.

    In training mode it may use dropout and stochastic depth; in evaluation a window's embedding depends on
    its own batch's day alone (networks across symbols) or on itself alone."""

    width: int

    def __call__(self, batch: Batch) -> Encoded: ...

    def prepare(self, inputs_NF: Tensor, sector_N: Tensor) -> Tensor:
        """Optional: what is made of each bar alone, [N, K], so that a bar in many windows is worked on once.

        A bar of zeros (before a symbol's first) must be
        dealt with by `began_BL` or stay neutral."""
