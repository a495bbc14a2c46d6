"""The network of the GRU (Cho et al. 2014), one layer over the bars of a window, in plain torch.

Shapes: B windows, L bars of lookback, F inputs, D width, G the three gates' 3 * D, N any number of bars.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.unit_scale import unit_scale
from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import drop_path

# sigmoid(HELD) is 1 in float32: the update gate keeps all of the state.
HELD = 30.0


class RecurrentNetwork(nn.Module):
    """Each bar's inputs are mixed to one width; the state after the newest bar, beside the newest bar itself,
    is the embedding.

    The state stays 0 over bars that have not begun: a further input opens the update gate. Satisfies
    `neural.batch.Network`.
    """

    def __init__(self, layout: Layout, *, width: int, dropout: float, stochastic_depth: float):
        super().__init__()
        self.width, self.dropout, self.stochastic_depth = width, dropout, stochastic_depth
        self.mix = nn.Linear(len(layout.inputs), width)
        bound = 1.0 / math.sqrt(width)
        self.inputs_GD = nn.Parameter(torch.empty(3 * width, width).uniform_(-bound, bound))
        self.state_GD = nn.Parameter(torch.empty(3 * width, width).uniform_(-bound, bound))
        self.bias_G = nn.Parameter(torch.zeros(3 * width))
        held_G1 = torch.tensor([0.0, HELD, 0.0]).repeat_interleave(width)[:, None]
        self.register_buffer("held_G1", held_G1, persistent=False)
        self.out = nn.Linear(width, width)

    def prepare(self, inputs_NF: Tensor, sector_N: Tensor) -> Tensor:
        """The mixed inputs of each bar, [N, D]."""
        del sector_N
        return functional.gelu(self.mix(inputs_NF))

    def forward(self, batch: Batch) -> Encoded:
        """Embedding [B, 1, D]."""
        x_BLD = batch.inputs_BLF if batch.prepared else self.prepare(batch.inputs_BLF, batch.sector_B)
        newest_BD = x_BLD[:, -1]
        x_BLD = functional.dropout(x_BLD, self.dropout, self.training)
        held_BL1 = (~batch.began_BL)[..., None].to(x_BLD.dtype)
        weights = [
            torch.cat([self.inputs_GD, self.held_G1], dim=-1),
            self.state_GD,
            self.bias_G,
            torch.zeros_like(self.bias_G),
        ]
        first_1BD = x_BLD.new_zeros(1, x_BLD.shape[0], self.width)
        _, state_1BD = torch._VF.gru(
            torch.cat([x_BLD, held_BL1], dim=-1), first_1BD, weights, True, 1, 0.0, self.training, False, True
        )
        past_BD = functional.dropout(self.out(state_1BD[0]), self.dropout, self.training)
        embedding_BD = newest_BD + drop_path(past_BD, batch.depth_rate(self.stochastic_depth), self.training)
        return Encoded(unit_scale(embedding_BD[..., None]).transpose(1, 2), x_BLD.new_zeros(()))
