"""From stamped tables to an expert's artifact folder:

`status.json` and, unless it failed, `predictions.parquet`, `model/` and, where there is a cross-validation,
`cross_validated.parquet`.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.contracts import CROSS_VALIDATED, PREDICTIONS, OutputError, atomic_path, write_table
from components.contracts.documents.experts import CROSS_VALIDATED_FILE, STATUS, TIMELINE, ExpertStatus
from components.experts.errors import ExpertError
from components.experts.neural.distributed import world
from components.experts.training.copies import sweep
from components.experts.training.elsewhere import elsewhere
from components.experts.training.folds import PREDICTED
from components.experts.training.inputs import Assignment, Inputs, read_inputs
from components.experts.training.processes import train_in_processes
from components.experts.training.train import Trained, failed, train_expert, train_guarded
from components.processes.locks import LockHeld, take_lock
from components.settings import config_hash


@dataclass(frozen=True)
class Attempt:
    """How a training ended: with a trained expert, or None where it failed; `origins` are the content hashes
    of its inputs by name.
    """

    trained: Trained | None
    status: ExpertStatus
    origins: Mapping[str, str]


@contextmanager
def only_training(work_folder: Path) -> Iterator[None]:
    """Hold the work folder's lock, so that what a killed command left behind never writes into the folds of
    the next one.

    Raises
    ------
    OutputError
        If another training holds it.
    """
    work_folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(work_folder.parent / f".{work_folder.name}.lock")
    except LockHeld:
        raise OutputError(
            f"Another training is writing to {work_folder}, perhaps one whose command was killed. Wait for it"
            " to end, or end it."
        ) from None
    with lock:
        sweep(work_folder)
        yield


def train_on_tables(inputs: Inputs, assignment: Assignment, work_folder: Path) -> Attempt:
    """Read and verify the tables and train on them.

    Where the leaf asks for several processes, they fit the folds first, and what is left to do here is to
    take the finished ones.

    Raises
    ------
    ContractError
        If inputs were chosen, or rows found learnable, on another training set.
    """
    expert, shared = assignment.leaf.expert, None
    if assignment.leaf.processes > 1 and world().size == 1:
        try:
            shared = train_in_processes(inputs, assignment, work_folder)
        except ExpertError as error:
            return Attempt(None, failed(error, expert=expert, work_folder=work_folder), {})
    tables, origins = read_inputs(inputs)
    trained, status = train_guarded(
        lambda: train_expert(
            tables,
            assignment,
            work_folder,
            warm_from=inputs.warm_from,
            elsewhere=elsewhere(inputs, assignment),
            shared=shared,
        ),
        expert=expert,
        work_folder=work_folder,
    )
    return Attempt(trained, status, origins)


def publish_expert(folder: Path, attempt: Attempt, assignment: Assignment, work_folder: Path) -> None:
    """Write the artifact folder as a whole, and the status beside the folds.

    A failed expert gets no predictions, so that it can't be mistaken for a trained one.
    """
    trained = attempt.trained
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        attempt.status.write(temporary / STATUS)
        if trained is not None:
            about = {
                "code_version": assignment.code,
                "config_hash": config_hash(assignment.leaf),
                "inputs": {**attempt.origins, TIMELINE: config_hash(assignment.timeline.walking())},
                "train_window": trained.status.train_window,
            }
            write_table(trained.predictions, temporary / PREDICTED, PREDICTIONS, **about)
            if trained.cross_validated is not None:
                crossed = temporary / CROSS_VALIDATED_FILE
                write_table(trained.cross_validated, crossed, CROSS_VALIDATED, **about)
            shutil.copytree(trained.model_folder, temporary / "model")
    attempt.status.write(work_folder / STATUS)
