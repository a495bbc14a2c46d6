"""From embeddings to what is predicted: score, quantiles and direction of each task.

Shapes as in batch.py; C classes down, flat, up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.neural.batch import Batch, Encoded

CLASSES = 3
# Width of the layer between what the bands are told and what they say.
BAND_WIDTH = 32


@dataclass(frozen=True)
class ModelOutputs:
    """Of a batch: scores [B, T], ordered quantiles [B, T, 3] in units of volatility, logits [B, C] of the
    first task's direction or None, and what the network said.
    """

    score_BT: Tensor
    quantiles_BT3: Tensor
    direction_BC: Tensor | None
    encoded: Encoded


class ForecastModel(nn.Module):
    """A network with its heads.

    With `masks`, the embedding passes fixed dropout masks in evaluation and the scores are averaged; where
    their spread exceeds `usual_spread` the quantiles are wider, where it is less they are narrower.

    With `band_inputs`, the number of inputs, the quantiles of the first task are moved by `BandHead` in
    evaluation; these are trained by themselves (bands.py), so that they take no part in the training of the
    rest.
    """

    def __init__(
        self,
        network: nn.Module,
        tasks: int,
        *,
        direction: bool = False,
        dropout: float = 0.0,
        masks: int = 0,
        mask_rate: float = 0.2,
        band_inputs: int = 0,
    ):
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
        # What is drawn after it does not depend on whether there are bands.
        with torch.random.fork_rng(devices=[]):
            self.bands = BandHead(width + band_inputs) if band_inputs else None

    def forward(self, batch: Batch) -> ModelOutputs:
        """Everything that is predicted of a batch."""
        return self.answer(self.network(batch), batch)

    def answer(self, encoded: Encoded, batch: Batch) -> ModelOutputs:
        """Everything that is predicted of what the network made of a batch."""
        embedding_BTE = encoded.embedding_BTE
        if self.training:
            embedding_BTE = functional.dropout(
                embedding_BTE, self.mask_rate if len(self.masks_ME) else self.dropout
            )
        x_BTE = functional.gelu(self.hidden(embedding_BTE))
        score_BT, raw_BT3 = self._score(x_BTE), self._raw_quantiles(x_BTE)
        direction_BC = None if self.direction is None else self.direction(x_BTE[:, 0]).float()
        if self.training:
            return ModelOutputs(score_BT, ordered(raw_BT3), direction_BC, encoded)
        if self.bands is not None:
            moved_B3 = raw_BT3[:, 0] + self.bands(band_inputs(embedding_BTE, batch))
            raw_BT3 = torch.cat([moved_B3[:, None], raw_BT3[:, 1:]], dim=1)
        quantiles_BT3 = ordered(raw_BT3)
        if len(self.masks_ME):
            sampled_MBT = self.sampled_scores(embedding_BTE)
            score_BT = sampled_MBT.mean(dim=0)
            quantiles_BT3 = widened(quantiles_BT3, self._doubt(sampled_MBT))
        return ModelOutputs(score_BT, quantiles_BT3, direction_BC, encoded)

    def band_parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of the first task, in evaluation: what `bands` is given [B, K], the raw quantiles that it adds to
        [B, 3], and the factor by which the masks widen them [B].
        """
        embedding_BTE = self.network(batch).embedding_BTE
        raw_BT3 = self._raw_quantiles(functional.gelu(self.hidden(embedding_BTE)))
        doubt_BT = (
            self._doubt(self.sampled_scores(embedding_BTE))
            if len(self.masks_ME)
            else torch.ones_like(raw_BT3[..., 0])
        )
        return band_inputs(embedding_BTE, batch), raw_BT3[:, 0], doubt_BT[:, 0]

    def sampled_scores(self, embedding_BTE: Tensor) -> Tensor:
        """Scores [M, B, T] under each of the fixed dropout masks."""
        masked_MBTE = embedding_BTE[None] * self.masks_ME[:, None, None]
        return self._score(functional.gelu(self.hidden(masked_MBTE)))

    def _score(self, x_BTE: Tensor) -> Tensor:
        return ((x_BTE * self.score_TE).sum(dim=-1) + self.score_bias_T).float()

    def _raw_quantiles(self, x_BTE: Tensor) -> Tensor:
        """Middle, and how far below and above it lie before the softplus, [B, T, 3]."""
        return ((x_BTE[..., None, :] * self.quantiles_T3E).sum(dim=-1) + self.quantile_bias_T3).float()

    def _doubt(self, sampled_MBT: Tensor) -> Tensor:
        """Factor [B, T] on the bands: 1 where the masks' scores are spread as usual."""
        return torch.sqrt((1 + (sampled_MBT.std(dim=0) / self.usual_spread) ** 2) / 2)


class BandHead(nn.Module):
    """What is added to raw quantiles [B, 3], from the embedding and the newest bar's inputs [B, K]: an
    encoder that learned to order symbols by return need not tell how far they may move. Adds 0 until it is
    trained, and is kept out of any other training.
    """

    def __init__(self, inputs: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, BAND_WIDTH), nn.Linear(BAND_WIDTH, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.requires_grad_(False)

    def forward(self, x_BK: Tensor) -> Tensor:
        """The addition [B, 3]."""
        return self.out(functional.gelu(self.hidden(x_BK)))


def band_inputs(embedding_BTE: Tensor, batch: Batch) -> Tensor:
    """What `BandHead` is given, [B, K]."""
    return torch.cat([embedding_BTE[:, 0], batch.newest()], dim=-1).float()


def ordered(raw_BX3: Tensor) -> Tensor:
    """Quantiles in order from raw ones."""
    middle_BX, below_BX, above_BX = raw_BX3.unbind(dim=-1)
    return torch.stack(
        [middle_BX - functional.softplus(below_BX), middle_BX, middle_BX + functional.softplus(above_BX)],
        dim=-1,
    )


def widened(quantiles_BX3: Tensor, factor_BX: Tensor) -> Tensor:
    """Quantiles with their distances from the middle one times `factor_BX`."""
    middle_BX1 = quantiles_BX3[..., 1:2]
    return middle_BX1 + (quantiles_BX3 - middle_BX1) * factor_BX[..., None]
