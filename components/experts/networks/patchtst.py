"""The network of the PatchTST (Nie et al. 2023), plain or with one encoder a factor group, in plain torch.

Shapes: B windows, L bars of lookback, A inputs, F inputs of the factor branch, R raw bar channels, G encoders
(one a factor group, or one for all), C channels an encoder, K = G * C, P patches, T bars a patch, S = C * B
sequences of patches, N = P * S, H heads, W width of a head, D = H * W width, E width of the embedding, Q
inputs of the regime gate, I and O inputs and outputs of a map, M any number of bars.

Weights of the factor branch are stacked over G: a group's channels share them, no other group sees them. In
the encoder the features come before the rows, [G, D, N]: sums over few patches or features then run along
thousands of sequences at once, and no step has to copy for another layout.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.feature_gate import FeatureGate
from components.experts.networks.patch_attention import attention
from components.experts.networks.patchtst_settings import Settings
from components.experts.networks.unit_scale import unit_scale
from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import depth_rates, drop_path, skips

RAW_GROUP, REGIME_GROUP = "bars", "regime"
FAR_AWAY = -1e9


class GroupLinear(nn.Module):
    """One affine map a group: x_GIN -> x_GON with weights of shape [G, O, I]."""

    def __init__(self, groups: int, inputs: int, outputs: int, *, bias: bool = True):
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight_GOI = nn.Parameter(torch.empty(groups, outputs, inputs).uniform_(-bound, bound))
        self.bias_GO1 = nn.Parameter(torch.zeros(groups, outputs, 1)) if bias else None

    def forward(self, x_GIN: Tensor, onto_GON: Tensor | None = None) -> Tensor:
        """Apply each group's map to its own rows; `onto_GON`, where given, takes the place of the bias."""
        base = self.bias_GO1 if onto_GON is None else onto_GON
        return self.weight_GOI @ x_GIN if base is None else torch.baddbmm(base, self.weight_GOI, x_GIN)


