"""The network of the group-wise PatchTST (Nie et al. 2023, one encoder a factor group), in plain torch.

Shapes: B windows, L bars of lookback, F factor inputs, R raw bar channels, G factor groups, C channels a group, K = G * C,
P patches, T bars a patch, D width, E width of a group's embedding, Q inputs of the regime gate, N any product of the others.
Every weight of the factor branch is stacked over G: a group's channels share it, no other group sees it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """All that the network's shapes depend on. `group_of_input` holds one group number an input of the factor branch."""

    group_of_input: tuple[int, ...]
    groups: int
    raw_channels: int
    regime_inputs: int
    lookback: int
    patch: int
    stride: int
    channels: int
    width: int
    heads: int
    layers: int
    feed_forward: int
    embedding: int
    convolution: int
    dropout: float

    @property
    def patches(self) -> int:
        """Patches in a window; the newest ends with the window's last bar."""
        return (self.lookback - self.patch) // self.stride + 1


@dataclass(frozen=True)
class Outputs:
    """Per window: the score, three ordered quantiles (both without unit), and the weights of the regime gate, which sum to 1."""

    score_B: Tensor
    quantiles_B3: Tensor
    regime_gate_BG: Tensor


class FeatureGate(nn.Module):
    """x * sigmoid(W x + b), where W connects inputs of the same group only."""

    def __init__(self, group_of_input: Sequence[int]):
        super().__init__()
        groups = torch.tensor(group_of_input, dtype=torch.long)
        self.weight_FF = nn.Parameter(torch.zeros(len(groups), len(groups)))
        self.bias_F = nn.Parameter(torch.ones(len(groups)))
        self.register_buffer("same_group_FF", (groups[:, None] == groups[None, :]).float(), persistent=False)

    def activation(self, x_NF: Tensor) -> Tensor:
        """How far each input's gate is open, in (0, 1)."""
        return torch.sigmoid(functional.linear(x_NF, self.weight_FF * self.same_group_FF, self.bias_F))

    def forward(self, x_NF: Tensor) -> tuple[Tensor, Tensor]:
        """The gated inputs and the gates' activations."""
        activation_NF = self.activation(x_NF)
        return x_NF * activation_NF, activation_NF

    def l1(self) -> Tensor:
        """Sum of |W| over the connections inside groups."""
        return (self.weight_FF * self.same_group_FF).abs().sum()


