"""Frequency-adaptive normalisation: the waves that dominate an input's window are taken out and forecast on
their own, the rest goes on with its size evened out.

After Ye et al. 2024, "Frequency Adaptive Normalization for Non-stationary Time Series Forecasting" (FAN); a
learned soft cut stands in for its top K. Shapes: B windows, L bars, F inputs, W = L // 2 + 1 waves (0 to W -
1 times a window), C = 2 * W: the waves' cosines, then their sines.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHARE_AT_HALF = 0.2
SHARPNESS = 20.0
SMALLEST_ENERGY = 1e-6
SMALLEST_SQUARE = 0.01


@dataclass(frozen=True)
class Split:
    """A window's two parts.

    level_BF : forecast of the dominant waves
    rest_BLF : the window without them
    evening_BF : what evens out the size of the rest: one over a learned power of its own root mean square
    share_BF : share of the window's energy that was in the dominant waves, in [0, 1]
    """

    level_BF: Tensor
    rest_BLF: Tensor
    evening_BF: Tensor
    share_BF: Tensor


def fourier_basis(lookback: int) -> Tensor:
    """Orthonormal real Fourier basis [C, L]; sines that are 0 everywhere stay rows of zeros."""
    waves = lookback // 2 + 1
    angle_WL = (
        2
        * math.pi
        / lookback
        * torch.outer(torch.arange(waves, dtype=torch.float64), torch.arange(lookback, dtype=torch.float64))
    )
    alone_W = torch.tensor([wave in (0, lookback / 2) for wave in range(waves)])
    size_W1 = torch.where(alone_W, 1 / lookback, 2 / lookback).sqrt()[:, None]
    sine_WL = torch.where(alone_W[:, None], 0.0, torch.sin(angle_WL))
    return torch.cat([torch.cos(angle_WL) * size_W1, sine_WL * size_W1]).float()


class FrequencyNormalisation(nn.Module):
    """A wave counts as dominant in a window by sigmoid(sharpness * (its share of the window's energy - cut)),
    with a cut and a sharpness an input.

    The dominant part is forecast as its newest value plus a learned weighting of its cosines and sines, 0 at
    first. A matrix product stands in for the FFT, so that the graph exports; for the lookbacks of this
    project it is as fast.
    """

    def __init__(self, lookback: int, inputs: int):
        super().__init__()
        self.waves = lookback // 2 + 1
        self.register_buffer("basis_CL", fourier_basis(lookback), persistent=False)
        self.cut_gate_F = nn.Parameter(torch.full((inputs,), math.log(SHARE_AT_HALF / (1 - SHARE_AT_HALF))))
        self.sharpness_gate_F = nn.Parameter(torch.full((inputs,), math.log(SHARPNESS)))
        self.power_gate_F = nn.Parameter(torch.full((inputs,), -2.0))
        self.ahead_CF = nn.Parameter(torch.zeros(2 * self.waves, inputs))

    def forward(self, x_BLF: Tensor) -> Split:
        """The parts of windows of standardised inputs, 0 where missing."""
        coefficient_B2WF = (self.basis_CL @ x_BLF).unflatten(1, (2, self.waves))
        energy_BWF = coefficient_B2WF.square().sum(dim=1)
        share_BWF = energy_BWF / (energy_BWF.sum(dim=1, keepdim=True) + SMALLEST_ENERGY)
        dominant_BWF = torch.sigmoid(
            self.sharpness_gate_F.exp() * (share_BWF - torch.sigmoid(self.cut_gate_F))
        )
        other_BWF = 1 - dominant_BWF
        rest_BLF = self.basis_CL.T @ (coefficient_B2WF * other_BWF[:, None]).flatten(1, 2)
        ahead_2WF = (self.basis_CL[:, -1:] + self.ahead_CF).unflatten(0, (2, self.waves))
        level_BF = ((coefficient_B2WF * ahead_2WF).sum(dim=1) * dominant_BWF).sum(dim=1)
        square_BF = (energy_BWF * other_BWF.square()).sum(dim=1) / x_BLF.shape[1]
        evening_BF = (square_BF + SMALLEST_SQUARE).pow(-torch.sigmoid(self.power_gate_F) / 2)
        return Split(level_BF, rest_BLF, evening_BF, (share_BWF * dominant_BWF).sum(dim=1))
