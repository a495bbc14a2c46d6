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
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import depth_rates, drop_path

if TYPE_CHECKING:
    from components.experts.families.patchtst import Settings

RAW_GROUP, REGIME_GROUP = "bars", "regime"
# Up to so many patches, attention is summed pair by pair on the CPU; beyond that matrix products are faster.
FEW_PATCHES = 16
# Bars whose gates are worked on at once.
CACHED_BARS = 2048
FAR_AWAY = -1e9
NORM_EPSILON = 1e-5


class FeatureGate(nn.Module):
    """x * sigmoid(W x + b), where W connects inputs of the same group only. A row of zeros gives zeros."""

    def __init__(self, group_of_input: Sequence[int]):
        super().__init__()
        groups = torch.tensor(group_of_input, dtype=torch.long)
        self.weight_FF = nn.Parameter(torch.zeros(len(groups), len(groups)))
        self.bias_F = nn.Parameter(torch.ones(len(groups)))
        self.register_buffer("same_group_FF", (groups[:, None] == groups[None, :]).float(), persistent=False)

    def forward(self, x_MF: Tensor, mixing_FK: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The gated inputs, mixed [M, K] or as they are; how far each gate is open, in (0, 1), [M, F], and on
        average [F]. Gradients do not pass the openings [M, F].
        """
        weight_FF = self.weight_FF * self.same_group_FF
        if _learning(weight_FF) and not x_MF.is_cuda and not x_MF.requires_grad:
            return _GatedChannels.apply(x_MF, weight_FF, self.bias_F, mixing_FK)
        opening_MF = torch.sigmoid(functional.linear(x_MF, weight_FF, self.bias_F))
        gated_MF = x_MF * opening_MF
        return (
            gated_MF if mixing_FK is None else gated_MF @ mixing_FK,
            opening_MF.detach(),
            opening_MF.float().mean(dim=0),
        )

    def l1(self) -> Tensor:
        """Sum of |W| over the connections inside groups."""
        return (self.weight_FF * self.same_group_FF).abs().sum()


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

    def __init__(self, groups: int, settings: "Settings"):
        super().__init__()
        width = settings.width
        self.heads, self.dropout = settings.heads, settings.regularisation.dropout
        self.query_key_value = GroupLinear(groups, width, 3 * width, bias=False)
        self.output = GroupLinear(groups, width, width, bias=False)
        self.wide = GroupLinear(groups, width, settings.feed_forward)
        self.narrow = GroupLinear(groups, settings.feed_forward, width, bias=False)

    def forward(
        self, x_GDN: Tensor, attend_PS: Tensor, windows: int, depth_rates_2: Sequence[float]
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
        depth_rate: float,
    ) -> Tensor:
        """x + change(from); in training the change loses features, the same for all patches of a sequence,
        and may be left out for a whole window.
        """
        if not self.training or not (self.dropout or depth_rate):
            return change(from_GIN, onto_GON=x_GDN)
        patches, windows = patches_windows
        shape = (*x_GDN.shape[:2], patches, x_GDN.shape[2] // patches // windows, windows)
        kept_GD1CB = functional.dropout(x_GDN.new_ones(*shape[:2], 1, *shape[3:]), self.dropout)
        if depth_rate:
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
class Inputs:
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


def arranged(settings: "Settings", layout: Layout) -> Inputs:
    """Raw bars pass the raw branch where there is one, and are a factor group like any other where there is
    none.
    """
    factors = [
        (number, group)
        for number, group in enumerate(layout.inputs.values())
        if not (settings.raw_branch and group == RAW_GROUP)
    ]
    return Inputs(
        factors=tuple(number for number, _ in factors),
        group_of_factor=tuple(group for _, group in factors),
        raw=layout.columns(RAW_GROUP) if settings.raw_branch else (),
        regime=layout.columns(REGIME_GROUP) if settings.regime_gate else (),
    )


class GroupwisePatchTST(nn.Module):
    """Feature gate, channels, patch encoders, a regime gate over the groups, plus the raw branch.

    Satisfies `neural.batch.Network`.
    """

    def __init__(self, settings: "Settings", layout: Layout):
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
            embedding_BE = embedding_BE + self._combined(self.encode(channels_BLK, batch.began_BL), weight_BG)
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

    def encode(self, channels_BLK: Tensor, began_BL: Tensor) -> Tensor:
        """Embedding of each channel, [G, E, C, B]."""
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
        began_PB = began_BL[:, self.first_bar :].unfold(1, s.patch_bars, s.stride_bars).any(dim=-1).T
        attend_PS = x_GDN.new_zeros(began_PB.shape).masked_fill(~began_PB, FAR_AWAY).repeat(1, self.channels)
        rates = depth_rates(s.regularisation.stochastic_depth, 2 * s.layers)
        for number, layer in enumerate(self.layers):
            x_GDN = layer(x_GDN, attend_PS, windows, rates[2 * number : 2 * number + 2])
        x_GDPCB = (
            unit_scale(x_GDN).view(self.groups, s.width, self.patches, self.channels, windows)
            * began_PB[:, None]
        )
        pooled_GES = self.pool(x_GDPCB.view(self.groups, s.width * self.patches, -1))
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
        return (embedding_GECB.mean(dim=2) * weight_BG.T[:, None]).sum(dim=0).T

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


def evidence_columns(settings: "Settings", layout: Layout) -> Mapping[str, tuple[str, ...]]:
    """Names of what the gates weigh, for the gates that are on."""
    inputs = arranged(settings, layout)
    names = (
        {"feature_gate": tuple(layout.names[number] for number in inputs.factors)}
        if settings.feature_gate and inputs.factors
        else {}
    )
    return {**names, "regime_gate": inputs.groups} if settings.regime_gate and inputs.factors else names


def unit_scale(x_GDN: Tensor) -> Tensor:
    """Each row over its root mean square along D (Zhang and Sennrich 2019), without weights of its own: the
    next map has them.
    """
    if _learning(x_GDN):
        return _UnitScale.apply(x_GDN)
    return x_GDN * torch.rsqrt(x_GDN.square().mean(dim=1, keepdim=True) + NORM_EPSILON)


class _UnitScale(torch.autograd.Function):
    """The same with fewer passes backward."""

    @staticmethod
    def forward(ctx, x_GDN: Tensor) -> Tensor:
        inverse_G1N = torch.rsqrt(x_GDN.square().mean(dim=1, keepdim=True).add_(NORM_EPSILON))
        y_GDN = x_GDN * inverse_G1N
        ctx.save_for_backward(y_GDN, inverse_G1N)
        return y_GDN

    @staticmethod
    def backward(ctx, gradient_GDN: Tensor) -> Tensor:
        y_GDN, inverse_G1N = ctx.saved_tensors
        along_G1N = (gradient_GDN * y_GDN).mean(dim=1, keepdim=True)
        return torch.addcmul(gradient_GDN, y_GDN, along_G1N, value=-1.0).mul_(inverse_G1N)


def attention(parts_G3HWPS: Tensor, attend_PS: Tensor) -> Tensor:
    """Scaled dot-product attention among the P patches of each sequence, [G, H, W, P, S], from queries, keys
    and values.

    With few patches the CPU sums features and patches one after the other, each step over all sequences:
    matrix products of a few rows are slower.
    """
    if parts_G3HWPS.is_cuda or parts_G3HWPS.shape[4] > FEW_PATCHES:
        return attention_by_products(parts_G3HWPS, attend_PS)
    if torch.compiler.is_exporting():
        return attention_by_sums(parts_G3HWPS, attend_PS)
    if _learning(parts_G3HWPS):
        return _PairwiseAttention.apply(parts_G3HWPS, attend_PS)
    return _pairwise_attention(*parts_G3HWPS.unbind(dim=1), attend_PS)[0]


def attention_by_products(parts_G3HWPS: Tensor, attend_PS: Tensor) -> Tensor:
    """`attention` as matrix products of each sequence, for the GPU and for many patches."""
    groups, _, heads, width, patches, _ = parts_G3HWPS.shape
    query, key, value = parts_G3HWPS.permute(1, 0, 5, 2, 4, 3).reshape(3, -1, heads, patches, width)
    attend_N11P = attend_PS.T[:, None, None].to(query.dtype).repeat(groups, 1, 1, 1)
    mixed_NHPW = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend_N11P)
    return mixed_NHPW.view(groups, -1, heads, patches, width).permute(0, 2, 4, 3, 1)


def attention_by_sums(parts_G3HWPS: Tensor, attend_PS: Tensor) -> Tensor:
    """`attention` as two products of whole arrays, for the exported graph."""
    query, key, value = parts_G3HWPS.unbind(dim=1)
    scores_GHPPS = (query[:, :, :, :, None] * key[:, :, :, None]).sum(dim=2) * query.shape[
        2
    ] ** -0.5 + attend_PS
    return (torch.softmax(scores_GHPPS, dim=3)[:, :, None] * value[:, :, :, None]).sum(dim=4)


def _pairwise_attention(
    query_GHWPS: Tensor, key_GHWPS: Tensor, value_GHWPS: Tensor, attend_PS: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention and its weights [G, H, query's P, key's P, S] as sums over features and patches, each step
    over all sequences.
    """
    scale = query_GHWPS.shape[2] ** -0.5
    pairs = list(zip(query_GHWPS.unsqueeze(4).unbind(2), key_GHWPS.unsqueeze(3).unbind(2), strict=True))
    scores_GHPPS = torch.addcmul(attend_PS.to(query_GHWPS.dtype), *pairs[0], value=scale)
    for pair in pairs[1:]:
        scores_GHPPS.addcmul_(*pair, value=scale)
    weights_GHPPS = torch.softmax(scores_GHPPS, dim=3)
    pairs = list(zip(weights_GHPPS.unsqueeze(2).unbind(4), value_GHWPS.unsqueeze(3).unbind(4), strict=True))
    mixed_GHWPS = torch.mul(*pairs[0])
    for pair in pairs[1:]:
        mixed_GHWPS.addcmul_(*pair)
    return mixed_GHWPS, weights_GHPPS


class _PairwiseAttention(torch.autograd.Function):
    """`_pairwise_attention` with its gradient in the same form."""

    @staticmethod
    def forward(ctx, parts_G3HWPS: Tensor, attend_PS: Tensor) -> Tensor:
        mixed_GHWPS, weights_GHPPS = _pairwise_attention(*parts_G3HWPS.unbind(dim=1), attend_PS)
        ctx.save_for_backward(parts_G3HWPS, weights_GHPPS)
        return mixed_GHWPS

    @staticmethod
    def backward(ctx, to_mixed_GHWPS: Tensor) -> tuple[Tensor, None]:
        parts_G3HWPS, weights_GHPPS = ctx.saved_tensors
        query, key, value = parts_G3HWPS.unbind(dim=1)
        to_parts_G3HWPS = torch.empty_like(parts_G3HWPS)
        to_query, to_key, to_value = to_parts_G3HWPS.unbind(dim=1)
        pairs = list(zip(to_mixed_GHWPS.unsqueeze(4).unbind(2), value.unsqueeze(3).unbind(2), strict=True))
        to_scores_GHPPS = torch.mul(*pairs[0])
        for pair in pairs[1:]:
            to_scores_GHPPS.addcmul_(*pair)
        to_scores_GHPPS.mul_(weights_GHPPS)
        to_scores_GHPPS.addcmul_(weights_GHPPS, to_scores_GHPPS.sum(dim=3, keepdim=True), value=-1.0).mul_(
            query.shape[2] ** -0.5
        )
        for total, by_patch_GHPPS, axis, other in (
            (to_value, weights_GHPPS, 3, to_mixed_GHWPS),
            (to_query, to_scores_GHPPS, 4, key),
            (to_key, to_scores_GHPPS, 3, query),
        ):
            pairs = list(
                zip(by_patch_GHPPS.unsqueeze(2).unbind(axis), other.unsqueeze(3).unbind(4), strict=True)
            )
            torch.mul(*pairs[0], out=total)
            for pair in pairs[1:]:
                total.addcmul_(*pair)
        return to_parts_G3HWPS, None


def _learning(x: Tensor) -> bool:
    """Whether a gradient will be asked for."""
    return x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_exporting()


def _taken(x_XA: Tensor, numbers: Sequence[int]) -> Tensor:
    """Some of the last axis; a view where they stand together."""
    if tuple(numbers) == tuple(range(x_XA.shape[-1])):
        return x_XA
    first = numbers[0] if numbers else 0
    if tuple(numbers) == tuple(range(first, first + len(numbers))):
        return x_XA[..., first : first + len(numbers)]
    return x_XA[..., list(numbers)]
