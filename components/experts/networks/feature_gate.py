"""The feature gate: how far each input is let through, learned within its group.

Shapes: M any number of bars, F inputs, K channels that the gated inputs are mixed into.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.unit_scale import learning

# Bars whose gates are worked on at once.
CACHED_BARS = 2048
# Inputs of a piece of the exported gate: two registers of the widest processors.
PIECE_INPUTS = 32


class FeatureGate(nn.Module):
    """x * sigmoid(W x + b), where W connects inputs of the same group only. A row of zeros gives zeros."""

    def __init__(self, group_of_input: Sequence[int]):
        super().__init__()
        groups = torch.tensor(group_of_input, dtype=torch.long)
        self.weight_FF = nn.Parameter(torch.zeros(len(groups), len(groups)))
        self.bias_F = nn.Parameter(torch.ones(len(groups)))
        self.pieces = _pieces(group_of_input)
        self.register_buffer("same_group_FF", (groups[:, None] == groups[None, :]).float(), persistent=False)

    def forward(self, x_MF: Tensor, mixing_FK: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The gated inputs, mixed [M, K] or as they are; how far each gate is open, in (0, 1), [M, F], and on
        average [F]. Gradients do not pass the openings [M, F].
        """
        weight_FF = self.weight_FF * self.same_group_FF
        if learning(weight_FF) and not x_MF.is_cuda and not x_MF.requires_grad:
            return _GatedChannels.apply(x_MF, weight_FF, self.bias_F, mixing_FK)
        if torch.compiler.is_exporting() and mixing_FK is not None:
            return self._in_pieces(x_MF, weight_FF, mixing_FK)
        opening_MF = torch.sigmoid(functional.linear(x_MF, weight_FF, self.bias_F))
        gated_MF = x_MF * opening_MF
        return (
            gated_MF if mixing_FK is None else gated_MF @ mixing_FK,
            opening_MF.detach(),
            opening_MF.float().mean(dim=0),
        )

    def _in_pieces(self, x_MF: Tensor, weight_FF: Tensor, mixing_FK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same for the exported graph, some groups at a time: most of the whole matrix joins inputs of
        different groups, and is 0. Openings in the order of the pieces.
        """
        mixed_MK, openings = None, []
        for piece in self.pieces:
            # A slice where the inputs stand together: several times as fast as to pick them.
            together = piece == list(range(piece[0], piece[-1] + 1))
            x_MP = x_MF[:, piece[0] : piece[-1] + 1] if together else x_MF[:, piece]
            opening_MP = torch.sigmoid(
                functional.linear(x_MP, weight_FF[piece][:, piece], self.bias_F[piece])
            )
            part_MK = (x_MP * opening_MP) @ mixing_FK[piece]
            mixed_MK = part_MK if mixed_MK is None else mixed_MK + part_MK
            openings.append(opening_MP)
        opening_MF = torch.cat(openings, dim=1)
        return mixed_MK, opening_MF, opening_MF.mean(dim=0)

    def l1(self) -> Tensor:
        """Sum of |W| over the connections inside groups."""
        return (self.weight_FF * self.same_group_FF).abs().sum()


def _pieces(group_of_input: Sequence[int]) -> tuple[list[int], ...]:
    """Numbers of the inputs in pieces of whole groups, of up to PIECE_INPUTS inputs where groups are not
    larger.
    """
    pieces: list[list[int]] = []
    for group in dict.fromkeys(group_of_input):
        own = [number for number, other in enumerate(group_of_input) if other == group]
        if pieces and len(pieces[-1]) + len(own) <= PIECE_INPUTS:
            pieces[-1] += own
        else:
            pieces.append(own)
    return tuple(pieces)


class _GatedChannels(torch.autograd.Function):
    """`FeatureGate` for learning on the CPU: in pieces that stay in the cache, since its arrays are the
    largest of a batch.
    """

    @staticmethod
    def forward(
        ctx, x_MF: Tensor, weight_FF: Tensor, bias_F: Tensor, mixing_FK: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        opening_MF = x_MF.new_empty(x_MF.shape)
        channels_MK = x_MF.new_empty(len(x_MF), x_MF.shape[1] if mixing_FK is None else mixing_FK.shape[1])
        for x, opening, channels in zip(
            *(table.split(CACHED_BARS) for table in (x_MF, opening_MF, channels_MK)), strict=True
        ):
            torch.addmm(bias_F, x, weight_FF.T, out=opening).sigmoid_()
            if mixing_FK is None:
                torch.mul(x, opening, out=channels)
            else:
                torch.mm(x * opening, mixing_FK, out=channels)
        ctx.save_for_backward(x_MF, opening_MF, mixing_FK)
        ctx.mark_non_differentiable(opening_MF)
        return channels_MK, opening_MF, opening_MF.mean(dim=0)

    @staticmethod
    def backward(
        ctx, to_channels_MK: Tensor, _, to_mean_F: Tensor
    ) -> tuple[None, Tensor, Tensor, Tensor | None]:
        x_MF, opening_MF, mixing_FK = ctx.saved_tensors
        to_opening_F = to_mean_F / len(x_MF)
        to_weight_FF, to_bias_F = x_MF.new_zeros(x_MF.shape[1], x_MF.shape[1]), x_MF.new_zeros(x_MF.shape[1])
        to_mixing_FK = None if mixing_FK is None else torch.zeros_like(mixing_FK)
        for x, opening, to_channels in zip(
            *(table.split(CACHED_BARS) for table in (x_MF, opening_MF, to_channels_MK)), strict=True
        ):
            to_gated = to_channels
            if mixing_FK is not None:
                to_mixing_FK.addmm_((x * opening).T, to_channels)
                to_gated = to_channels @ mixing_FK.T
            to_logits = torch.addcmul(to_opening_F, to_gated, x).mul_(opening)
            to_logits.addcmul_(to_logits, opening, value=-1.0)
            to_weight_FF.addmm_(to_logits.T, x)
            to_bias_F += to_logits.sum(dim=0)
        return None, to_weight_FF, to_bias_F, to_mixing_FK
