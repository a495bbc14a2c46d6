"""A training in several processes that share each batch: started by torchrun on this machine, or on the nodes
of Ray, ended together, their failure raised here.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from components.contracts import ContractError, require_json
from components.contracts.documents.experts import STATUS, TrainedExpert
from components.experts.errors import ExpertError
from components.experts.training.copies import PROCESSES, seen_by_nodes
from components.experts.training.inputs import Assignment, Inputs, as_arguments, from_arguments
from components.processes.imports import own_modules_only, python_module
from components.progress import pass_on, warn
from components.spread.choice import engine
from components.spread.gang import run_together

ENDING_SECONDS = 30
LOG_CHARACTERS = 5000
ARGUMENTS = "arguments.json"
# In the words of a process that only lost another one.
LOST = ("gloo/transport", "DistBackendError", "DistNetworkError")
WORKER = "components.experts.training.process_worker"


def train_in_processes(inputs: Inputs, assignment: Assignment, work_folder: Path) -> TrainedExpert:
    """Run `publish.train_on_tables` in as many processes as the leaf asks for, one a GPU where there are
    GPUs: on this machine, or on Ray's nodes where that is the run's engine, with the same result.

    The main one leaves the finished folds in the work folder, so that a call without processes finds them
    there; returned is its status.

    Raises
    ------
    ExpertError
        If the expert failed in any process, or a process died without a word; all others are ended then.
    ContractError
        If data or settings are at fault.
    RayError
        If Ray does not answer, or has no room for all at once.
    """
    if engine() == "ray":
        # Arguments lie beside the folds, where all nodes can read them.
        with seen_by_nodes(inputs, work_folder) as seen:
            return _trained(seen, assignment, work_folder, _on_ray, beside=work_folder)
    _refuse_too_many(assignment.leaf.processes)
    return _trained(inputs, assignment, work_folder, _on_this_machine)


def _trained(
    inputs: Inputs,
    assignment: Assignment,
    work_folder: Path,
    run: Callable[[Assignment, Path], tuple[str, Path]],
    beside: Path | None = None,
) -> TrainedExpert:
    """What `run` made of the arguments in a scratch folder: it tells how the processes failed, in words that
    are empty where none did, and where the first of those printed.
    """
    processes = assignment.leaf.processes
    with tempfile.TemporaryDirectory(prefix=PROCESSES, dir=beside) as scratch:
        folder = Path(scratch).absolute()
        write_arguments(folder / ARGUMENTS, inputs, assignment, work_folder)
        ended, log = run(assignment, folder)
        _raise_what_was_told(folder, processes)
        if ended:
            printed = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            raise ExpertError(
                f"A process of {processes} died, or hung, without a word ({ended}), often because memory ran"
                " out. Set the leaf's `processes` or settings.training.batch_windows lower."
            ) from RuntimeError(f"the end of what the processes printed:\n{printed[-LOG_CHARACTERS:]}")
        return TrainedExpert.read(folder / STATUS)


def _on_this_machine(assignment: Assignment, folder: Path) -> tuple[str, Path]:
    log = folder / "processes.log"
    with log.open("wb") as handle:
        code = _torchrun(assignment.leaf.processes, folder / ARGUMENTS, handle)
    return f"torchrun ended with {code}" if code else "", log


def _on_ray(assignment: Assignment, folder: Path) -> tuple[str, Path]:
    """A node that dies is told as a process is; the folds that were finished stay for the next call."""
    leaf = assignment.leaf
    say = partial(warn, f"train {leaf.expert}")
    failed = run_together(
        WORKER, folder / ARGUMENTS, leaf.processes, cpus=leaf.threads, hear=pass_on, say=say
    )
    return (failed.how, failed.log) if failed else ("", folder)


def write_arguments(path: Path, inputs: Inputs, assignment: Assignment, work_folder: Path) -> None:
    """Write what a process is to do, as JSON that `read_arguments` understands."""
    path.write_text(json.dumps(as_arguments(inputs, assignment, work_folder)), encoding="utf-8")


def read_arguments(path: Path) -> tuple[Inputs, Assignment, Path]:
    """What `write_arguments` wrote."""
    return from_arguments(require_json(path))


def _raise_what_was_told(folder: Path, processes: int) -> None:
    """Raise the first failure that a process wrote of itself; one that only lost another one counts not."""
    failures = [require_json(path) for path in folder.glob("failure-*.json")]
    # By its own words: the processes share the file of the trace, and the last one to fail wrote it.
    told = [one for one in failures if not any(sign in one["kind"] + one["message"] for sign in LOST)]
    if told:
        raise_failure(min(told, key=lambda failure: failure["time"]), processes)


def _refuse_too_many(processes: int) -> None:
    """Each process holds the whole panel: more than there are GPUs, or cores where there is none, would only
    fill the memory.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    most = gpus or max(2, os.cpu_count() or 1)
    if processes > most:
        found = f"{gpus} GPU(s)" if gpus else f"no GPU and {os.cpu_count()} cores"
        raise ContractError(
            f"The leaf asks for processes: {processes}, but this machine has {found}. Set processes to {most}"
            " or less."
        )


def _torchrun(processes: int, arguments: Path, log: Any) -> int:
    """The exit code of torchrun over this machine's loopback.

    It ends all processes when one fails, and is itself ended when the caller is interrupted.
    """
    command = python_module(
        "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", "0"
    )
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--local-addr", "127.0.0.1"]
    environment = own_modules_only()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    process = subprocess.Popen(
        [*command, "-m", WORKER, str(arguments)],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def raise_failure(failure: Mapping[str, Any], processes: int) -> None:
    """Raise here what a process wrote of its failure."""
    cause = RuntimeError(f"in process {failure['rank']} of {processes}:\n{failure['trace']}")
    if failure["kind"] == "ExpertError":
        raise ExpertError(f"{failure['message']} (process {failure['rank']} of {processes})") from cause
    if failure["kind"] == "AlphaloopError":
        raise ContractError(failure["message"]) from cause
    raise RuntimeError(
        f"{failure['kind']}: {failure['message']} (process {failure['rank']} of {processes})"
    ) from cause
