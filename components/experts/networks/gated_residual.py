"""Gated residual blocks of the Temporal Fusion Transformer (Lim et al. 2021), with dropout by window.

Shapes: B windows, X bars or steps, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def folded(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one affine map that two make, one after the other."""
    return second.weight @ first.weight, second.weight @ first.bias + second.bias


def window_mask(x_BXD: Tensor, rate: float) -> Tensor:
    """Dropout's factors [B, 1, D]: one mask a window for all its bars (Gal and Ghahramani 2016, for recurrent
    networks).
    """
    return torch.empty_like(x_BXD[:, :1]).bernoulli_(1.0 - rate) / (1.0 - rate)


def masked_sum(skip_BXD: Tensor, added_BXD: Tensor, rate: float, kept_B11: Tensor | None) -> Tensor:
    """skip + added, with dropout of this rate and the windows' factors `kept_B11` on what is added."""
    if not rate and kept_B11 is None:
        return skip_BXD + added_BXD
    mask_B1D = window_mask(added_BXD, rate) if rate else torch.ones_like(added_BXD[:, :1])
    return torch.addcmul(skip_BXD, added_BXD, mask_B1D if kept_B11 is None else mask_B1D * kept_B11)


class GatedResidual(nn.Module):
    """Gated residual network: norm(a + GLU(W1 elu(W2 a + W3 c + b2) + b1)), equations 2 to 5 of the paper;
    dropout acts on what the GLU lets through.

    W1 and the GLU's map follow each other without anything between, so they are multiplied first and each row
    passes one map.
    """

    def __init__(self, width: int, *, context: bool, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.enter = nn.Linear(width, width)
        self.context = nn.Linear(width, width, bias=False) if context else None
        self.inner = nn.Linear(width, width)
        self.gated = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x_BXD: Tensor, context_BD: Tensor | None = None, kept_B11: Tensor | None = None
    ) -> Tensor:
        """`kept_B11` scales what is added to `x_BXD`: 0 skips the block for that window; none: 1."""
        hidden_BXD = self.enter(x_BXD)
        if context_BD is not None:
            hidden_BXD = hidden_BXD + self.context(context_BD)[:, None]
        weight, bias = folded(self.inner, self.gated)
        added_BXD = functional.glu(functional.linear(functional.elu(hidden_BXD), weight, bias))
        return self.norm(masked_sum(x_BXD, added_BXD, self.dropout if self.training else 0.0, kept_B11))


class GatedSkip(nn.Module):
    """norm(skip + GLU(x)), the gate around the LSTM, the attention and the whole decoder; dropout as in
    GatedResidual.
    """

    def __init__(self, width: int, *, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.gated = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BXD: Tensor, skip_BXD: Tensor, kept_B11: Tensor | None = None) -> Tensor:
        """`kept_B11` as in GatedResidual."""
        return self.norm(
            masked_sum(
                skip_BXD, functional.glu(self.gated(x_BXD)), self.dropout if self.training else 0.0, kept_B11
            )
        )
