"""The one training loop of all neural experts: from batches to steps, averages of weights, early stopping and
checkpoints.

It is plain torch, because Lightning's checkpoints are pickles and its loop does not go on in the middle of an
epoch with the same bits. The random numbers of a batch follow from (seed, epoch, batch, process) alone, so a
resumed training needs no generator's state and draws what an unbroken one draws.
"""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.experts.errors import ExpertError
from components.experts.neural import checkpoint, distributed
from components.experts.neural.batch import Batch
from components.experts.neural.config import Optimiser, Training
from components.experts.neural.figures import FigureCheck, StepPlace
from components.experts.neural.job import Job, Keep, Watch
from components.experts.neural.optim import Average, clip_step_rms, make_optimiser, rate, restore_optimiser
from components.experts.neural.panel import batches, epoch_batches
from components.experts.neural.reproducible import reproducible
from components.progress import report

__all__ = ["Job", "Keep", "Watch", "reproducible", "train"]

REPORT_SECONDS = 0.2
NOTHING_KEPT = Keep()


def train(
    job: Job, training: Training, optimiser: Optimiser, watch: Watch, keep: Keep = NOTHING_KEPT
) -> list[dict[str, float]]:
    """Learn until the epochs are over or the monitor gets no better; the caller's random numbers stay where
    they were. The model ends in evaluation mode with the weights of the best epoch (of the last one without a
    monitor), averaged over the steps where `optimiser.average_decay` says so.

    Returns
    -------
    An entry an epoch: means of `loss` and of its parts over the batches, `learning_rate` of the last step,
    `windows`, and `monitor` where there is one.

    Raises
    ------
    ExpertError
        If there is no row, or the loss or its gradient is not finite.
    """
    if not len(job.rows):
        raise ExpertError(
            "The training got no row to learn from. Check that the training window has labelled rows."
        )
    if not distributed.is_main():
        watch = replace(watch, advance=_silent, log=None)
    gpu = [job.panel.device] if job.panel.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        return Run(job, training, optimiser, watch, keep).to_the_end()


