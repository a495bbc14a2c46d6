"""The training loop's own cost a step: a model of one weight and batches of 512 small windows, against a loop
written out by hand; and a checkpoint's cost.

`python -m tests.benchmarks.bench_engine` runs on one thread for some seconds. The loop by hand takes the same
batches, forward and backward pass, clipping and AdamW; the engine adds seeds, the check and record of each
loss, schedule, progress and prefetching. Microseconds of CPU a step, the least of five runs.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from components.experts.neural import engine
from components.experts.neural.config import Optimiser, Training
from components.experts.neural.optim import make_optimiser
from components.experts.neural.panel import Panel, epoch_batches
from tests.experts.neural.training_parts import labelled, panel

BATCH, REPEATS, RUNS = 512, 40, 5
CHECKPOINT_WEIGHTS = 250_000


class OneWeight(nn.Module):
    """The newest bar's first input times a weight; `more` weights beside it make a checkpoint as large as a
    network's.
    """

    def __init__(self, more: int = 0):
        super().__init__()
        self.weight, self.more = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(more))

    def forward(self, batch):
        return batch.inputs_BLF[:, -1, 0] * self.weight


class Squares:
    """Squared error."""

    def __init__(self, windows: Panel):
        self.label_N = torch.from_numpy(windows.bars.label_N).float()

    def prepare(self, batch, rows_B, generator):
        return batch, {"label_B": self.label_N.index_select(0, torch.from_numpy(rows_B))}

    def loss(self, outputs, targets):
        loss = (outputs - targets["label_B"]).square().mean()
        return loss, {"error": loss.detach()}


def main() -> None:
    """Print microseconds of CPU a step of each loop, and milliseconds a checkpoint."""
    torch.set_num_threads(1)
    windows = panel()
    rows = np.random.default_rng(0).choice(labelled(windows), BATCH * REPEATS)
    by_hand = least(lambda: hand_loop(windows, rows))
    ours = least(lambda: engine_loop(windows, rows))
    averaged = least(lambda: engine_loop(windows, rows, average=0.99))
    logged = least(lambda: engine_loop(windows, rows, log=lambda step, values: None))
    print(
        f"batch {BATCH}, one weight, one thread, CPU microseconds a step: by hand {by_hand:.0f}, engine"
        f" {ours:.0f} (adds {ours - by_hand:.0f}), ",
        end="",
    )
    print(f"with the average of weights {averaged:.0f}, with a log {logged:.0f}")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        engine_loop(windows, rows, folder=Path(folder), more=CHECKPOINT_WEIGHTS, checkpoint_steps=1)
        with_checkpoints = time.perf_counter() - started
    started = time.perf_counter()
    engine_loop(windows, rows, more=CHECKPOINT_WEIGHTS)
    print(
        f"{CHECKPOINT_WEIGHTS:,} weights with AdamW's state:"
        f" {1e3 * (with_checkpoints - time.perf_counter() + started) / REPEATS:.1f} ms a checkpoint"
    )


def least(call: Callable[[], None]) -> float:
    """Microseconds of CPU a step, the least of the runs after one that warms up."""
    call()
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return 1e6 * min(seconds) / REPEATS


def engine_loop(
    windows: Panel,
    rows: np.ndarray,
    *,
    average: float = 0.0,
    log=None,
    folder: Path | None = None,
    more: int = 0,
    checkpoint_steps: int = 0,
) -> None:
    """One epoch."""
    engine.train(
        engine.Job(OneWeight(more), Squares(windows), windows, rows, seed=0),
        Training(epochs=1, batch_windows=BATCH, checkpoint_steps=checkpoint_steps),
        Optimiser(average_decay=average),
        engine.Watch(lambda share, what: None, log=log),
        engine.Keep(folder),
    )


def hand_loop(windows: Panel, rows: np.ndarray) -> None:
    """The same steps, and nothing else."""
    model, objective = OneWeight(), Squares(windows)
    optimiser = make_optimiser(model, Optimiser())
    for rows_B in epoch_batches(
        rows, windows.day_N, whole_days=False, batch_windows=BATCH, most_windows=len(rows), seed=0, epoch=0
    ):
        batch, targets = objective.prepare(windows.batch(rows_B), rows_B, None)
        optimiser.zero_grad(set_to_none=True)
        loss, _ = objective.loss(model(batch), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


if __name__ == "__main__":
    main()
