"""The network of the adaptive temporal fusion transformer: a light temporal encoder a window, then attention
on the graph of each timestamp.

After Lim et al. 2021 (TFT: variable selection, gated residual blocks, attention over the past), with causal
gated convolutions in place of the LSTM, frequency-adaptive normalisation before them and a graph of stocks
behind them. Shapes: B windows, L bars, F inputs, R regimes, E width, H heads, D days, S slots a day, P edge
features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.experts.networks.frequency_normalisation import FrequencyNormalisation, Split
from components.experts.networks.gated_residual import GatedResidual
from components.experts.networks.graph_attention import (
    DayGraph,
    GraphLayer,
    TemperedAttention,
    blocked,
    edge_names,
    make_graph,
    peer_shares,
)
from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.regularise import depth_rates, drop_path


@dataclass(frozen=True)
class Sizes:
    """All that the network's shapes depend on beside the layout."""

    width: int
    heads: int
    layers: int
    graph_layers: int
    kernel_bars: int
    frequency_normalisation: bool
    dropout: float
    stochastic_depth: float


class WindowSelection(nn.Module):
    """One weight an input and window, softmax over the inputs, from the window's level, its newest bar and
    what is known of symbol and regime.
    """

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.wide = nn.Linear(2 * inputs, width)
        self.narrow = nn.Linear(width, inputs)

    def forward(self, split: Split, static_BE: Tensor) -> Tensor:
        """Weights [B, F] that sum to 1."""
        newest_BX = torch.cat([split.level_BF, split.rest_BLF[:, -1] * split.evening_BF], dim=1)
        return torch.softmax(self.narrow(functional.elu(self.wide(newest_BX) + static_BE)), dim=1)


class CausalBlock(nn.Module):
    """A gated residual block over a few bars up to each one, `dilation` apart."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.kernel, self.dilation, self.dropout = kernel, dilation, dropout
        self.mix = nn.Linear(kernel * width, 2 * width)

    def forward(self, x_BLE: Tensor, depth: float | Tensor) -> Tensor:
        """The same shape; bar l sees bars up to l alone. `depth`: the chance that a window skips it."""
        bars, reach = x_BLE.shape[1], (self.kernel - 1) * self.dilation
        padded_BXE = functional.pad(functional.layer_norm(x_BLE, x_BLE.shape[-1:]), (0, 0, reach, 0))
        near_BLX = torch.cat(
            [padded_BXE[:, start : start + bars] for start in range(0, reach + 1, self.dilation)], dim=2
        )
        added_BLE = functional.dropout(
            functional.glu(self.mix(near_BLX), dim=-1), self.dropout, self.training
        )
        return x_BLE + drop_path(added_BLE, depth, self.training)


class WindowEncoder(nn.Module):
    """From a window to its embedding: frequency-adaptive normalisation, variable selection, causal blocks,
    attention of the newest bar over all of them.
    """

    def __init__(self, layout: Layout, sizes: Sizes, depths: tuple[float, ...]):
        super().__init__()
        inputs, width = len(layout.inputs), sizes.width
        self.frequency = (
            FrequencyNormalisation(layout.lookback, inputs) if sizes.frequency_normalisation else None
        )
        self.sector = nn.Embedding(layout.sectors + 1, width)
        self.industry = nn.Embedding(layout.industries + 1, width)
        self.regime = nn.Linear(layout.regimes, width)
        self.select = WindowSelection(inputs, width)
        self.level = nn.Linear(inputs, width)
        self.embed = nn.Linear(inputs, width)
        self.depths = depths
        self.place_LE = nn.Parameter(0.02 * torch.randn(layout.lookback, width))
        self.blocks = nn.ModuleList(
            CausalBlock(width, sizes.kernel_bars, sizes.kernel_bars**number, sizes.dropout)
            for number in range(len(depths))
        )
        self.over_bars = TemperedAttention(width, sizes.heads)
        self.joined = GatedResidual(width, context=False, dropout=sizes.dropout)
        with torch.no_grad():
            self.sector.weight.mul_(0.1)
            self.industry.weight.mul_(0.1)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings [B, E], and evidence by name."""
        split = self._split(batch.inputs_BLF)
        static_BE = (
            self.sector(batch.sector_B) + self.industry(batch.industry_B) + self.regime(batch.regime_BR)
        )
        selected_BF = self.select(split, static_BE)
        factor_BF = selected_BF * selected_BF.shape[1]
        x_BLE = self.embed(split.rest_BLF * (split.evening_BF * factor_BF)[:, None]) + self.place_LE
        began_BL1 = batch.began_BL[..., None]
        for block, depth in zip(self.blocks, self.depths, strict=True):
            x_BLE = block(x_BLE * began_BL1, batch.depth_rate(depth))
        newest_B1E = x_BLE[:, -1:]
        heard_B1E, _ = self.over_bars(
            newest_B1E,
            x_BLE,
            blocked(batch.began_BL)[:, None, None],
            batch.began_BL.any(dim=1, keepdim=True).float(),
        )
        x_B1E = newest_B1E + heard_B1E + (self.level(split.level_BF * factor_BF) + static_BE)[:, None]
        return self.joined(x_B1E)[:, 0], {"variable_selection": selected_BF, "frequency": split.share_BF}

    def _split(self, x_BLF: Tensor) -> Split:
        if self.frequency is None:
            newest_BF = x_BLF[:, -1]
            return Split(newest_BF, x_BLF, torch.ones_like(newest_BF), torch.zeros_like(newest_BF))
        return self.frequency(x_BLF)