@dataclass
class Position:
    """How far a training has come; everything in a checkpoint but tensors.

    `batch` of the `epoch` is the next one; `best` is the epoch of the best monitor.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    windows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: int | None = None
    stale: int = 0
    finished: bool = False


class Run:
    """One training: what is learned, how, who is told, and how far it has come."""

    def __init__(self, job: Job, training: Training, settings: Optimiser, watch: Watch, keep: Keep):
        self.job, self.training, self.settings, self.watch, self.keep = job, training, settings, watch, keep
        self.optimiser = make_optimiser(job.model, settings)
        self.average = Average(job.model, settings.average_decay) if settings.average_decay else None
        self.parameters = [p for p in job.model.parameters() if p.requires_grad]
        self.generator = torch.Generator(job.panel.device)
        self.at, self.rank = Position(), distributed.world().rank
        self.best: dict[str, Tensor] | None = None
        self.reported = -math.inf
        self.steps_an_epoch = math.ceil(len(self.drawn(0)) / training.accumulate_batches)
        self.figures = FigureCheck(watch.log, self.steps)
        self.key = self._key(keep.key) if keep.folder else ""

    @property
    def steps(self) -> int:
        """Steps of all epochs; those of an epoch of whole days vary a little."""
        return self.training.epochs * self.steps_an_epoch

    def drawn(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, those of all processes together."""
        training = self.training
        return epoch_batches(
            self.job.rows,
            self.job.panel.day_N,
            whole_days=self.job.whole_days,
            batch_windows=training.batch_windows,
            most_windows=training.max_train_windows,
            seed=self.job.seed,
            epoch=epoch,
        )

    def to_the_end(self) -> list[dict[str, float]]:
        """Go on from where a checkpoint says, epoch by epoch; returns the history."""
        distributed.share_weights(self.job.model)
        self._resume()
        while not self.at.finished:
            self._epoch()
        self._finish()
        return self.at.history

    def _epoch(self) -> None:
        at, training = self.at, self.training
        drawn = self.drawn(at.epoch)
        started, windows_before = time.monotonic(), at.windows
        self.job.model.train()
        shards = [
            distributed.shard(rows_B, self.job.panel.day_N, whole_days=self.job.whole_days)
            for rows_B in drawn[at.batch :]
        ]
        with closing(batches(self.job.panel, [part.rows_B for part in shards])) as gathered:
            remaining = iter(shards)
            while at.batch < len(drawn):
                size = min(training.accumulate_batches, len(drawn) - at.batch)
                self._step(itertools.islice(zip(gathered, remaining, strict=False), size), size)
                at.windows += sum(len(rows_B) for rows_B in drawn[at.batch : at.batch + size])
                at.batch += size
                at.step += 1
                self._report(len(drawn))
                if (
                    training.checkpoint_steps
                    and at.step % training.checkpoint_steps == 0
                    and at.batch < len(drawn)
                ):
                    self.figures.check(at.sums)
                    self._save([checkpoint.LAST])
        self.figures.check(at.sums)
        self._end_of_epoch(len(drawn), (at.windows - windows_before) / max(time.monotonic() - started, 1e-9))

    def _step(self, group: Iterable[tuple[tuple[np.ndarray, Batch], distributed.Shard]], size: int) -> None:
        """One step of the optimiser on the mean loss of a group of batches."""
        at = self.at
        learning_rate = self.settings.learning_rate * rate(at.step, self.steps, self.settings)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for number, ((rows_B, batch), shard) in enumerate(group):
            self._seed(at.batch + number)
            seen, targets = self.job.objective.prepare(batch, rows_B, self.generator)
            with self._precision():
                outputs = self.job.model(seen)
            outputs, targets = distributed.gathered((outputs, targets), shard)
            loss, parts = self.job.objective.loss(outputs, targets)
            (loss / size if size > 1 else loss).backward()
            for name, value in {"loss": loss.detach(), **parts}.items():
                totals[name] = totals[name] + value if name in totals else value
        distributed.sum_gradients(self.job.model)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.figures.note(
            {**totals, "gradient_norm": norm}, StepPlace(at.step, at.epoch, size, learning_rate), at.sums
        )
        with clip_step_rms(self.optimiser, self.settings.clip_rms):
            self.optimiser.step()
        if self.average is not None:
            self.average.update(self.job.model)

    def _seed(self, batch: int) -> None:
        """Seed everything that draws for a batch."""
        place = np.array([self.job.seed, self.at.epoch, batch, self.rank], dtype=np.int64).tobytes()
        seed = int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "little")
        torch.default_generator.manual_seed(seed)
        if self.job.panel.device.type == "cuda":
            torch.cuda.default_generators[self.job.panel.device.index or 0].manual_seed(seed)
        self.generator.manual_seed(seed + 1)

    def _precision(self) -> Any:
        device = self.job.panel.device.type
        wanted = self.settings.bfloat16 == "always" or (self.settings.bfloat16 == "gpu" and device == "cuda")
        return torch.autocast(device, dtype=torch.bfloat16) if wanted else nullcontext()

    def _report(self, drawn: int) -> None:
        now, at = time.monotonic(), self.at
        if now - self.reported >= REPORT_SECONDS and not math.isnan(self.figures.latest):
            self.reported = now
            self.watch.advance(
                (at.epoch + at.batch / drawn) / self.training.epochs,
                f"epoch {at.epoch + 1} of {self.training.epochs}, loss {self.figures.latest:.3f}",
            )

    def _end_of_epoch(self, drawn: int, windows_per_second: float) -> None:
        """The epoch's entry in the history, its monitor, and whether to go on."""
        at, training = self.at, self.training
        entry = {name: total / drawn for name, total in at.sums.items()}
        entry |= {"learning_rate": self.optimiser.param_groups[0]["lr"], "windows": at.windows}
        told = f"epoch {at.epoch + 1} of {training.epochs}, loss {entry['loss']:.3f}"
        if self.watch.monitor is not None:
            with self.average.applied(self.job.model) if self.average else nullcontext():
                entry["monitor"] = distributed.agreed(
                    float(self.watch.monitor()) if distributed.is_main() else math.nan
                )
                better = at.best is None or _worth(entry) > _worth(at.history[at.best])
                if better:
                    self.best, at.best = (
                        {name: value.detach().clone() for name, value in self.job.model.state_dict().items()},
                        at.epoch,
                    )
            at.stale = 0 if better else at.stale + 1
            told += f", monitor {entry['monitor']:.4f}"
        at.history.append(entry)
        at.epoch, at.batch, at.windows, at.sums = at.epoch + 1, 0, 0, {}
        at.finished = at.epoch == training.epochs or at.stale > training.patience_epochs
        self.watch.advance(at.epoch / training.epochs, told)
        if self.watch.log:
            self.watch.log(
                at.step,
                {
                    "epoch": float(at.epoch),
                    **({"monitor": entry["monitor"]} if self.watch.monitor else {}),
                    "windows_per_second": windows_per_second,
                },
            )
        ranked = sorted(range(len(at.history)), key=lambda epoch: -_worth(at.history[epoch]))[
            : training.keep_best
        ]
        best = [checkpoint.best_name(epoch + 1) for epoch in ranked]
        self._save([checkpoint.LAST, *(name for name in best if name == checkpoint.best_name(at.epoch))])
        if self.keep.folder and distributed.is_main():
            checkpoint.keep_only(self.keep.folder, best)

    def _finish(self) -> None:
        if self.best is not None:
            self.job.model.load_state_dict(self.best)
        elif self.average is not None:
            self.average.copy_to(self.job.model)
        distributed.share_weights(self.job.model)
        self.job.model.eval()

    def _key(self, key: str) -> str:
        """SHA-256 of the caller's key and of all that the steps depend on."""
        training = self.training.model_dump(
            exclude={"checkpoint_steps", "keep_best", "predict_windows", "band_epochs"}
        )
        weights = [(name, list(value.shape)) for name, value in self.job.model.state_dict().items()]
        parts = [
            key,
            training,
            self.settings.model_dump(),
            self.job.seed,
            self.job.whole_days,
            self.watch.monitor is not None,
            hashlib.sha256(self.job.rows.tobytes()).hexdigest(),
            weights,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _save(self, names: list[str]) -> None:
        if self.keep.folder is None or not distributed.is_main():
            return
        state = {
            "position": vars(self.at),
            "model": self.job.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average and self.average.state_dict(),
            "best": self.best,
        }
        checkpoint.write(self.keep.folder, names, state, key=self.key, step=self.at.step)

    def _resume(self) -> None:
        """Go on from the newest whole checkpoint of this training, where there is one.

        The main process chooses for all.
        """
        if self.keep.folder is None:
            return
        names = [
            checkpoint.LAST,
            *(checkpoint.best_name(epoch) for epoch in range(1, self.training.epochs + 1)),
        ]
        found = checkpoint.newest(self.keep.folder, self.key) if distributed.is_main() else None
        chosen = int(distributed.agreed(float(names.index(found) if found else -1)))
        if chosen >= 0:
            state = checkpoint.read(self.keep.folder, names[chosen])
            self.at = Position(**state["position"])
            self.job.model.load_state_dict(state["model"])
            restore_optimiser(self.optimiser, state["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            if state["best"] is not None:
                self.best = {name: value.to(self.job.panel.device) for name, value in state["best"].items()}
            if distributed.is_main():
                report(
                    "checkpoints",
                    f"training goes on from step {self.at.step} (epoch {self.at.epoch + 1}) of"
                    f" {self.keep.folder / names[chosen]}",
                )
        distributed.wait()


def _worth(entry: dict[str, float]) -> float:
    """By what epochs are ranked: the monitor, or the loss without one; what is not a number comes last."""
    value = entry.get("monitor", -entry["loss"])
    return value if math.isfinite(value) else -math.inf


def _silent(share: float, what: str) -> None:
    """In place of the progress of processes that are not the main one."""