class GroupLinear(nn.Module):
    """One affine map a group: x_GNI -> x_GNO with weights of shape [G, I, O]."""

    def __init__(self, groups: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight_GIO = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias_G1O = nn.Parameter(torch.zeros(groups, 1, outputs))

    def forward(self, x_GNI: Tensor) -> Tensor:
        """Apply each group's map to its own rows."""
        return torch.baddbmm(self.bias_G1O, x_GNI, self.weight_GIO)


class EncoderLayer(nn.Module):
    """Attention among the patches of one channel and a feed-forward step, norm first; weights per group."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads, self.dropout = sizes.heads, sizes.dropout
        self.query_key_value = GroupLinear(sizes.groups, sizes.width, 3 * sizes.width)
        self.output = GroupLinear(sizes.groups, sizes.width, sizes.width)
        self.wide = GroupLinear(sizes.groups, sizes.width, sizes.feed_forward)
        self.narrow = GroupLinear(sizes.groups, sizes.feed_forward, sizes.width)

    def forward(self, x_GND: Tensor, attend_NPP: Tensor, patches: int) -> Tensor:
        """`attend_NPP` is 0 where a patch may look and -inf where the other patch lies before the symbol's first bar."""
        groups, rows, width = x_GND.shape
        normed_GND = functional.layer_norm(x_GND, (width,))
        parts = self.query_key_value(normed_GND).view(-1, patches, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        weights = torch.softmax(scores + attend_NPP, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(groups, rows, width)
        x_GND = x_GND + self._drop(self.output(mixed))
        wide = functional.gelu(self.wide(functional.layer_norm(x_GND, (width,))))
        return x_GND + self._drop(self.narrow(wide))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class RawBranch(nn.Module):
    """Causal 1-D CNN over the raw bars: each output sees earlier bars only, the newest one and the mean are handed on."""

    def __init__(self, channels: int, width: int, embedding: int):
        super().__init__()
        self.near = nn.Conv1d(channels, width, kernel_size=3)
        self.far = nn.Conv1d(width, width, kernel_size=3, dilation=3)
        self.out = nn.Linear(2 * width, embedding)

    def forward(self, bars_BLR: Tensor) -> Tensor:
        """Embedding [B, E] of the raw bars."""
        x_BRL = functional.pad(bars_BLR.transpose(1, 2), (2, 0))
        x_BWL = functional.gelu(self.near(x_BRL))
        x_BWL = functional.gelu(self.far(functional.pad(x_BWL, (6, 0))))
        return self.out(torch.cat([x_BWL[..., -1], x_BWL.mean(dim=-1)], dim=-1))


class GroupwisePatchTST(nn.Module):
    """Feature gate, channels, one patch encoder a group, a regime gate over the groups, plus the raw branch and the heads."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        if sizes.groups:
            self._build_factor_branch(sizes)
        self.raw = RawBranch(sizes.raw_channels, sizes.convolution, sizes.embedding) if sizes.raw_channels else None
        self.hidden = nn.Linear(sizes.embedding, sizes.embedding)
        self.score = nn.Linear(sizes.embedding, 1)
        self.quantiles = nn.Linear(sizes.embedding, 3)
        with torch.no_grad():
            # softplus(1.02) = 1.33, so the bands start near the 10 % and 90 % points of a unit normal's 1.28.
            self.quantiles.bias.copy_(torch.tensor([0.0, 1.02, 1.02]))

    def _build_factor_branch(self, sizes: Sizes) -> None:
        groups = torch.tensor(sizes.group_of_input, dtype=torch.long)
        inputs_G = torch.bincount(groups, minlength=sizes.groups).float()
        own_FK = (groups[:, None] == torch.arange(sizes.groups).repeat_interleave(sizes.channels)[None, :]).float()
        self.gate = FeatureGate(sizes.group_of_input)
        self.register_buffer("own_FK", own_FK, persistent=False)
        self.mixing_FK = nn.Parameter(torch.randn(own_FK.shape) * own_FK / inputs_G[groups].sqrt()[:, None])
        self.embed = GroupLinear(sizes.groups, sizes.patch, sizes.width)
        self.place_G1PD = nn.Parameter(0.02 * torch.randn(sizes.groups, 1, sizes.patches, sizes.width))
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.layers))
        self.pool = GroupLinear(sizes.groups, sizes.patches * sizes.width, sizes.embedding)
        self.regime = nn.Linear(sizes.regime_inputs, sizes.groups)
        with torch.no_grad():
            self.regime.weight.zero_()
            self.regime.bias.zero_()

    def channels(self, x_NF: Tensor) -> tuple[Tensor, Tensor]:
        """Gated inputs of each bar mixed into its group's channels [.., K], and the mean activation [F] of the gates.

        A row of zeros gives channels of zero, so bars before a symbol's first one stay neutral.
        """
        gated_NF, activation_NF = self.gate(x_NF)
        return gated_NF @ (self.mixing_FK * self.own_FK), activation_NF.flatten(0, -2).mean(dim=0)

    def encode(self, channels_BLK: Tensor, valid_BL: Tensor) -> Tensor:
        """Embedding of each group, [B, G, E]."""
        s = self.sizes
        batch = channels_BLK.shape[0]
        first = s.lookback - s.patch - (s.patches - 1) * s.stride
        x_BPKT = channels_BLK[:, first:].unfold(1, s.patch, s.stride)
        x_GBCPT = x_BPKT.view(batch, s.patches, s.groups, s.channels, s.patch).permute(2, 0, 3, 1, 4)
        x_GND = self.embed(x_GBCPT.reshape(s.groups, -1, s.patch))
        x_GND = (x_GND.view(s.groups, -1, s.patches, s.width) + self.place_G1PD).view(s.groups, -1, s.width)
        valid_BP = valid_BL[:, first:].unfold(1, s.patch, s.stride).any(dim=-1)
        attend_BP = torch.zeros(valid_BP.shape, dtype=x_GND.dtype, device=x_GND.device).masked_fill(~valid_BP, -1e9)
        attend_N11P = attend_BP[None, :, None].expand(s.groups, -1, s.channels, -1).reshape(-1, 1, 1, s.patches)
        for layer in self.layers:
            x_GND = layer(x_GND, attend_N11P, s.patches)
        x_GBCPD = functional.layer_norm(x_GND, (s.width,)).view(s.groups, batch, s.channels, s.patches, s.width)
        x_GBCPD = x_GBCPD * valid_BP[None, :, None, :, None]
        pooled_GNE = self.pool(x_GBCPD.reshape(s.groups, batch * s.channels, -1))
        return functional.gelu(pooled_GNE).view(s.groups, batch, s.channels, -1).mean(dim=2).transpose(0, 1)

    def regime_gate(self, regime_BQ: Tensor) -> Tensor:
        """Weights [B, G] of the groups, softmax over an affine map of the regime's inputs."""
        return torch.softmax(self.regime(regime_BQ), dim=-1)

    def forward(self, channels_BLK: Tensor, bars_BLR: Tensor, valid_BL: Tensor, regime_BQ: Tensor) -> Outputs:
        """Score and quantiles of windows whose channels were already made by `channels`."""
        x_BE = torch.zeros(regime_BQ.shape[0], self.sizes.embedding, dtype=regime_BQ.dtype, device=regime_BQ.device)
        gate_BG = regime_BQ.new_zeros(regime_BQ.shape[0], 0)
        if self.sizes.groups:
            gate_BG = self.regime_gate(regime_BQ)
            x_BE = x_BE + (gate_BG[..., None] * self.encode(channels_BLK, valid_BL)).sum(dim=1)
        if self.raw is not None:
            x_BE = x_BE + self.raw(bars_BLR)
        x_BE = functional.gelu(self.hidden(functional.dropout(x_BE, self.sizes.dropout, self.training)))
        middle_B, below_B, above_B = self.quantiles(x_BE).float().unbind(dim=-1)
        quantiles_B3 = torch.stack([middle_B - functional.softplus(below_B), middle_B, middle_B + functional.softplus(above_B)], dim=-1)
        return Outputs(self.score(x_BE).float().squeeze(-1), quantiles_B3, gate_BG)


def parameter_count(network: GroupwisePatchTST) -> int:
    """Number of weights that training moves."""
    return sum(weight.numel() for weight in network.parameters())