class EncoderLayer(nn.Module):
    """Attention among the patches of one channel and a feed-forward step, norm first; weights per group."""

    def __init__(self, groups: int, settings: Settings):
        super().__init__()
        width = settings.width
        self.heads, self.dropout = settings.heads, settings.regularisation.dropout
        self.query_key_value = GroupLinear(groups, width, 3 * width, bias=False)
        self.output = GroupLinear(groups, width, width, bias=False)
        self.wide = GroupLinear(groups, width, settings.feed_forward)
        self.narrow = GroupLinear(groups, settings.feed_forward, width, bias=False)

    def forward(
        self, x_GDN: Tensor, attend_PS: Tensor, windows: int, depth_rates_2: Sequence[float | Tensor]
    ) -> Tensor:
        """`attend_PS` is 0 where a patch may be looked at and far below 0 where it lies before the symbol's
        first bar.
        """
        groups, width, rows = x_GDN.shape
        patches, sequences = attend_PS.shape
        parts = self.query_key_value(unit_scale(x_GDN)).view(
            groups, 3, self.heads, width // self.heads, patches, sequences
        )
        mixed_GDN = attention(parts, attend_PS).reshape(groups, width, rows)
        x_GDN = self._added(x_GDN, self.output, mixed_GDN, (patches, windows), depth_rates_2[0])
        wide_GON = functional.gelu(self.wide(unit_scale(x_GDN)))
        return self._added(x_GDN, self.narrow, wide_GON, (patches, windows), depth_rates_2[1])

    def _added(
        self,
        x_GDN: Tensor,
        change: GroupLinear,
        from_GIN: Tensor,
        patches_windows: tuple[int, int],
        depth_rate: float | Tensor,
    ) -> Tensor:
        """x + change(from); in training the change loses features, the same for all patches of a sequence,
        and may be left out for a whole window.
        """
        if not self.training or not (self.dropout or skips(depth_rate)):
            return change(from_GIN, onto_GON=x_GDN)
        patches, windows = patches_windows
        shape = (*x_GDN.shape[:2], patches, x_GDN.shape[2] // patches // windows, windows)
        kept_GD1CB = functional.dropout(x_GDN.new_ones(*shape[:2], 1, *shape[3:]), self.dropout)
        if skips(depth_rate):
            kept_GD1CB = kept_GD1CB * drop_path(x_GDN.new_ones(windows), depth_rate, training=True)
        return torch.addcmul(x_GDN.view(shape), change(from_GIN).view(shape), kept_GD1CB).view_as(x_GDN)


class RawBranch(nn.Module):
    """Causal 1-D CNN over the raw bars: each output sees earlier bars only, the newest one and the mean are
    handed on.
    """

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


@dataclass(frozen=True)
class BranchInputs:
    """Which inputs go where: the factor branch with the group of each, the raw branch, and (beside the
    regime's code) the regime gate.
    """

    factors: tuple[int, ...]
    group_of_factor: tuple[str, ...]
    raw: tuple[int, ...]
    regime: tuple[int, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The factor groups, in the order of their first input."""
        return tuple(dict.fromkeys(self.group_of_factor))


def arranged(settings: Settings, layout: Layout) -> BranchInputs:
    """Raw bars pass the raw branch where there is one, and are a factor group like any other where there is
    none.
    """
    factors = [
        (number, group)
        for number, group in enumerate(layout.inputs.values())
        if not (settings.raw_branch and group == RAW_GROUP)
    ]
    return BranchInputs(
        factors=tuple(number for number, _ in factors),
        group_of_factor=tuple(group for _, group in factors),
        raw=layout.columns(RAW_GROUP) if settings.raw_branch else (),
        regime=layout.columns(REGIME_GROUP) if settings.regime_gate else (),
    )


class GroupwisePatchTST(nn.Module):
    """Feature gate, channels, patch encoders, a regime gate over the groups, plus the raw branch.

    Satisfies `neural.batch.Network`.
    """

    def __init__(self, settings: Settings, layout: Layout):
        super().__init__()
        self.settings, self.inputs = settings, arranged(settings, layout)
        self.width = settings.embedding
        self.first_bar = (layout.lookback - settings.patch_bars) % settings.stride_bars
        # The newest patch ends with the newest bar.
        self.patches = (layout.lookback - settings.patch_bars) // settings.stride_bars + 1
        self.gate = self.regime = self.raw = None
        self.groups = self.channels = 0
        if self.inputs.factors:
            self._build_factor_branch(layout)
        if self.inputs.raw:
            self.raw = RawBranch(len(self.inputs.raw), settings.convolution, settings.embedding)

    def _build_factor_branch(self, layout: Layout) -> None:
        s, names = self.settings, self.inputs.groups
        group_of_input = [names.index(group) for group in self.inputs.group_of_factor]
        self.grouped = s.encoder == "groupwise"
        self.groups, self.channels = (len(names), s.channels) if self.grouped else (1, len(group_of_input))
        if s.feature_gate:
            self.gate = FeatureGate(group_of_input)
        if self.grouped:
            groups = torch.tensor(group_of_input, dtype=torch.long)
            own_FK = (
                groups[:, None] == torch.arange(self.groups).repeat_interleave(self.channels)[None, :]
            ).float()
            self.register_buffer("own_FK", own_FK, persistent=False)
            self.mixing_FK = nn.Parameter(
                torch.randn(own_FK.shape) * own_FK / torch.bincount(groups).float()[groups].sqrt()[:, None]
            )
        else:
            self.mixing_EC1 = nn.Parameter(
                torch.randn(s.embedding, self.channels, 1) / math.sqrt(self.channels)
            )
        self.embed = GroupLinear(self.groups, s.patch_bars, s.width)
        self.place_GDP1 = nn.Parameter(0.02 * torch.randn(self.groups, s.width, self.patches, 1))
        self.layers = nn.ModuleList(EncoderLayer(self.groups, s) for _ in range(s.layers))
        self.pool = GroupLinear(self.groups, s.width * self.patches, s.embedding)
        if s.regime_gate:
            self.regime = nn.Linear(len(self.inputs.regime) + layout.regimes, self.groups)
            with torch.no_grad():
                self.regime.weight.zero_()
                self.regime.bias.zero_()

    def forward(self, batch: Batch) -> Encoded:
        """Embedding [B, 1, E]; the cost of open gates; the openings of the newest bar (of batches that were
        not prepared) and the weights of the groups.
        """
        x_BLA, windows = batch.inputs_BLF, batch.inputs_BLF.shape[0]
        embedding_BE = x_BLA.new_zeros(windows, self.width)
        penalty, evidence = x_BLA.new_zeros(()), {}
        if self.groups:
            channels_BLK = x_BLA[..., : self.groups * self.channels]
            if not batch.prepared:
                channels_NK, opening_NF, opening_F = self._channels(x_BLA.flatten(0, 1))
                channels_BLK = channels_NK.view(windows, x_BLA.shape[1], -1)
                if self.gate is not None:
                    penalty = (
                        self.settings.gate_l1 * self.gate.l1() + self.settings.gate_cost * opening_F.sum()
                    )
                    evidence["feature_gate"] = opening_NF.view(windows, x_BLA.shape[1], -1)[:, -1]
            weight_BG = self.group_weights(self._regime(batch))
            if self.regime is not None:
                evidence["regime_gate"] = weight_BG.detach()
            encoded_GECB = self.encode(channels_BLK, batch.began_BL, batch.depth_B)
            embedding_BE = embedding_BE + self._combined(encoded_GECB, weight_BG)
        if self.raw is not None:
            embedding_BE = embedding_BE + self.raw(self._raw(batch))
        return Encoded(embedding_BE[:, None], penalty, evidence)

    def prepare(self, inputs_NF: Tensor, sector_N: Tensor) -> Tensor:
        """What is made of each bar alone: its channels, its raw values and its inputs of the regime gate, [N,
        K + R + Q]. Zeros give zeros.
        """
        del sector_N
        channels_NK = self._channels(inputs_NF)[0] if self.groups else inputs_NF[:, :0]
        return torch.cat(
            [channels_NK, _taken(inputs_NF, self.inputs.raw), _taken(inputs_NF, self.inputs.regime)], dim=1
        )

    def encode(self, channels_BLK: Tensor, began_BL: Tensor, depth_B: Tensor | None = None) -> Tensor:
        """Embedding of each channel, [G, E, C, B]; `depth_B` as in `Batch`."""
        s, windows = self.settings, channels_BLK.shape[0]
        # Turned once as a whole, which is faster than to gather the patches from rows.
        channels_LGCB = channels_BLK.flatten(1).T.contiguous().view(-1, self.groups, self.channels, windows)
        patch_GTPCB = (
            channels_LGCB[self.first_bar :].unfold(0, s.patch_bars, s.stride_bars).permute(1, 4, 0, 2, 3)
        )
        x_GDN = self.embed(patch_GTPCB.reshape(self.groups, s.patch_bars, -1))
        x_GDN = (x_GDN.view(self.groups, s.width, self.patches, -1) + self.place_GDP1).view(
            self.groups, s.width, -1
        )
        began_BX = began_BL[:, self.first_bar :]
        began_BPT = (
            began_BX.reshape(windows, self.patches, -1)
            if s.stride_bars == s.patch_bars
            else began_BX.unfold(1, s.patch_bars, s.stride_bars)
        )
        began_PB = began_BPT.any(dim=-1).T
        began_PS = began_PB.repeat(1, self.channels)
        attend_PS = x_GDN.new_zeros(began_PS.shape).masked_fill(~began_PS, FAR_AWAY)
        rates = depth_rates(s.regularisation.stochastic_depth, 2 * s.layers)
        if depth_B is not None:
            rates = tuple(rate * depth_B for rate in rates)
        for number, layer in enumerate(self.layers):
            x_GDN = layer(x_GDN, attend_PS, windows, rates[2 * number : 2 * number + 2])
        x_GDPS = unit_scale(x_GDN).view(self.groups, s.width, self.patches, -1) * began_PS
        pooled_GES = self.pool(x_GDPS.view(self.groups, s.width * self.patches, -1))
        return functional.gelu(pooled_GES).view(self.groups, self.width, self.channels, windows)

    def group_weights(self, regime_BQ: Tensor) -> Tensor:
        """Weights [B, G] of the groups: softmax over an affine map of the regime's inputs, or equal ones
        without a regime gate.
        """
        if self.regime is None:
            return regime_BQ.new_full((regime_BQ.shape[0], self.groups), 1.0 / self.groups)
        return torch.softmax(self.regime(regime_BQ), dim=-1)

    def _channels(self, x_NA: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gated inputs of each bar, mixed into its group's channels [N, K] or as they are, and the openings
        of the gates [N, F] and [F].
        """
        x_NF = _taken(x_NA, self.inputs.factors)
        mixing_FK = self.mixing_FK * self.own_FK if self.grouped else None
        if self.gate is not None:
            return self.gate(x_NF, mixing_FK)
        return x_NF if mixing_FK is None else x_NF @ mixing_FK, None, None

    def _combined(self, embedding_GECB: Tensor, weight_BG: Tensor) -> Tensor:
        """[B, E]: the mean of a group's channels times the group's weight, summed over the groups; or the
        plain encoder's channels, each with its own weights.
        """
        if not self.grouped:
            return (embedding_GECB[0] * self.mixing_EC1).sum(dim=1).T
        # In the exported graph a sum of whole arrays, which takes a third of the time of the mean.
        mean_GEB = (
            sum(embedding_GECB.unbind(dim=2)) / self.channels
            if torch.compiler.is_exporting()
            else embedding_GECB.mean(dim=2)
        )
        return (mean_GEB * weight_BG.T[:, None]).sum(dim=0).T

    def _raw(self, batch: Batch) -> Tensor:
        channels = self.groups * self.channels
        return (
            batch.inputs_BLF[..., channels : channels + len(self.inputs.raw)]
            if batch.prepared
            else _taken(batch.inputs_BLF, self.inputs.raw)
        )

    def _regime(self, batch: Batch) -> Tensor:
        newest_BA = batch.inputs_BLF[:, -1]
        first = self.groups * self.channels + len(self.inputs.raw)
        return torch.cat(
            [
                newest_BA[:, first:] if batch.prepared else _taken(newest_BA, self.inputs.regime),
                batch.regime_BR,
            ],
            dim=-1,
        )


def evidence_columns(settings: Settings, layout: Layout) -> Mapping[str, tuple[str, ...]]:
    """Names of what the gates weigh, for the gates that are on."""
    inputs = arranged(settings, layout)
    names = (
        {"feature_gate": tuple(layout.names[number] for number in inputs.factors)}
        if settings.feature_gate and inputs.factors
        else {}
    )
    return {**names, "regime_gate": inputs.groups} if settings.regime_gate and inputs.factors else names


def _taken(x_XA: Tensor, numbers: Sequence[int]) -> Tensor:
    """Some of the last axis; a view where they stand together."""
    if tuple(numbers) == tuple(range(x_XA.shape[-1])):
        return x_XA
    first = numbers[0] if numbers else 0
    if tuple(numbers) == tuple(range(first, first + len(numbers))):
        return x_XA[..., first : first + len(numbers)]
    return x_XA[..., list(numbers)]
