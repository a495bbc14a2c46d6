"""Runs a pipeline on this machine through `kfp.local`, each task in a subprocess, a container or a pod, and
shows how it goes.

The pipeline runs in a child process (`pipelines.runners.local_child`) whose output, kfp's chatter, goes to a
log file; what the stages report comes back through the events file (`components.progress`).
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, OutputError, atomic_write_text
from components.memory.deaths import how_it_ended, kernel_kills
from components.processes.endings import keeping_open, leader_of_a_group, signal_group
from components.processes.imports import own_modules_only, python_module
from components.processes.locks import LockHeld, take_lock
from components.progress import EVENTS_VARIABLE
from components.report.closing import FAILURE, close_run, killed, read_events
from components.spread.on_ray import require_ray
from pipelines.code_version import IMAGE_ID_VARIABLE
from pipelines.config import Config, data_folder
from pipelines.leaves import WITHOUT_LEAVES, resolve_leaves
from pipelines.runners.containers import find_image, remove_containers
from pipelines.runners.local_child import Plan
from pipelines.runners.pods.machine import require_namespaces
from pipelines.runners.terminal import Terminal
from pipelines.task_environment import DATA_VARIABLE, TASK_ENVIRONMENT

CHILD = "pipelines.runners.local_child"
POLL_S = 0.1
# What is said to have ended where no stage has, and where the run was then.
LEADER, SET_UP, BETWEEN = "The process that leads the run", "set-up", "between two stages"


class RunFailed(AlphaloopError):
    """A stage failed; the message is that stage's own."""

    exit_code = 1


class FolderInUse(OutputError):
    """Another run holds the run folder."""


@dataclass(frozen=True)
class Failure:
    """Where a run failed, and how."""

    stage: str
    message: str

    @property
    def event(self) -> dict[str, Any]:
        """The same as a stage would have said it."""
        return {"event": "failed", "stage": self.stage, "message": self.message, "mendable": True}


@dataclass(frozen=True)
class RunFiles:
    """What a run leaves in its folder beside artifacts and report."""

    folder: Path

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "kfp.log"

    @property
    def scratch(self) -> Path:
        return self.folder / "tmp"

    @property
    def failure(self) -> Path:
        return self.folder / FAILURE

    def begin(self) -> None:
        """Let nothing of the run before be taken for this one's."""
        self.scratch.mkdir(exist_ok=True)
        self.failure.unlink(missing_ok=True)
        for path in (self.events, self.log):
            atomic_write_text(path, "")


def run_locally(
    pipeline: str,
    config: Config,
    *,
    runner: str = "subprocess",
    options: Mapping[str, Any] | None = None,
    terminal: Terminal | None = None,
) -> Path:
    """Run `pipeline` (see `pipelines.graphs.build`) and return its run folder.

    Finished stages are answered from the cache as long as their input, settings and code are the same, so a
    run that was killed goes on where it was.

    Raises
    ------
    RunFailed
        With the failing stage's message and where the log and the failure page are.
    OutputError
        If the run folder can't be written; FolderInUse if another run is using it.
    ContainerError
        With runner docker: if there is no engine or no image, or the image holds other code than this
        checkout.
    PodError
        With runner pods: if this machine refuses namespaces.
    RayError
        If Ray is to fit the experts of tasks in subprocesses, and is not installed.
    """
    if runner == "pods":
        require_namespaces()
    if pipeline not in WITHOUT_LEAVES:
        resolve_leaves(config)  # what can't be trained is refused before the run folder is touched
        if runner == "subprocess" and config.compute.engine == "ray":
            require_ray()
    files = RunFiles(Path(config.run.folder).absolute())
    with _only_run(files.folder) as lock:
        files.begin()
        plan = Plan(pipeline, runner, dict(options or {}), config)
        plan.write(files.plan)
        terminal = terminal or Terminal()
        failure = _run_child(plan, files, lock, terminal)
        if runner == "pods":
            terminal.tell_lost(read_events(files.events))
        if failure and not files.failure.exists():
            events = [*read_events(files.events), failure.event]
            close_run(files.folder, failed=True, message=failure.message, events=events)
    if failure:
        raise RunFailed(
            f"{failure.message}\n\nStage: {failure.stage}. Log: {files.log}. Page: {files.failure}"
        )
    return files.folder


def _run_child(plan: Plan, files: RunFiles, lock: int, terminal: Terminal) -> Failure | None:
    """Run the plan in a child that keeps `lock` open, and clear up after it; returns how it failed."""
    environment, kills = _environment(plan, files), kernel_kills()
    with files.log.open("w") as output:
        child = subprocess.Popen(
            python_module(CHILD, str(files.plan), str(os.getpid())),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            **leader_of_a_group(),
            **keeping_open(lock),
        )
        try:
            failure = _follow(child, files.events, terminal)
        finally:
            if plan.runner == "docker":
                remove_containers(files.folder)
            shutil.rmtree(files.scratch, ignore_errors=True)
    if failure or not child.returncode:
        return failure
    said = _last_lines(files.log)
    message = how_it_ended(LEADER, child.returncode, said, peak=None, kernel_kills=kernel_kills() - kills)
    return Failure(_at_work(read_events(files.events)), message)


def _at_work(events: Sequence[Mapping[str, Any]]) -> str:
    """Where a run was that ended without a word: a stage that had begun, else what lies between two."""
    begun = next((said.stage for said in killed(events)), None)
    before = SET_UP if all(event["stage"] != SET_UP for event in events) else BETWEEN
    return begun or before


def _environment(plan: Plan, files: RunFiles) -> dict[str, str]:
    """The child's environment, and with it that of the tasks in subprocesses."""
    environment = {
        **own_modules_only(),
        **TASK_ENVIRONMENT,
        **plan.config.compute.environment,
        EVENTS_VARIABLE: str(files.events),
        DATA_VARIABLE: str(data_folder().absolute()),
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(files.scratch),
    }
    return {**environment, IMAGE_ID_VARIABLE: find_image()} if plan.runner == "docker" else environment


def _follow(child: subprocess.Popen, events: Path, terminal: Terminal) -> Failure | None:
    """Show events until the child ends; returns the first failure. The child dies with us."""
    failure = None
    try:
        with events.open(encoding="utf-8") as handle, terminal:
            while True:
                ended = child.poll() is not None
                for line in _whole_lines(handle):
                    event = json.loads(line)
                    terminal.show(event)
                    if event["event"] == "failed" and failure is None:
                        failure = Failure(event["stage"], event["message"])
                if ended:
                    return failure
                time.sleep(POLL_S)
    finally:
        if child.poll() is None:
            signal_group(child, signal.SIGTERM)
            child.wait()


def _whole_lines(handle) -> Iterator[str]:
    while True:
        position = handle.tell()
        line = handle.readline()
        if not line.endswith("\n"):
            handle.seek(position)
            return
        yield line


@contextmanager
def _only_run(folder: Path) -> Iterator[int]:
    """Hold the run folder's lock, so that two runs never write into each other's artifacts.

    Yields the lock's file descriptor: the child inherits it, so the folder stays locked while any part of the
    run lives.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder / ".lock")
    except LockHeld:
        raise FolderInUse(
            f"Another run is using {folder}. Wait for it to end, or give this one its own folder: --set"
            " run.folder=runs/other."
        ) from None
    except OSError as error:
        raise OutputError(
            f"run.folder={folder} can't be written: {error.strerror}. Set run.folder to a folder that you may"
            " write, for example --set run.folder=runs/mine."
        ) from error
    with lock:
        yield lock.fileno()


def _last_lines(log: Path, count: int = 8) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
