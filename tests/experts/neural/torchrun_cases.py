"""Trainings that test_distributed.py runs in one process and, started by torchrun, in several; the main
process writes what came out.
"""

import itertools
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from components.experts.neural import distributed, engine
from components.experts.neural.config import Losses, Optimiser, Training
from tests.experts.neural.training_parts import labelled, model, panel, silent, supervised

ROW_WISE = Losses(correlation=0, huber=1.0, pinball=0.5)
# The little Huber gives the score's bias a gradient; correlations give it rounding alone, which Adam makes
# steps of.
NOT_SPLITTABLE = Losses(correlation=1.0, soft_spearman=0.5, huber=0.1, pinball=0.0)
# Days hold 5 to 12 rows of 12, so shards are uneven; 101 windows can't be halved; 3 windows a batch of days
# is one day, so one process has none.
CASES = {
    "rows, row by row": (ROW_WISE, False, 101, 1),
    "rows, not splittable": (NOT_SPLITTABLE, False, 101, 1),
    "days, row by row": (ROW_WISE, True, 60, 2),
    "days, not splittable": (NOT_SPLITTABLE, True, 60, 2),
    "one day a batch": (NOT_SPLITTABLE, True, 3, 3),
}


class Enough(Exception):
    pass


def trained(name: str, folder: Path | None = None, stop_at: int = 0, judged: list[float] | None = None):
    """Figures of each step, history and final weights of a case; with `stop_at` every process gives up at
    that batch.

    The monitor is the main process's and rises with each epoch that was `judged`; another one's would end the
    training early.
    """
    losses, whole_days, windows_a_batch, accumulate = CASES[name]
    windows, steps = panel(whole_days=whole_days, missing=0.3), []
    judged = [] if judged is None else judged

    def monitor() -> float:
        judged.append(float(len(judged)) if distributed.is_main() else -float(len(judged)))
        return judged[-1]

    def note(step: int, values: dict) -> None:
        if "epoch" not in values:
            steps.append(values)

    with engine.reproducible(1, 1):
        network = model(seed=5 + distributed.world().rank)
        objective, prepared = supervised(windows, losses), itertools.count(1)
        prepare = objective.prepare

        def counted(*arguments):
            if next(prepared) == stop_at:
                raise Enough
            return prepare(*arguments)

        objective.prepare = counted
        history = engine.train(
            engine.Job(network, objective, windows, labelled(windows), 4, whole_days),
            Training(
                epochs=3,
                patience_epochs=0,
                batch_windows=windows_a_batch,
                accumulate_batches=accumulate,
                max_train_windows=200,
                checkpoint_steps=1,
            ),
            Optimiser(learning_rate=0.003, average_decay=0.5),
            engine.Watch(silent, monitor, note),
            engine.Keep(folder, name),
        )
    return steps, history, network.state_dict()


def gathered() -> dict:
    """What is gathered of a tree in which the last process has nothing to count."""
    here = distributed.world()
    rows = 2 * here.rank + 1
    part = distributed.Shard(np.arange(rows), counted=here.rank < here.size - 1)
    tree = {
        "rows": torch.full((rows, 2), float(here.rank), requires_grad=True),
        "flags": torch.arange(rows) % 2 == 0,
        "half": torch.full((rows,), 1.5 + here.rank, dtype=torch.bfloat16),
        "mean": torch.tensor(float(here.rank + 1)),
        "none": None,
    }
    found = distributed.gathered(tree, part)
    return {name: None if value is None else value.tolist() for name, value in found.items()}


def main(folder: Path) -> None:
    with distributed.setup(timeout_seconds=60):
        tree = gathered()
        if not distributed.is_main():
            time.sleep(0.5)
            (folder / "late").touch()
        distributed.wait()
        assert (folder / "late").exists(), "the main process did not wait for the others"
        for name in CASES:
            steps, history, weights = trained(name)
            judged: list[float] = []
            with suppress(Enough):
                trained(name, folder / "checkpoints" / name, stop_at=5, judged=judged)
            later, again, resumed = trained(name, folder / "checkpoints" / name, judged=judged)
            assert again == history, f"{name} goes on to another history"
            assert all(torch.equal(value, resumed[key]) for key, value in weights.items()), (
                f"{name} goes on to other weights"
            )
            others = [float(value.double().sum()) for value in weights.values()]
            agree = [value == distributed.agreed(value) for value in others]
            assert all(agree), f"process {distributed.world().rank} has other weights after {name}"
            if distributed.is_main():
                assert 0 < len(later) < len(steps)
                save_file(weights, folder / f"{name}.safetensors")
                (folder / f"{name}.json").write_text(json.dumps([steps, history, tree]))
            else:
                assert steps == later == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
