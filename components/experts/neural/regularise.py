"""What keeps a network from learning its training rows by heart: changes of inputs, targets and weights of a
training batch.

Shapes as in batch.py; X any further axes. Randomness comes from the given generator alone, on its own device.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from components.experts.neural.batch import Batch

# Targets that mixup combines; the others (segment, volatility) stay the row's own.
MIXED = ("score_BT", "quantile_BT", "direction_BC", "weight_B", "teacher_B")


def smooth_targets(score_BT: Tensor, segment_B: Tensor, share: float) -> Tensor:
    """Scores moved by `share` of the way to the mean of their segment; NaN stays NaN and counts in no mean.

    `segment_B` as of `numbered`.
    """
    if not share:
        return score_BT
    known_BT = ~score_BT.isnan()
    total_ST = torch.zeros_like(score_BT).index_add(0, segment_B, torch.where(known_BT, score_BT, 0.0))
    count_ST = torch.zeros_like(score_BT).index_add(0, segment_B, known_BT.to(score_BT.dtype))
    return (1 - share) * score_BT + share * (total_ST / count_ST.clamp(min=1))[segment_B]


def smooth_classes(chance_BC: Tensor, share: float) -> Tensor:
    """Chances moved by `share` of the way to equal chances (Szegedy et al. 2016); rows of zeros (unlabelled)
    stay zeros.
    """
    return (1 - share) * chance_BC + share * chance_BC.sum(dim=1, keepdim=True) / chance_BC.shape[1]


def mixup(
    batch: Batch, targets: Mapping[str, Tensor], alpha: float, generator: torch.Generator
) -> tuple[Batch, dict[str, Tensor]]:
    """Each window becomes `share` of itself and the rest of another of its segment (Zhang et al. 2018).

    The share is max(x, 1 - x) of a draw x from Beta(alpha, alpha) for each window, so a window stays mainly
    itself and keeps its sector, its industry and its segment. The other one is the next in a random ring of
    the rows of the segment that have a label of the first task and a weight; rows without, and rows that are
    alone, stay as they are. Where the other window has not begun, a bar stays as it is; where the window
    itself has not begun it stays blank. A further task's target that one of the two lacks is NaN afterwards.
    """
    eligible_B = ~targets["score_BT"][:, 0].isnan() & (targets["weight_B"] > 0)
    other_B = _next_in_ring(targets["segment_B"], eligible_B, generator)
    share_B = _shares(len(other_B), alpha, generator).to(batch.inputs_BLF.device, batch.inputs_BLF.dtype)
    alone_B = other_B == torch.arange(len(other_B), device=other_B.device)
    share_B = torch.where(alone_B, 1.0, share_B)
    both_BL = batch.began_BL & batch.began_BL[other_B]
    inputs_BLF = torch.where(both_BL[..., None], _blend(batch.inputs_BLF, other_B, share_B), batch.inputs_BLF)
    mixed = {
        name: torch.where(_wide(alone_B, value), value, _blend(value, other_B, share_B))
        for name, value in targets.items()
        if name in MIXED
    }
    regime_BR = _blend(batch.regime_BR, other_B, share_B)
    return replace(batch, inputs_BLF=inputs_BLF, regime_BR=regime_BR), {**targets, **mixed}


def cutout(batch: Batch, longest: int, chance: float, generator: torch.Generator) -> Batch:
    """Blank (0) a random stretch of 1 to `longest` bars in a share `chance` of the windows; never the newest
    bar (DeVries and Taylor 2017, along time).
    """
    windows, bars, _ = batch.inputs_BLF.shape
    longest = min(longest, bars - 1)
    if longest < 1 or not chance:
        return batch
    draw_3B = torch.rand(3, windows, generator=generator, device=generator.device, dtype=torch.float64).to(
        batch.inputs_BLF.device
    )
    length_B = 1 + (draw_3B[1] * longest).long()
    start_B = (draw_3B[2] * (bars - length_B)).long()
    bar_L = torch.arange(bars, device=start_B.device)
    blank_BL = (
        (bar_L >= start_B[:, None]) & (bar_L < (start_B + length_B)[:, None]) & (draw_3B[0] < chance)[:, None]
    )
    return batch.with_inputs(batch.inputs_BLF.masked_fill(blank_BL[..., None], 0.0))


def drop_path(
    x_BX: Tensor, rate: float | Tensor, training: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Stochastic depth (Huang et al. 2016) for what a residual block adds: in training 0 for a share `rate`
    of the windows, the others divided by 1 - rate. A rate [B] is each window's own.

    Without a generator the draw is torch's own, like dropout's.
    """
    if not training or not skips(rate):
        return x_BX
    device = x_BX.device if generator is None else generator.device
    draw_B = torch.rand(len(x_BX), generator=generator, device=device).to(x_BX.device)
    return x_BX * _wide((draw_B >= rate).to(x_BX.dtype) / (1 - rate), x_BX)


