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
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from components.experts.errors import ExpertError
from components.experts.neural import checkpoint, distributed
from components.experts.neural.batch import Batch
from components.experts.neural.config import Optimiser, Training
from components.experts.neural.optim import Average, clip_step_rms, make_optimiser, rate
from components.experts.neural.panel import Panel, batches, epoch_batches
from components.experts.protocol import Advance
from components.progress import report

REPORT_SECONDS = 0.2
# Steps that a GPU may be ahead of the check of their figures, so that the check does not hold it up.
UNCHECKED_STEPS = 2
Log = Callable[[int, dict[str, float]], None]


class Objective(Protocol):
    """What is learned.

    With several processes `loss` is given the outputs and targets of all of them, put together by rows. So it
    reaches the parameters through `outputs` alone, draws nothing at random, and numbers that say which rows
    belong together must hold across batches, such as that of a day.
    """

    def prepare(
        self, batch: Batch, rows_B: np.ndarray, generator: torch.Generator
    ) -> tuple[Batch, dict[str, Tensor]]:
        """The batch as the model is to see it, and its targets; `generator` is the only source of
        randomness.
        """

    def loss(self, outputs: Any, targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a whole batch, and its parts by name, detached."""


@contextmanager
def reproducible(seed: int, threads: int, deterministic: bool = True) -> Iterator[torch.device]:
    """Seeded torch with `threads` threads, by default with deterministic algorithms; the caller's own state
    is put back. Yields the device to use.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = (
        torch.device("cuda", distributed.local_gpu()) if torch.cuda.is_available() else torch.device("cpu")
    )
    threads_before, strict_before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        try:
            yield device
        finally:
            torch.use_deterministic_algorithms(strict_before, warn_only=warn_only_before)
            torch.set_num_threads(threads_before)


def train(
    model: nn.Module,
    objective: Objective,
    panel: Panel,
    rows: np.ndarray,
    *,
    training: Training,
    optimiser: Optimiser,
    seed: int,
    advance: Advance,
    whole_days: bool,
    monitor: Callable[[], float] | None = None,
    checkpoints: Path | None = None,
    key: str = "",
    log: Log | None = None,
) -> list[dict[str, float]]:
    """Learn from `rows` until the epochs are over or the monitor gets no better; the caller's random numbers
    stay where they were.

    Parameters
    ----------
    model : on the panel's device; ends in evaluation mode with the weights of the best epoch (of the last one
        without a monitor), averaged over the steps where `optimiser.average_decay` says so
    rows : row numbers of the panel to learn from
    whole_days : a batch is whole timestamps
    monitor : higher is better; called at the end of each epoch with the weights that would be kept. NaN
        counts as no better
    checkpoints : folder for the checkpoints `last` and `best-<epoch>` of the `keep_best` best epochs (by the
        loss without a monitor); a call with the same `key`, settings and rows goes on from the newest whole
        one, to the same bits on the CPU
    log : called with the number of steps done and the figures of a step: `loss`, its parts, `gradient_norm`,
        `learning_rate`; at an epoch's end with `epoch`, `monitor`, `windows_per_second`

    Returns
    -------
    An entry an epoch: means of `loss` and of its parts over the batches, `learning_rate` of the last step,
    `windows`, and `monitor` where there is one.

    Raises
    ------
    ExpertError
        If there is no row, or the loss or its gradient is not finite.
    """
    if not len(rows):
        raise ExpertError(
            "The training got no row to learn from. Check that the training window has labelled rows."
        )
    main = distributed.is_main()
    gpu = [panel.device] if panel.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        run = _Run(
            model,
            objective,
            panel,
            rows,
            training,
            optimiser,
            seed,
            whole_days,
            monitor,
            advance if main else _silent,
            Path(checkpoints) if checkpoints else None,
            log if main else None,
        )
        run.key = _key(run, key) if checkpoints else ""
        distributed.share_weights(model)
        _resume(run)
        while not run.at.finished:
            _epoch(run)
        _finish(run)
    return run.at.history


@dataclass
class _Position:
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


class _Run:
    """All that belongs to one training."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        panel: Panel,
        rows: np.ndarray,
        training: Training,
        settings: Optimiser,
        seed: int,
        whole_days: bool,
        monitor: Callable[[], float] | None,
        advance: Advance,
        folder: Path | None,
        log: Log | None,
    ):
        self.model, self.objective, self.panel, self.rows = model, objective, panel, rows
        self.training, self.settings, self.seed, self.whole_days = training, settings, seed, whole_days
        self.monitor, self.advance, self.folder, self.log, self.key = monitor, advance, folder, log, ""
        self.optimiser = make_optimiser(model, settings)
        self.average = Average(model, settings.average_decay) if settings.average_decay else None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.generator = torch.Generator(panel.device)
        self.at, self.rank = _Position(), distributed.world().rank
        self.best: dict[str, Tensor] | None = None
        self.unchecked: deque[_Figures] = deque()
        self.reported, self.latest = -math.inf, math.nan
        self.steps_an_epoch = math.ceil(len(self.drawn(0)) / training.accumulate_batches)

    @property
    def steps(self) -> int:
        """Steps of all epochs; those of an epoch of whole days vary a little."""
        return self.training.epochs * self.steps_an_epoch

    def drawn(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, those of all processes together."""
        training = self.training
        return epoch_batches(
            self.rows,
            self.panel.day_N,
            whole_days=self.whole_days,
            batch_windows=training.batch_windows,
            most_windows=training.max_train_windows,
            seed=self.seed,
            epoch=epoch,
        )


@dataclass(frozen=True)
class _Figures:
    """What one step was like. The values may still be on their way from the device until `arrived`."""

    names: tuple[str, ...]
    values: Tensor
    arrived: Any
    step: int
    epoch: int
    batches: int
    learning_rate: float


def _epoch(run: _Run) -> None:
    at, training = run.at, run.training
    drawn = run.drawn(at.epoch)
    started, windows_before = time.monotonic(), at.windows
    run.model.train()
    shards = [
        distributed.shard(rows_B, run.panel.day_N, whole_days=run.whole_days) for rows_B in drawn[at.batch :]
    ]
    with closing(batches(run.panel, [part.rows_B for part in shards])) as gathered:
        remaining = iter(shards)
        while at.batch < len(drawn):
            size = min(training.accumulate_batches, len(drawn) - at.batch)
            _step(run, itertools.islice(zip(gathered, remaining, strict=False), size), size)
            at.windows += sum(len(rows_B) for rows_B in drawn[at.batch : at.batch + size])
            at.batch += size
            at.step += 1
            _report(run, len(drawn))
            if (
                training.checkpoint_steps
                and at.step % training.checkpoint_steps == 0
                and at.batch < len(drawn)
            ):
                _check(run, 0)
                _save(run, [checkpoint.LAST])
    _check(run, 0)
    _end_of_epoch(run, len(drawn), (at.windows - windows_before) / max(time.monotonic() - started, 1e-9))


def _step(run: _Run, group: Iterable[tuple[tuple[np.ndarray, Batch], distributed.Shard]], size: int) -> None:
    """One step of the optimiser on the mean loss of a group of batches."""
    at = run.at
    learning_rate = run.settings.learning_rate * rate(at.step, run.steps, run.settings)
    for parameters in run.optimiser.param_groups:
        parameters["lr"] = learning_rate
    run.optimiser.zero_grad(set_to_none=True)
    totals: dict[str, Tensor] = {}
    for number, ((rows_B, batch), shard) in enumerate(group):
        _seed(run, at.batch + number)
        seen, targets = run.objective.prepare(batch, rows_B, run.generator)
        with _precision(run):
            outputs = run.model(seen)
        outputs, targets = distributed.gathered((outputs, targets), shard)
        loss, parts = run.objective.loss(outputs, targets)
        (loss / size if size > 1 else loss).backward()
        for name, value in {"loss": loss.detach(), **parts}.items():
            totals[name] = totals[name] + value if name in totals else value
    distributed.sum_gradients(run.model)
    norm = nn.utils.clip_grad_norm_(run.parameters, run.settings.clip_norm)
    _note(run, {**totals, "gradient_norm": norm}, size, learning_rate)
    with clip_step_rms(run.optimiser, run.settings.clip_rms):
        run.optimiser.step()
    if run.average is not None:
        run.average.update(run.model)


def _seed(run: _Run, batch: int) -> None:
    """Seed everything that draws for a batch."""
    place = np.array([run.seed, run.at.epoch, batch, run.rank], dtype=np.int64).tobytes()
    seed = int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "little")
    torch.default_generator.manual_seed(seed)
    if run.panel.device.type == "cuda":
        torch.cuda.default_generators[run.panel.device.index or 0].manual_seed(seed)
    run.generator.manual_seed(seed + 1)


