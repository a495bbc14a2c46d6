"""Attention among the few patches of a window: as sums over whole arrays on the CPU, as matrix products on
the GPU and for many patches.

Shapes: G encoders, H heads, W width of a head, P patches, S sequences of patches, N = G * S.
"""

import torch
from torch import Tensor
from torch.nn import functional

from components.experts.networks.unit_scale import learning

# Up to so many patches, attention is summed pair by pair on the CPU; beyond that matrix products are faster.
FEW_PATCHES = 16


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
    if learning(parts_G3HWPS):
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
    """`attention` as two products of whole arrays, for the exported graph.

    The patch that is looked at comes before the one that looks, so that each sum runs over an axis with long
    rows behind it: ONNX Runtime takes several times as long for others, and for its own softmax along them.
    """
    query, key, value = parts_G3HWPS.unbind(dim=1)
    products_GHWPPS = key[:, :, :, :, None] * query[:, :, :, None]
    scores_GHPPS = products_GHWPPS.sum(dim=2) * query.shape[2] ** -0.5 + attend_PS[:, None]
    powers_GHPPS = torch.exp(scores_GHPPS - scores_GHPPS.amax(dim=2, keepdim=True))
    weights_GHPPS = powers_GHPPS / powers_GHPPS.sum(dim=2, keepdim=True)
    return (weights_GHPPS[:, :, :, None] * value.transpose(2, 3)[:, :, :, :, None]).sum(dim=2)


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
