"""The fitted PatchTST as one ONNX graph, from windows of raw inputs to score and quantiles: scalers, clipping and missing values included.

Shapes as in patchtst_network; A all inputs, S regimes.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import REGIMES
from components.experts.patchtst_network import GroupwisePatchTST
from components.experts.patchtst_training import Columns
from components.experts.patchtst_windows import CLIP_DEVIATIONS, Scalers

# Any size but 1, which the exporter would take for a constant.
EXAMPLE_WINDOWS = 3
# sigmoid(OPEN) is 1 in float32.
OPEN = 30.0
LARGEST_FLOAT = torch.finfo(torch.float32).max


class _FromWindows(nn.Module):
    """`window` [B, L, A] as the bars are, missing values NaN, `begun` [B, L] (1 from the symbol's first bar on) and `regime` [B, S]
    one-hot, to raw score [B] and quantiles [B, 3].

    Gate and mixing are one affine map each over all inputs, so that the largest arrays are never cut or put together:
    raw bars pass a gate that is always open and are mixed with nothing.
    """

    def __init__(self, network: GroupwisePatchTST, scalers: Scalers, columns: Columns):
        super().__init__()
        self.network, self.columns = network, columns
        self.register_buffer("mean_A", torch.tensor(scalers.mean))
        self.register_buffer("inverse_A", 1.0 / torch.tensor(scalers.deviation))
        factors, raw, inputs = list(columns.factors), list(columns.raw), len(scalers.mean)
        gate_AA, open_A = torch.zeros(inputs, inputs), torch.full((inputs,), OPEN)
        mixing_AM = torch.zeros(inputs, network.sizes.groups * network.sizes.channels + len(raw))
        if factors:
            gate_AA[np.ix_(factors, factors)] = (network.gate.weight_FF * network.gate.same_group_FF).detach()
            open_A[factors] = network.gate.bias_F.detach()
            mixing_AM[factors, : -len(raw) or None] = (network.mixing_FK * network.own_FK).detach()
        mixing_AM[raw, range(-len(raw), 0)] = 1.0
        for name, value in (("gate_AA", gate_AA), ("open_A", open_A), ("mixing_AM", mixing_AM)):
            self.register_buffer(name, value)

    def forward(self, window_BLA: Tensor, begun_BL: Tensor, regime_BS: Tensor) -> tuple[Tensor, Tensor]:
        length, inputs = window_BLA.shape[1:]
        flat_NA = window_BLA.reshape(-1, inputs)
        scaled_NA = ((flat_NA - self.mean_A) * self.inverse_A).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        # False for NaN as well as for infinities.
        x_NA = torch.where(flat_NA.abs() <= LARGEST_FLOAT, scaled_NA, 0.0)
        opening_NA = torch.sigmoid(functional.linear(x_NA, self.gate_AA, self.open_A))
        mixed_BLM = ((x_NA * opening_NA) @ self.mixing_AM).view(-1, length, self.mixing_AM.shape[1])
        newest_BA = x_NA.view(-1, length, inputs)[:, -1]
        channels = self.mixing_AM.shape[1] - len(self.columns.raw)
        regime_BQ = torch.cat([newest_BA[:, list(self.columns.regime)], regime_BS], dim=-1)
        outputs = self.network(mixed_BLM[..., :channels], mixed_BLM[..., channels:], begun_BL > 0, regime_BQ)
        return outputs.score_B, outputs.quantiles_B3


def window_graph(network: GroupwisePatchTST, scalers: Scalers, columns: Columns, lookback: int) -> bytes:
    """The graph with inputs `window`, `begun` and `regime` and outputs `raw` and `quantiles`, any number of windows."""
    module = _FromWindows(network.cpu().eval(), scalers, columns).eval()
    shapes = ((lookback, len(scalers.mean)), (lookback,), (len(REGIMES),))
    example = tuple(torch.zeros(EXAMPLE_WINDOWS, *shape) for shape in shapes)
    rows = torch.export.Dim("B", min=1)
    names = {"input_names": ["window", "begun", "regime"], "output_names": ["raw", "quantiles"]}
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Deprecations inside torch, and that B and B are the same.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=({0: rows},) * len(example), verbose=False, **names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program.save(path, external_data=False)
        return path.read_bytes()
