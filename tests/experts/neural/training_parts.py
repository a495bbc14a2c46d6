"""A tiny panel, network and objective for tests of the training engine; run as a module it trains in a
process of its own, which may be killed.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from components.experts.neural import engine
from components.experts.neural.arrays import PanelArrays
from components.experts.neural.batch import Batch, Encoded
from components.experts.neural.config import Losses, Optimiser, Regularisation, Training
from components.experts.neural.heads import ForecastModel
from components.experts.neural.panel import Panel
from components.experts.neural.supervised import Supervised
from components.experts.neural.targets import make_targets

BARS, SYMBOLS, INPUTS, LOOKBACK = 40, 12, 3, 4


class Network(nn.Module):
    """Windows through one hidden layer, with dropout, a penalty and evidence."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.width, self.dropout = 8, nn.Dropout(dropout)
        self.inner = nn.Linear(LOOKBACK * INPUTS, 8)

    def forward(self, batch: Batch) -> Encoded:
        x_BE = self.dropout(torch.tanh(self.inner(batch.inputs_BLF.flatten(1))))
        return Encoded(x_BE[:, None], 0.01 * x_BE.square().mean(), {"open": x_BE.detach()})


class Squares:
    """Squared error of the score, on inputs with noise from the engine's generator."""

    def __init__(self, panel: Panel, noise: float = 0.0):
        self.label_N, self.noise, self.rows = torch.from_numpy(panel.bars.label_N).float(), noise, []

    def prepare(
        self, batch: Batch, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Batch, dict[str, Tensor]]:
        self.rows.append(rows_B)
        noise_BLF = torch.randn(batch.inputs_BLF.shape, generator=generator)
        return batch.with_inputs(batch.inputs_BLF + self.noise * noise_BLF), {
            "label_B": self.label_N[torch.from_numpy(rows_B)]
        }

    def loss(self, outputs, targets) -> tuple[Tensor, dict[str, Tensor]]:
        error = (outputs.score_BT[:, 0] - targets["label_B"]).square().mean()
        return error, {"error": error.detach()}


def panel(*, whole_days: bool = False, missing: float = 0.0) -> Panel:
    """Noise with a planted signal; with `missing`, a share of the rows is not there, so that days differ in
    size.
    """
    draw = np.random.default_rng(3)
    rows = BARS * SYMBOLS
    inputs_NF = np.zeros((rows + 1, INPUTS), dtype=np.float32)
    inputs_NF[:-1] = draw.standard_normal((rows, INPUTS))
    label_N = 0.5 * inputs_NF[:-1, 0] + draw.standard_normal(rows)
    label_N[draw.random(rows) < missing] = np.nan
    known_N = np.ones(rows + 1, dtype=bool)
    known_N[-1] = False
    bars = PanelArrays(
        inputs_NF=inputs_NF,
        position_N=np.tile(np.arange(BARS), SYMBOLS),
        regime_N=draw.integers(0, 3, rows),
        sector_N=np.zeros(rows, dtype=np.int64),
        industry_N=np.zeros(rows, dtype=np.int64),
        volatility_N=draw.uniform(0.5, 1.5, rows),
        labels_NT=label_N[:, None],
        weight_N=draw.uniform(0.5, 1.5, rows).astype(np.float32),
        day_N=np.tile(np.arange(1, BARS + 1), SYMBOLS),
        frame_row_N=np.arange(rows),
        part_N=pl.Series(["train"] * rows),
        known_N=known_N,
    )
    return Panel(bars, lookback=LOOKBACK, device=torch.device("cpu"), whole_days=whole_days)


def labelled(windows: Panel) -> np.ndarray:
    return np.flatnonzero(np.isfinite(windows.bars.label_N))


def model(dropout: float = 0.0, seed: int = 5) -> ForecastModel:
    torch.manual_seed(seed)
    return ForecastModel(Network(dropout), 1, dropout=dropout)


def supervised(windows: Panel, losses: Losses) -> Supervised:
    targets = make_targets(windows.bars, labelled(windows), losses, Regularisation(), (1,))
    return Supervised(targets, losses, Regularisation(), windows.device)


def silent(share: float, what: str) -> None:
    assert 0 <= share <= 1


def run(
    folder: Path | None = None,
    *,
    log=None,
    prepare=None,
    optimiser: str = "adamw",
    average: float = 0.0,
    epochs: int = 3,
    accumulate: int = 2,
    checkpoint_steps: int = 3,
    keep_best: int = 2,
    key: str = "key",
    seed: int = 11,
    left_out: int = 0,
    monitored: bool = True,
    worth: float = -1.0,
    dropout: float = 0.2,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """A training with everything that draws at random.

    Returns final weights and history. `prepare` is called before each batch.

    The first `left_out` rows are not learned from. The monitor is `worth` times the squared error, so with 1
    the first epoch is the best.
    """
    windows = panel()
    with engine.reproducible(seed, 1):
        network, objective = model(dropout), Squares(windows, noise=0.1)
        if prepare:
            inner = objective.prepare
            objective.prepare = lambda *arguments: (prepare(len(objective.rows)), inner(*arguments))[1]
        watched = panel().batch(np.arange(64))

        def monitor() -> float:
            network.eval()
            with torch.inference_mode():
                return worth * float(
                    (network(watched).score_BT[:, 0] - objective.label_N[:64]).square().mean()
                )

        history = engine.train(
            engine.Job(network, objective, windows, labelled(windows)[left_out:], seed),
            Training(
                epochs=epochs,
                batch_windows=100,
                accumulate_batches=accumulate,
                checkpoint_steps=checkpoint_steps,
                keep_best=keep_best,
            ),
            Optimiser(name=optimiser, average_decay=average, learning_rate=0.01, clip_rms=1.0),
            engine.Watch(silent, monitor if monitored else None, log),
            engine.Keep(folder, key),
        )
    return network.state_dict(), history


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed(folder: str, settings: str, place: str, number: str) -> None:
    """Train and die: at a batch, or when a checkpoint has been put in place halfway."""
    chosen = json.loads(settings)
    if place == "batch":
        run(Path(folder), prepare=lambda seen: _die() if seen == int(number) else None, **chosen)
    elif place == "rename":
        rename, calls = os.rename, []

        def dying(source, target) -> None:
            rename(source, target)
            calls.append(target)
            if len(calls) == int(number):
                _die()

        os.rename = dying
        run(Path(folder), **chosen)


if __name__ == "__main__":
    _killed(*sys.argv[1:])