class AdaptiveTFT(nn.Module):
    """The window encoder, then as many graph layers as wanted.

    Without graph layers each window stands for itself.
    """

    def __init__(self, layout: Layout, sizes: Sizes):
        super().__init__()
        self.layout, self.width = layout, sizes.width
        self.close = next(
            (number for number in layout.columns("bars") if layout.names[number] == "bar_close"), None
        )
        edges = edge_names(self.close is not None)
        depths = depth_rates(sizes.stochastic_depth, sizes.layers + sizes.graph_layers)
        self.depths = depths[sizes.layers :]
        self.windows = WindowEncoder(layout, sizes, depths[: sizes.layers])
        self.graph = nn.ModuleList(
            GraphLayer(sizes.width, sizes.heads, len(edges), sizes.dropout) for _ in range(sizes.graph_layers)
        )

    def forward(self, batch: Batch) -> Encoded:
        """One embedding a window for all tasks."""
        x_BE, evidence = self.windows(batch)
        graph = self.graph_of(batch) if len(self.graph) else None
        shares_BK = []
        for layer, depth in zip(self.graph, self.depths, strict=True):
            added_DSE, weights_DHSS = layer(batch.grid(x_BE), graph)
            x_BE = x_BE + drop_path(batch.rows(added_DSE), batch.depth_rate(depth), self.training)
            if not self.training:
                shares_BK.append(batch.rows(peer_shares(weights_DHSS, graph)))
        if not self.training:
            evidence = {**evidence, **self._graph_evidence(shares_BK, x_BE.shape[0])}
        found = {name: value_BK.detach() for name, value_BK in evidence.items()} if not self.training else {}
        return Encoded(functional.layer_norm(x_BE, (self.width,))[:, None], x_BE.new_zeros(()), found)

    def graph_of(self, batch: Batch) -> DayGraph:
        """The graph of each of the batch's days, of the windows alone."""
        with torch.no_grad():
            returns_DSL = None
            if self.close is not None:
                returns_BL = (
                    batch.inputs_BLF[..., self.close].float() * self.layout.deviations[self.close]
                    + self.layout.means[self.close]
                )
                returns_DSL = batch.grid(returns_BL)
            began_DSL = batch.grid(batch.began_BL)
            return make_graph(
                batch.filled(),
                batch.grid(batch.sector_B),
                batch.grid(batch.industry_B),
                self.layout.sectors,
                self.layout.industries,
                returns_DSL,
                began_DSL,
            )

    def _graph_evidence(self, shares_BK: list[Tensor], windows: int) -> dict[str, Tensor]:
        temperature_K = torch.cat(
            [
                self.windows.over_bars.temperature(),
                *(
                    part
                    for layer in self.graph
                    for part in (layer.peers.temperature(), layer.groups.temperature())
                ),
            ]
        )
        found = {"temperature": temperature_K.expand(windows, -1)}
        if shares_BK:
            edge_P = torch.stack([layer.edge_bias_HP.mean(dim=0) for layer in self.graph]).mean(dim=0)
            found |= {
                "sector_attention": torch.stack(shares_BK).mean(dim=0),
                "edge": edge_P.expand(windows, -1),
            }
        return found