def _precision(run: _Run) -> Any:
    device = run.panel.device.type
    wanted = run.settings.bfloat16 == "always" or (run.settings.bfloat16 == "gpu" and device == "cuda")
    return torch.autocast(device, dtype=torch.bfloat16) if wanted else nullcontext()


def _note(run: _Run, figures: dict[str, Tensor], size: int, learning_rate: float) -> None:
    """Send a step's figures to the CPU, and check those that have arrived."""
    values = torch.stack([value.detach().float().reshape(()) for value in figures.values()])
    arrived = None
    if values.device.type == "cuda":
        values = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
    run.unchecked.append(
        _Figures(tuple(figures), values, arrived, run.at.step, run.at.epoch, size, learning_rate)
    )
    _check(run, UNCHECKED_STEPS if arrived else 0)


def _check(run: _Run, most: int) -> None:
    """Count, log and judge the oldest steps until at most `most` are left unchecked."""
    while len(run.unchecked) > most:
        figures = run.unchecked.popleft()
        if figures.arrived is not None:
            figures.arrived.synchronize()
        values = dict(zip(figures.names, figures.values.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value) and name in ("loss", "gradient_norm"):
                raise _not_finite(run, figures, name, values)
        norm = values.pop("gradient_norm")
        for name, value in values.items():
            run.at.sums[name] = run.at.sums.get(name, 0.0) + value
        if run.log:
            means = {name: value / figures.batches for name, value in values.items()}
            run.log(
                figures.step + 1, {**means, "gradient_norm": norm, "learning_rate": figures.learning_rate}
            )
        run.latest = values["loss"] / figures.batches


def _not_finite(run: _Run, figures: _Figures, name: str, values: dict[str, float]) -> ExpertError:
    what = {"loss": "The loss", "gradient_norm": "The norm of the gradients"}[name]
    parts = ", ".join(f"{part} {value:.4g}" for part, value in values.items())
    return ExpertError(
        f"{what} is {values[name]} at step {figures.step + 1} of about {run.steps} (epoch"
        f" {figures.epoch + 1}, learning rate {figures.learning_rate:.3g}; {parts}). The training stops"
        " there. Set a lower optimiser.learning_rate or optimiser.clip_norm, a longer"
        " optimiser.warm_up_share, or optimiser.bfloat16: never; if it stays, look for inputs or labels of"
        " an odd size."
    )


def _report(run: _Run, drawn: int) -> None:
    now, at = time.monotonic(), run.at
    if now - run.reported >= REPORT_SECONDS and not math.isnan(run.latest):
        run.reported = now
        run.advance(
            (at.epoch + at.batch / drawn) / run.training.epochs,
            f"epoch {at.epoch + 1} of {run.training.epochs}, loss {run.latest:.3f}",
        )


def _end_of_epoch(run: _Run, drawn: int, windows_per_second: float) -> None:
    """The epoch's entry in the history, its monitor, and whether to go on."""
    at, training = run.at, run.training
    entry = {name: total / drawn for name, total in at.sums.items()}
    entry |= {"learning_rate": run.optimiser.param_groups[0]["lr"], "windows": at.windows}
    told = f"epoch {at.epoch + 1} of {training.epochs}, loss {entry['loss']:.3f}"
    if run.monitor is not None:
        with run.average.applied(run.model) if run.average else nullcontext():
            entry["monitor"] = distributed.agreed(float(run.monitor()) if distributed.is_main() else math.nan)
            better = at.best is None or _worth(entry) > _worth(at.history[at.best])
            if better:
                run.best, at.best = (
                    {name: value.detach().clone() for name, value in run.model.state_dict().items()},
                    at.epoch,
                )
        at.stale = 0 if better else at.stale + 1
        told += f", monitor {entry['monitor']:.4f}"
    at.history.append(entry)
    at.epoch, at.batch, at.windows, at.sums = at.epoch + 1, 0, 0, {}
    at.finished = at.epoch == training.epochs or at.stale > training.patience_epochs
    run.advance(at.epoch / training.epochs, told)
    if run.log:
        run.log(
            at.step,
            {
                "epoch": float(at.epoch),
                **({"monitor": entry["monitor"]} if run.monitor else {}),
                "windows_per_second": windows_per_second,
            },
        )
    ranked = sorted(range(len(at.history)), key=lambda epoch: -_worth(at.history[epoch]))[
        : training.keep_best
    ]
    best = [checkpoint.best_name(epoch + 1) for epoch in ranked]
    _save(run, [checkpoint.LAST, *(name for name in best if name == checkpoint.best_name(at.epoch))])
    if run.folder and distributed.is_main():
        checkpoint.keep_only(run.folder, best)


def _worth(entry: dict[str, float]) -> float:
    """By what epochs are ranked: the monitor, or the loss without one; what is not a number comes last."""
    value = entry.get("monitor", -entry["loss"])
    return value if math.isfinite(value) else -math.inf


def _finish(run: _Run) -> None:
    if run.best is not None:
        run.model.load_state_dict(run.best)
    elif run.average is not None:
        run.average.copy_to(run.model)
    distributed.share_weights(run.model)
    run.model.eval()


def _key(run: _Run, key: str) -> str:
    """SHA-256 of the caller's key and of all that the steps depend on."""
    training = run.training.model_dump(
        exclude={"checkpoint_steps", "keep_best", "predict_windows", "band_epochs"}
    )
    weights = [(name, list(value.shape)) for name, value in run.model.state_dict().items()]
    parts = [
        key,
        training,
        run.settings.model_dump(),
        run.seed,
        run.whole_days,
        run.monitor is not None,
        hashlib.sha256(run.rows.tobytes()).hexdigest(),
        weights,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _save(run: _Run, names: list[str]) -> None:
    if run.folder is None or not distributed.is_main():
        return
    state = {
        "position": vars(run.at),
        "model": run.model.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "average": run.average and run.average.state_dict(),
        "best": run.best,
    }
    checkpoint.write(run.folder, names, state, key=run.key, step=run.at.step)


def _resume(run: _Run) -> None:
    """Go on from the newest whole checkpoint of this training, where there is one.

    The main process chooses for all.
    """
    if run.folder is None:
        return
    names = [checkpoint.LAST, *(checkpoint.best_name(epoch) for epoch in range(1, run.training.epochs + 1))]
    found = checkpoint.newest(run.folder, run.key) if distributed.is_main() else None
    chosen = int(distributed.agreed(float(names.index(found) if found else -1)))
    if chosen >= 0:
        state = checkpoint.read(run.folder, names[chosen])
        run.at = _Position(**state["position"])
        run.model.load_state_dict(state["model"])
        _load_optimiser(run.optimiser, state["optimiser"])
        if run.average is not None:
            run.average.load_state_dict(state["average"])
        if state["best"] is not None:
            run.best = {name: value.to(run.panel.device) for name, value in state["best"].items()}
        if distributed.is_main():
            report(
                "checkpoints",
                f"training goes on from step {run.at.step} (epoch {run.at.epoch + 1}) of"
                f" {run.folder / names[chosen]}",
            )
    distributed.wait()


def _load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take over a saved state; JSON made lists of the groups' tuples."""
    groups = [
        {name: tuple(value) if isinstance(group.get(name), tuple) else value for name, value in found.items()}
        for group, found in zip(optimiser.param_groups, saved["param_groups"], strict=True)
    ]
    optimiser.load_state_dict({"state": saved["state"], "param_groups": groups})


def _silent(share: float, what: str) -> None:
    """In place of the progress of processes that are not the main one."""
