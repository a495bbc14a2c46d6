"""From embeddings to what is predicted: score, quantiles and direction of each task. Shapes as in batch.py; C classes down, flat, up."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.neural.batch import Batch, Encoded

CLASSES = 3


@dataclass(frozen=True)
class Outputs:
    """Of a batch: scores [B, T], ordered quantiles [B, T, 3] in units of volatility, logits [B, C] of the first task's direction or None, and what the network said."""

    score_BT: Tensor
    quantiles_BT3: Tensor
    direction_BC: Tensor | None
    encoded: Encoded


class Model(nn.Module):
    """A network with its heads.

    With `masks`, the embedding passes fixed dropout masks in evaluation and the scores are averaged; where their spread exceeds `usual_spread` the
    quantiles are wider, where it is less they are narrower.
    """

    def __init__(self, network: nn.Module, tasks: int, *, direction: bool = False, dropout: float = 0.0, masks: int = 0, mask_rate: float = 0.2):
        super().__init__()
        self.network, self.dropout, self.mask_rate = network, dropout, mask_rate
        width = network.width
        self.hidden = nn.Linear(width, width)
        self.score_TE = nn.Parameter(torch.randn(tasks, width) / width**0.5)
        self.score_bias_T = nn.Parameter(torch.zeros(tasks))
        self.quantiles_T3E = nn.Parameter(torch.randn(tasks, 3, width) * 0.1 / width**0.5)
        # softplus(1.02) = 1.33, so the bands start near the 10 % and 90 % points of a unit normal's 1.28.
        self.quantile_bias_T3 = nn.Parameter(torch.tensor([0.0, 1.02, 1.02]).repeat(tasks, 1))
        self.direction = nn.Linear(width, CLASSES) if direction else None
        kept_ME = (torch.rand(masks, width) >= mask_rate).float() / (1 - mask_rate)
        self.register_buffer("masks_ME", kept_ME if masks else torch.zeros(0, width))
        self.register_buffer("usual_spread", torch.ones(()))

    def forward(self, batch: Batch) -> Outputs:
        """Everything that is predicted of a batch."""
        encoded = self.network(batch)
        embedding_BTE = encoded.embedding_BTE
        if self.training:
            embedding_BTE = functional.dropout(embedding_BTE, self.mask_rate if len(self.masks_ME) else self.dropout)
        x_BTE = functional.gelu(self.hidden(embedding_BTE))
        score_BT, quantiles_BT3 = self._heads(x_BTE)
        direction_BC = None if self.direction is None else self.direction(x_BTE[:, 0]).float()
        if len(self.masks_ME) and not self.training:
            sampled_MBT = self.sampled_scores(embedding_BTE)
            score_BT, spread_BT = sampled_MBT.mean(dim=0), sampled_MBT.std(dim=0)
            quantiles_BT3 = widened(quantiles_BT3, torch.sqrt((1 + (spread_BT / self.usual_spread) ** 2) / 2))
        return Outputs(score_BT, quantiles_BT3, direction_BC, encoded)

    def sampled_scores(self, embedding_BTE: Tensor) -> Tensor:
        """Scores [M, B, T] under each of the fixed dropout masks."""
        masked_MBTE = embedding_BTE[None] * self.masks_ME[:, None, None]
        return self._heads(functional.gelu(self.hidden(masked_MBTE)))[0]

    def _heads(self, x_BTE: Tensor) -> tuple[Tensor, Tensor]:
        score_BT = ((x_BTE * self.score_TE).sum(dim=-1) + self.score_bias_T).float()
        quantiles_BT3 = ((x_BTE[..., None, :] * self.quantiles_T3E).sum(dim=-1) + self.quantile_bias_T3).float()
        middle_BT, below_BT, above_BT = quantiles_BT3.unbind(dim=-1)
        return score_BT, torch.stack([middle_BT - functional.softplus(below_BT), middle_BT, middle_BT + functional.softplus(above_BT)], dim=-1)


def widened(quantiles_BT3: Tensor, factor_BT: Tensor) -> Tensor:
    """Quantiles with their distances from the middle one times `factor_BT`."""
    middle_BT1 = quantiles_BT3[..., 1:2]
    return middle_BT1 + (quantiles_BT3 - middle_BT1) * factor_BT[..., None]