def skips(rate: float | Tensor) -> bool:
    """Whether a chance, or any of each window's own, can be above 0."""
    return isinstance(rate, Tensor) or rate > 0


def depth_by_turnover(batch: Batch, share: float) -> Batch:
    """The batch with a factor of stochastic depth for each window, from 1 - share for the calmest to 1 +
    share for the most restless one, evenly by rank, with a mean of 1.

    Restless is a window whose inputs move much from bar to bar: mean of |change| over the inputs and the
    bars that follow another; 0 where a window has just begun.
    """
    if not share:
        return batch
    both_BL = (batch.began_BL[:, 1:] & batch.began_BL[:, :-1]).to(batch.inputs_BLF.dtype)
    change_BL = batch.inputs_BLF.diff(dim=1).abs().mean(dim=-1)
    moved_B = (change_BL * both_BL).sum(dim=1) / both_BL.sum(dim=1).clamp(min=1)
    place_B = moved_B.argsort(stable=True).argsort().to(moved_B.dtype)
    return replace(batch, depth_B=1 + share * ((2 * place_B + 1) / len(place_B) - 1))


def depth_rates(rate: float, blocks: int) -> tuple[float, ...]:
    """Rates of `drop_path` for a stack of blocks, rising in a straight line to `rate` at the last one."""
    return tuple(rate * (block + 1) / blocks for block in range(blocks))


def capped(weight_B: Tensor, volatile_B: Tensor, largest_share: float) -> Tensor:
    """Weights with those of volatile rows scaled by one factor, so that they have at most `largest_share` of
    the weight of all rows.

    With V and C the weight of volatile and of calm rows the factor is min(1, share * C / ((1 - share) * V)).
    Where no calm row has a weight no factor can change the share, and the weights stay as they are: such a
    batch is learned from like any other.
    """
    volatile = torch.where(volatile_B, weight_B, 0.0).sum()
    calm = torch.where(volatile_B, 0.0, weight_B).sum()
    if largest_share >= 1:
        return weight_B
    factor = (
        largest_share * calm / ((1 - largest_share) * volatile.clamp(min=torch.finfo(weight_B.dtype).tiny))
    )
    factor = torch.where(calm > 0, factor.clamp(max=1.0), 1.0)
    return torch.where(volatile_B, factor * weight_B, weight_B)


def numbered(key_B: Tensor) -> Tensor:
    """Numbers 0, 1, ... in place of the distinct values of an integer key, in their order; fewer than B, and
    found without waiting for the device.
    """
    order_B = key_B.argsort(stable=True)
    sorted_B = key_B[order_B]
    changed_B = torch.zeros_like(sorted_B)
    changed_B[1:] = (sorted_B[1:] != sorted_B[:-1]).to(sorted_B.dtype)
    return torch.empty_like(key_B).index_copy(0, order_B, changed_B.cumsum(dim=0))


def _next_in_ring(segment_B: Tensor, eligible_B: Tensor, generator: torch.Generator) -> Tensor:
    """For each row the next one of its segment in random order, the first after the last; itself where it is
    alone or not eligible.
    """
    rows = len(segment_B)
    place_B = torch.arange(rows, device=segment_B.device)
    ring_B = torch.where(eligible_B, numbered(segment_B), rows + place_B)
    shuffled_B = torch.randperm(rows, generator=generator, device=generator.device).to(segment_B.device)
    order_B = shuffled_B[ring_B[shuffled_B].argsort(stable=True)]
    sorted_B = ring_B[order_B]
    first_B = torch.ones_like(sorted_B, dtype=torch.bool)
    first_B[1:] = sorted_B[1:] != sorted_B[:-1]
    begin_B = torch.where(first_B, place_B, 0).cummax(dim=0).values
    follower_B = torch.where(first_B.roll(-1), begin_B, place_B + 1)
    return torch.empty_like(order_B).index_copy(0, order_B, order_B[follower_B])


def _shares(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws of max(x, 1 - x), x from Beta(alpha, alpha), by way of two gamma draws."""
    gamma_2B = torch._standard_gamma(
        torch.full((2, count), alpha, dtype=torch.float64, device=generator.device), generator=generator
    )
    share_B = gamma_2B[0] / gamma_2B.sum(dim=0)
    return torch.maximum(share_B, 1 - share_B)


def _blend(x_BX: Tensor, other_B: Tensor, share_B: Tensor) -> Tensor:
    share_BX = _wide(share_B, x_BX)
    return share_BX * x_BX + (1 - share_BX) * x_BX[other_B]


def _wide(x_B: Tensor, like_BX: Tensor) -> Tensor:
    """[B] with as many further axes of length 1 as the other has."""
    return x_B.view(-1, *[1] * (like_BX.ndim - 1))
