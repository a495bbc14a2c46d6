"""The network of causal dilated convolutions: branches of several paces over the samples of a window, joined
in one embedding; and the same, one sample after the other, with the past carried along.

A branch of pace k sees running means over k samples and joins them by convolutions whose dilations are
multiples of k. For the newest sample alone, all that a dilated convolution needs are values that many samples
apart: so the layers of a window are maps of neighbouring blocks, each of them worked on once, and not of
every sample.

Shapes: B windows or symbols, L samples of lookback, F inputs, P positions of a branch, D width, J positions
that a convolution joins, S numbers of a symbol's state.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import depth_rates, drop_path


class CausalNetwork(nn.Module):
    """The branches' values at the newest sample, beside that sample itself, make the embedding: a sum of
    them, and products of two sums.

    What stands before a symbol's first sample is 0 in every layer, as a state is that has seen nothing.
    Satisfies `neural.batch.Network`, and answers sample by sample too (`step`).
    """

    def __init__(
        self,
        layout: Layout,
        *,
        paces: tuple[int, ...],
        kernel: int,
        width: int,
        dropout: float,
        stochastic_depth: float,
    ):
        super().__init__()
        self.width, inputs = width, len(layout.inputs)
        self.branches = nn.ModuleList(
            Branch(inputs, pace, joined(layout.lookback // pace, kernel), width, dropout, stochastic_depth)
            for pace in paces
        )
        self.join = nn.Linear(len(paces) * width + inputs, 3 * width)
        self.state_size = sum(branch.state_size for branch in self.branches)

    def forward(self, batch: Batch) -> Encoded:
        """Embedding [B, 1, D] of windows."""
        depth = batch.depth_B
        found = [branch(batch.inputs_BLF, batch.began_BL, depth) for branch in self.branches]
        return self._joined(found, batch.inputs_BLF[:, -1])

    def step(self, batch: Batch, state_BS: Tensor) -> tuple[Encoded, Tensor]:
        """Embedding [B, 1, D] of one more sample of each symbol, a batch of windows of length 1, and the
        state [B, S] for the next. Zeros are the state before a symbol's first sample and after a hole.
        """
        sample_BF, begun_B1 = batch.inputs_BLF[:, -1], batch.began_BL[:, -1:].to(state_BS.dtype)
        found, after, at = [], [], 0
        for branch in self.branches:
            own_BS = state_BS[:, at : at + branch.state_size]
            value_BD, kept = branch.step(sample_BF, begun_B1, own_BS)
            found.append(value_BD)
            after += kept
            at += branch.state_size
        return self._joined(found, sample_BF), torch.cat(after, dim=1)

    def _joined(self, found: list[Tensor], newest_BF: Tensor) -> Encoded:
        """A sum of what the branches and the newest sample say, and products of two such sums. It keeps its
        size, by which heads tell strong moments from weak ones.
        """
        sum_BD, left_BD, right_BD = self.join(torch.cat([*found, newest_BF], dim=-1)).chunk(3, dim=-1)
        embedding_BD = sum_BD + left_BD * right_BD
        return Encoded(embedding_BD[:, None], embedding_BD.new_zeros(()))


class Branch(nn.Module):
    """Running means over `pace` samples, mixed to one width, then one convolution after the other: the i-th
    joins `kernels[i]` values that are pace * kernels[0] * ... * kernels[i - 1] samples apart.
    """

    def __init__(
        self, inputs: int, pace: int, kernels: tuple[int, ...], width: int, dropout: float, depth: float
    ):
        super().__init__()
        self.inputs, self.pace, self.kernels, self.width, self.dropout = inputs, pace, kernels, width, dropout
        self.mix = nn.Linear(inputs, width)
        self.joins = nn.ModuleList(nn.Linear(joined * width, 2 * width) for joined in kernels)
        self.rates = depth_rates(depth, len(kernels)) if kernels else ()
        self.dilations, positions = [], 1
        for number in kernels:
            self.dilations.append(pace * positions)
            positions *= number
        self.positions = positions
        past = sum((number - 1) * apart for number, apart in zip(kernels, self.dilations, strict=True))
        self.state_size = (pace - 1) * inputs + past * width

    def forward(self, inputs_BLF: Tensor, began_BL: Tensor, depth_B: Tensor | None) -> Tensor:
        """The value [B, D] at the newest sample."""
        reach = self.positions * self.pace
        mean_BPF = inputs_BLF[:, -reach:].unflatten(1, (self.positions, self.pace)).mean(dim=2)
        began_BP1 = began_BL[:, -reach:][:, self.pace - 1 :: self.pace, None].to(mean_BPF.dtype)
        x_BPD = self._mixed(mean_BPF) * began_BP1
        for number, (joined_, join) in enumerate(zip(self.kernels, self.joins, strict=True)):
            block_BPX = x_BPD.unflatten(1, (-1, joined_)).flatten(2)
            began_BP1 = began_BP1[:, joined_ - 1 :: joined_]
            rate = self.rates[number] if depth_B is None else self.rates[number] * depth_B
            x_BPD = self._added(x_BPD[:, joined_ - 1 :: joined_], join(block_BPX), rate) * began_BP1
        return x_BPD[:, -1]

    def step(self, sample_BF: Tensor, begun_B1: Tensor, state_BS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The value [B, D] at one more sample, and the parts of the state after it."""
        mean_BF, kept = self._running_mean(sample_BF, state_BS)
        x_BD = self._mixed(mean_BF) * begun_B1
        at = (self.pace - 1) * self.inputs
        for number, apart, join in zip(self.kernels, self.dilations, self.joins, strict=True):
            end = at + (number - 1) * apart * self.width
            # Oldest first: values that are (number - 1) * apart, ..., apart samples old.
            old = [state_BS[:, at + j * apart * self.width :][:, : self.width] for j in range(number - 1)]
            kept += [state_BS[:, at + self.width : end], x_BD]
            x_BD = self._added(x_BD, join(torch.cat([*old, x_BD], dim=1)), 0.0) * begun_B1
            at = end
        return x_BD, kept

    def _running_mean(self, sample_BF: Tensor, state_BS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The mean over the newest `pace` samples, 0 in place of those before the first one, and the samples
        that are kept.
        """
        if self.pace == 1:
            return sample_BF, []
        earlier_BX = state_BS[:, : (self.pace - 1) * self.inputs]
        total_BF = earlier_BX.unflatten(1, (self.pace - 1, self.inputs)).sum(dim=1) + sample_BF
        return total_BF / self.pace, [earlier_BX[:, self.inputs :], sample_BF]

    def _mixed(self, mean_BXF: Tensor) -> Tensor:
        return functional.gelu(self.mix(mean_BXF))

    def _added(self, x_BXD: Tensor, joined_BXD2: Tensor, rate: float | Tensor) -> Tensor:
        """x with what the gated convolution adds (van den Oord et al. 2016): gates multiply what they are
        given, so that one layer can tell a product.
        """
        value_BXD, gate_BXD = joined_BXD2.chunk(2, dim=-1)
        added_BXD = functional.dropout(value_BXD * torch.sigmoid(gate_BXD), self.dropout, self.training)
        return x_BXD + drop_path(added_BXD, rate, self.training)


def joined(positions: int, kernel: int) -> tuple[int, ...]:
    """How many values each convolution joins, so that together they reach over nearly all `positions`:
    `kernel` each, and the last one what is left, less than twice as many.
    """
    return tuple(_joined(positions, kernel))


def _joined(positions: int, kernel: int) -> Iterator[int]:
    while positions > 1:
        number = positions if positions < 2 * kernel else kernel
        yield number
        positions //= number
