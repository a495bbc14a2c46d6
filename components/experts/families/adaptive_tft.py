"""Adaptive TFT with graph attention (E4): a light temporal fusion transformer on frequency-normalised
windows, and attention among the stocks, industries and sectors of each timestamp.

Lim et al. 2021, "Temporal Fusion Transformers"; Ye et al. 2024, "Frequency Adaptive Normalization";
Velickovic et al. 2018, "Graph Attention Networks".
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from components.experts.neural.config import Neural, Regularisation, Training
from components.experts.neural.expert import NeuralFamily
from components.experts.neural.family import Family

if TYPE_CHECKING:
    from components.experts.networks.adaptive_tft import AdaptiveTFT
    from components.experts.neural.batch import Layout


class Settings(Neural):
    """One leaf of the adaptive TFT.

    The defaults learn from 100,000 windows of 40 inputs in about 20 s of CPU time.
    """

    lookback_bars: int = Field(
        30,
        ge=4,
        description=(
            "bars in a window, the predicted row's own included; correlations between stocks are taken"
            " over it"
        ),
    )
    width: int = Field(16, ge=2, description="numbers that describe a symbol at a bar inside the network")
    heads: int = Field(2, ge=1, description="attention heads, each with its own temperature; divides width")
    layers: int = Field(
        1,
        ge=0,
        description=(
            "causal blocks of the temporal encoder; each reaches kernel_bars times as far as the one before"
        ),
    )
    kernel_bars: int = Field(3, ge=1, description="bars that a causal block mixes")
    graph_layers: int = Field(
        1, ge=0, description="rounds of attention on the graph of a timestamp; 0: every stock for itself"
    )
    frequency_normalisation: bool = Field(
        True, description="take the dominant waves out of each input's window and forecast them on their own"
    )
    training: Training = Training(batch="days", batch_windows=500, max_train_windows=25_000)
    regularisation: Regularisation = Regularisation(stochastic_depth=0.1)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} is no multiple of heads={self.heads}, so attention can't split it; set"
                " width to a multiple of heads"
            )
        if self.window_normalisation != "none":
            raise ValueError(
                f"window_normalisation={self.window_normalisation}, but the graph reads returns"
                " as they are in the windows; set it to none: frequency_normalisation takes levels out here"
            )
        if self.kernel_bars > self.lookback_bars:
            raise ValueError(
                f"kernel_bars={self.kernel_bars} is more than lookback_bars={self.lookback_bars}; set"
                f" kernel_bars to {self.lookback_bars} or less"
            )
        return self


def build(settings: Settings, layout: "Layout") -> "AdaptiveTFT":
    """The network of these settings for the inputs of a fit."""
    from components.experts.networks.adaptive_tft import AdaptiveTFT, Sizes

    own = {
        name: getattr(settings, name)
        for name in ("width", "heads", "layers", "graph_layers", "kernel_bars", "frequency_normalisation")
    }
    regularisation = settings.regularisation
    return AdaptiveTFT(
        layout, Sizes(**own, dropout=regularisation.dropout, stochastic_depth=regularisation.stochastic_depth)
    )


def evidence(settings: Settings, layout: "Layout") -> Mapping[str, tuple[str, ...]]:
    """Columns of the weights that explain: input weights, share of each input's energy in its dominant waves,
    temperatures, where the attention goes, edge weights.
    """
    from components.experts.networks.graph_attention import PEERS, edge_names

    parts = [
        "bars",
        *(f"{part}_{layer}" for layer in range(settings.graph_layers) for part in ("peers", "sectors")),
    ]
    names = {
        "variable_selection": layout.names,
        "frequency": layout.names,
        "temperature": tuple(f"{part}_head_{head}" for part in parts for head in range(settings.heads)),
    }
    if settings.graph_layers:
        with_returns = "bar_close" in layout.inputs and layout.inputs["bar_close"] == "bars"
        names |= {"sector_attention": PEERS, "edge": edge_names(with_returns)}
    return names


FAMILY = Family("adaptive_tft", Settings, build, evidence, whole_days=True)
Expert = NeuralFamily(FAMILY)
