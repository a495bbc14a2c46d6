"""What a neural expert learns: targets from the labels of its training rows, and the loss of a batch.

Shapes: N rows, B windows of a batch, T tasks, C classes down, flat, up; S segments, at most as many as
windows. A segment is a timestamp where batches are whole timestamps, else the batch. Every part is a weighted
mean over the rows that have a label and a weight; where there is none it is 0.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from components.experts.rows import FEWEST_SYMBOLS

QUANTILES = (0.1, 0.5, 0.9)
# Pairs of rows whose soft ranks are worked out at a time.
RANK_PAIRS = 2**22
# A segment has no spread where its variance is less than this share of its mean square: no more than
# rounding.
SMALLEST_VARIANCE_SHARE = 1e-10


def segment_correlation(score_B: Tensor, target_B: Tensor, segment_B: Tensor, weight_B: Tensor) -> Tensor:
    """Pearson's correlation of score and target within each segment, its mean over segments by their weight;
    0 where no segment has one.

    A segment of fewer than 3 rows that count, or without spread in score or target, has none and gives no
    gradient.

    Parameters
    ----------
    target_B : NaN where unlabelled
    segment_B : int64, below B (see `regularise.numbered`)
    """
    score_B, target_B, weight_B = _counting(score_B, target_B, weight_B)
    total_S = _sums(weight_B, segment_B)
    mass_S = torch.where(total_S > 0, total_S, 1.0)
    score_B, score_has_S = _centred(score_B, segment_B, weight_B, mass_S)
    target_B, target_has_S = _centred(target_B, segment_B, weight_B, mass_S)
    has_S = (
        score_has_S & target_has_S & (_sums((weight_B > 0).to(weight_B.dtype), segment_B) >= FEWEST_SYMBOLS)
    )
    product_S = _sums(weight_B * score_B * target_B, segment_B)
    square_S = _sums(weight_B * score_B.square(), segment_B), _sums(weight_B * target_B.square(), segment_B)
    spread_S = torch.where(has_S, square_S[0], 1.0).sqrt() * torch.where(has_S, square_S[1], 1.0).sqrt()
    correlation_S = torch.where(has_S, product_S, 0.0) / spread_S
    counted_S = torch.where(has_S, total_S, 0.0)
    return (counted_S * correlation_S).sum() / _divisor(counted_S.sum())


def soft_spearman(
    score_B: Tensor, target_B: Tensor, segment_B: Tensor, weight_B: Tensor, temperature: float
) -> Tensor:
    """`segment_correlation` of the score's soft ranks with the target's ranks:

    Spearman's correlation with a gradient.

    The soft rank of a row is the sum over the rows of its segment that count of sigmoid((score - their score)
    / (temperature * the segment's standard deviation)): the pairwise sigmoid ranks of Qin, Liu and Li 2010
    for the measure that Blondel et al. 2020 train on. As the temperature falls it becomes the rank. Takes
    time with the square of a segment's rows; of `RANK_PAIRS` pairs on they are worked out in pieces, and
    again in the backward pass, so that memory stays bounded. Waits for the device once, to learn the
    segments' sizes.
    """
    counts_B = _counts(target_B, weight_B)
    score_B, target_B, weight_B = _counting(score_B, target_B, weight_B)
    total_S = _sums(weight_B, segment_B)
    mass_S = torch.where(total_S > 0, total_S, 1.0)
    centred_B, has_S = _centred(score_B, segment_B, weight_B, mass_S)
    deviation_S = torch.where(has_S, _sums(weight_B * centred_B.square(), segment_B) / mass_S, 1.0).sqrt()
    # Where scores have no spread all differences are 0, and so is the gradient.
    scaled_B = torch.where(has_S[segment_B], centred_B, 0.0) / (temperature * deviation_S[segment_B])
    soft_B = _soft_ranks(scaled_B, segment_B, counts_B)
    rank_B = _ranks(target_B, torch.where(counts_B, segment_B, len(segment_B)))
    return segment_correlation(soft_B, torch.where(counts_B, rank_B, math.nan), segment_B, weight_B)


def huber_with_cost(
    score_B: Tensor,
    target_B: Tensor,
    weight_B: Tensor,
    delta: float = 1.0,
    cost_penalty: float = 0.0,
    cost: float = 0.0,
) -> Tensor:
    """Mean of Huber's loss of score against target, plus `cost_penalty` times the excess cost.

    With e = score - target, Huber's loss is e^2 / 2 up to |e| = delta and delta * (|e| - delta / 2) beyond. A
    score larger than the round-trip `cost` stands for a trade that seems to pay; if its sign is wrong (score
    * target < 0), it has paid costs to lose, and the excess cost is
    |score| - cost. It is 0 for a score of the right sign, or too small to trade. Score, target, delta, cost
    are in deviations of the target.
    """
    score_B, target_B, weight_B = _counting(score_B, target_B, weight_B)
    loss_B = functional.huber_loss(score_B, target_B, delta=delta, reduction="none")
    if cost_penalty:
        loss_B = loss_B + cost_penalty * torch.where(
            score_B * target_B < 0, functional.relu(score_B.abs() - cost), 0.0
        )
    return _mean(loss_B, weight_B)


def pinball(quantiles_B3: Tensor, target_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean pinball loss over rows and the three quantiles (Koenker and Bassett 1978)."""
    counts_B = _counts(target_B, weight_B)
    error_B3 = torch.where(counts_B[:, None], target_B[:, None] - quantiles_B3, 0.0)
    levels_3 = torch.tensor(QUANTILES, dtype=error_B3.dtype, device=error_B3.device)
    return _mean(
        torch.maximum(levels_3 * error_B3, (levels_3 - 1) * error_B3).mean(dim=1),
        torch.where(counts_B, weight_B, 0.0),
    )


def focal(logits_BC: Tensor, chance_BC: Tensor, weight_B: Tensor, gamma: float) -> Tensor:
    """Mean of -sum over classes of chance * (1 - p)^gamma * log p (Lin et al. 2017); with gamma 0 the cross
    entropy.

    `chance_BC` are the chances of the classes, one-hot or smoothed; rows of zeros, or with NaN, do not count.
    """
    counts_B = (chance_BC.sum(dim=1) > 0) & (weight_B > 0)
    log_BC = functional.log_softmax(torch.where(counts_B[:, None], logits_BC, 0.0), dim=1)
    missed_BC = -torch.expm1(log_BC)
    loss_BC = (
        -torch.where(counts_B[:, None], chance_BC, 0.0)
        * missed_BC.clamp(min=torch.finfo(log_BC.dtype).tiny) ** gamma
        * log_BC
    )
    return _mean(loss_BC.sum(dim=1), torch.where(counts_B, weight_B, 0.0))


def distillation(score_B: Tensor, teacher_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean squared distance of a student's score from its teacher's (Hinton et al. 2015, for a regression);
    rows without a teacher do not count.
    """
    score_B, teacher_B, weight_B = _counting(score_B, teacher_B, weight_B)
    return _mean((score_B - teacher_B).square(), weight_B)


def _counts(target_B: Tensor, weight_B: Tensor) -> Tensor:
    return ~target_B.isnan() & (weight_B > 0)


def _counting(score_B: Tensor, target_B: Tensor, weight_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three with 0 in the rows that do not count."""
    counts_B = _counts(target_B, weight_B)
    return (
        torch.where(counts_B, score_B, 0.0),
        torch.where(counts_B, target_B, 0.0),
        torch.where(counts_B, weight_B, 0.0),
    )


def _mean(x_B: Tensor, weight_B: Tensor) -> Tensor:
    return (weight_B * x_B).sum() / _divisor(weight_B.sum())


def _divisor(total: Tensor) -> Tensor:
    """The total, or 1 in place of 0."""
    return torch.where(total > 0, total, 1.0)


def _sums(x_B: Tensor, segment_B: Tensor) -> Tensor:
    """Sum of each segment, [S] with S = B: the number of segments is not asked for, because the device would
    have to answer first.
    """
    return torch.zeros_like(x_B).index_add(0, segment_B, x_B)


def _centred(x_B: Tensor, segment_B: Tensor, weight_B: Tensor, mass_S: Tensor) -> tuple[Tensor, Tensor]:
    """x less its segment's weighted mean, and which segments [S] have a spread that is more than rounding."""
    mean_S = _sums(weight_B * x_B, segment_B) / mass_S
    centred_B = x_B - mean_S[segment_B]
    with torch.no_grad():
        variance_S = _sums(weight_B * centred_B.square(), segment_B) / mass_S
        # Not (variance > least), so that a NaN among the scores comes out as a NaN loss.
        has_S = ~(variance_S <= SMALLEST_VARIANCE_SHARE * mean_S.square() + torch.finfo(x_B.dtype).tiny)
    return centred_B, has_S


def _soft_ranks(x_B: Tensor, segment_B: Tensor, counts_B: Tensor) -> Tensor:
    """Sum of sigmoid(x - another's x) over the rows of the segment that count, from a grid [D, P] of segments
    and places in them.
    """
    order_B = segment_B.argsort(stable=True)
    sizes_S = torch.bincount(segment_B)
    segments, places = len(sizes_S), int(sizes_S.max())
    begin_S = sizes_S.cumsum(dim=0) - sizes_S
    numbers_B = torch.arange(len(order_B), device=order_B.device)
    slot_B = torch.empty_like(order_B).index_copy(
        0, order_B, segment_B[order_B] * places + numbers_B - begin_S[segment_B[order_B]]
    )
    mine_DP = x_B.new_zeros(segments * places).index_copy(0, slot_B, x_B).view(segments, places)
    # An infinite one is above all and adds nothing.
    others_DP = (
        x_B.new_full((segments * places,), math.inf)
        .index_copy(0, slot_B, torch.where(counts_B, x_B, math.inf))
        .view(segments, places)
    )
    days, rows = max(1, RANK_PAIRS // places**2), max(1, RANK_PAIRS // places)
    pieces = [
        (mine_XP.split(rows, dim=1), others_XP)
        for mine_XP, others_XP in zip(mine_DP.split(days), others_DP.split(days), strict=True)
    ]
    whole = segments <= days and places <= rows
    ranks = [
        torch.cat(
            [
                (
                    _above(mine, others)
                    if whole
                    else checkpoint(_above, mine, others, use_reentrant=False, preserve_rng_state=False)
                )
                for mine in some
            ],
            1,
        )
        for some, others in pieces
    ]
    return torch.cat(ranks).flatten()[slot_B]


def _above(mine_DX: Tensor, others_DP: Tensor) -> Tensor:
    return torch.sigmoid(mine_DX[:, :, None] - others_DP[:, None, :]).sum(dim=2)


def _ranks(target_B: Tensor, segment_B: Tensor) -> Tensor:
    """Place of each row among its segment's by target, from some number on that is the segment's own; ties
    share their mean.
    """
    order_B = target_B.argsort(stable=True)
    order_B = order_B[segment_B[order_B].argsort(stable=True)]
    sorted_B, number_B = target_B[order_B], torch.arange(len(order_B), device=order_B.device)
    differs_B = (sorted_B[1:] != sorted_B[:-1]) | (segment_B[order_B][1:] != segment_B[order_B][:-1])
    edge = differs_B.new_ones(1)
    first_B = torch.where(torch.cat([edge, differs_B]), number_B, 0).cummax(dim=0).values
    last_B = (
        torch.where(torch.cat([differs_B, edge]), number_B, len(number_B))
        .flip(0)
        .cummin(dim=0)
        .values.flip(0)
    )
    return torch.empty_like(target_B).index_copy(0, order_B, (first_B + last_B).to(target_B.dtype) / 2)
