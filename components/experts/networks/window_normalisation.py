"""Instance normalisation of windows around any network: level and size of each input are taken out of its
window, and told beside it.

After Kim et al. 2022, "Reversible Instance Normalization for Accurate Time-Series Forecasting against
Distribution Shift" (RevIN). Shapes: B windows, L bars, F inputs, T tasks, E width of the embedding, X any
number.
"""

import torch
from torch import nn

from components.experts.errors import ExpertError
from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.config import NormalisedInputs

# Added to the variance, as in the paper: a window in which an input stands still becomes 0.
SMALLEST_VARIANCE = 1e-5
# They say the same of all symbols, and networks read them as they are.
COMMON_GROUPS = ("calendar", "regime")


class NormalisedWindows(nn.Module):
    """A network that is shown x * gain + shift of each input, where x has mean 0 and deviation 1 over the
    bars of the window that have begun.

    The paper's second half, scaling a forecast back, needs forecasts of the inputs themselves. What is
    foretold here is a return, so an affine map of means and log deviations, 0 at first, is added to the
    embedding in its place: without it most of what factors say is lost. A bar differs from window to window,
    so there is no `prepare`.

    Raises
    ------
    ExpertError
        If there is no such input.
    """

    def __init__(self, network: nn.Module, layout: Layout, inputs: NormalisedInputs):
        super().__init__()
        self.network, self.width = network, network.width
        wanted = ("bars",) if inputs == "bars" else set(layout.inputs.values()) - {*COMMON_GROUPS}
        columns = [number for number, group in enumerate(layout.inputs.values()) if group in wanted]
        if not columns:
            raise ExpertError(
                f"window_normalisation is {inputs}, but none of the {len(layout.inputs)}"
                " inputs is one of them; set it to none, or add such inputs under features.groups."
            )
        kept_F = torch.ones(len(layout.inputs)).index_fill(0, torch.tensor(columns, dtype=torch.long), 0.0)
        self.register_buffer("kept_F", kept_F, persistent=False)
        self.columns = columns
        self.norm_gain_F = nn.Parameter(torch.ones(len(layout.inputs)))
        self.norm_shift_F = nn.Parameter(torch.zeros(len(layout.inputs)))
        self.levels = nn.Linear(2 * len(columns), self.width)
        nn.init.zeros_(self.levels.weight)
        nn.init.zeros_(self.levels.bias)

    def forward(self, batch: Batch) -> Encoded:
        """What the network makes of the normalised windows, moved by their levels."""
        x_BLF, began_BL1 = batch.inputs_BLF, batch.began_BL[..., None].to(batch.inputs_BLF.dtype)
        bars_B11 = began_BL1.sum(dim=1, keepdim=True).clamp(min=1)
        mean_B1F = (x_BLF * began_BL1).sum(dim=1, keepdim=True) / bars_B11
        centred_BLF = (x_BLF - mean_B1F) * began_BL1
        variance_B1F = centred_BLF.square().sum(dim=1, keepdim=True) / bars_B11 + SMALLEST_VARIANCE
        scaled_BLF = (centred_BLF * variance_B1F.rsqrt() * self.norm_gain_F + self.norm_shift_F) * began_BL1
        shown_BLF = torch.where(self.kept_F > 0, x_BLF, scaled_BLF)
        encoded = self.network(batch.with_inputs(shown_BLF))
        statistics_BX = torch.cat([mean_B1F, 0.5 * variance_B1F.log()], dim=1)[..., self.columns].flatten(1)
        moved_BTE = encoded.embedding_BTE + self.levels(statistics_BX)[:, None]
        return Encoded(moved_BTE, encoded.penalty, encoded.evidence)
