"""Networks of a few hundred weights, and the expert around them, for tests of what all networks share."""

import polars as pl
import torch
from torch import nn

from components.experts.neural.batch import Batch, Encoded, Layout
from components.experts.neural.config import Neural
from components.experts.neural.expert import NeuralExpert
from components.experts.neural.family import Family
from components.experts.protocol import Task


class Alone(nn.Module):
    """Two layers over the whole window."""

    def __init__(self, inputs: int, lookback: int):
        super().__init__()
        self.width = 8
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(lookback * inputs, 16), nn.GELU(), nn.Linear(16, 8)
        )

    def forward(self, batch: Batch) -> Encoded:
        x_BE = self.layers(batch.inputs_BLF)
        return Encoded(x_BE[:, None], x_BE.new_zeros(()))


class Crowd(nn.Module):
    """As `Alone`, plus the mean over the symbols of the day."""

    def __init__(self, inputs: int, lookback: int):
        super().__init__()
        self.width = 8
        self.own, self.others = Alone(inputs, lookback), Alone(inputs, lookback)

    def forward(self, batch: Batch) -> Encoded:
        x_DSE = batch.grid(self.others(batch).embedding_BTE[:, 0])
        count_DS = batch.filled().float()
        mean_DSE = (x_DSE.sum(dim=1) / count_DS.sum(dim=1)[:, None])[:, None].expand_as(x_DSE)
        x_BE = self.own(batch).embedding_BTE[:, 0] + batch.rows(mean_DSE)
        return Encoded(x_BE[:, None], x_BE.new_zeros(()))


def _build(settings: Neural, layout: Layout) -> nn.Module:
    return Alone(len(layout.inputs), layout.lookback)


TINY = Family("tiny", Neural, _build, lambda settings, layout: {})


def fitted(frame: pl.DataFrame, seed: int, settings: Neural) -> NeuralExpert:
    """A tiny expert of all columns named x0, x1, ...; one thread."""
    groups = {name: "trend" for name in frame.columns if name.startswith("x")}
    expert = NeuralExpert(TINY, settings)
    expert.fit(
        frame.drop("realised"),
        Task("1d", 1, "log_return", groups, seed, threads=1),
        advance=lambda share, what: None,
    )
    return expert


def mean_rank_correlation(expert: NeuralExpert, frame: pl.DataFrame) -> float:
    """Mean over the bars to predict of Spearman's correlation of score and what then happened."""
    rows = frame.filter(pl.col("part") == "predict").with_columns(expert.predict(frame)["score"])
    return rows.group_by("timestamp").agg(pl.corr("score", "realised", method="spearman"))["score"].mean()


def parameter_bytes(network: nn.Module) -> bytes:
    """All weights, to compare them bit for bit."""
    return b"".join(value.detach().numpy().tobytes() for value in network.state_dict().values())


def seeded(kind: type[nn.Module], *sizes: int, seed: int = 0) -> nn.Module:
    """A network with the weights that `seed` gives."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(*sizes)
