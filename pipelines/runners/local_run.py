"""Runs a pipeline on this machine through `kfp.local`, each task in a subprocess or a container, and shows
how it goes.

The pipeline runs in a child process whose output, kfp's chatter, goes to a log file; what the stages report
comes back through the events file (`components.progress`).
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, OutputError, atomic_write_text
from components.processes.endings import end_group_with_parent, keeping_open, leader_of_a_group, signal_group
from components.processes.imports import own_modules_only, python_module
from components.processes.locks import LockHeld, take_lock
from components.progress import EVENTS_VARIABLE, stage
from components.report.closing import FAILURE, close_run
from pipelines.code_version import IMAGE_VARIABLE
from pipelines.config import Config, data_folder
from pipelines.runners.containers import docker_runner, find_image, remove_containers
from pipelines.runners.terminal import Terminal

# What every task's environment holds: libraries that phone home by default are told not to.
TASK_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    # Threads that wait must not spin: on shared cores that made training many times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}
POLL_S = 0.1


class RunFailed(AlphaloopError):
    """A stage failed; the message is that stage's own."""

    exit_code = 1


class FolderInUse(OutputError):
    """Another run holds the run folder."""


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
    """
    folder = Path(config.run.folder).absolute()
    with _only_run(folder) as lock:
        events, log, scratch = folder / "events.jsonl", folder / "kfp.log", folder / "tmp"
        scratch.mkdir(exist_ok=True)
        (folder / FAILURE).unlink(missing_ok=True)
        for path in (events, log):
            atomic_write_text(path, "")
        plan = folder / "plan.json"
        atomic_write_text(
            plan,
            json.dumps(
                {
                    "pipeline": pipeline,
                    "runner": runner,
                    "options": dict(options or {}),
                    "config": config.model_dump(mode="json"),
                }
            ),
        )
        environment = {
            **own_modules_only(),
            **TASK_ENVIRONMENT,
            EVENTS_VARIABLE: str(events),
            "ALPHALOOP_DATA": str(data_folder().absolute()),
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(scratch),
        }
        if runner == "docker":
            environment[IMAGE_VARIABLE] = find_image()
        with log.open("w") as output:
            child = subprocess.Popen(
                python_module("pipelines.runners.local_run", str(plan)),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                **leader_of_a_group(),
                **keeping_open(lock),
            )
            try:
                failure = _follow(child, events, terminal or Terminal())
            finally:
                if runner == "docker":
                    remove_containers(folder)
                shutil.rmtree(scratch, ignore_errors=True)
        if child.returncode and not failure:
            failure = {
                "stage": "none",
                "message": (
                    f"The pipeline ended with exit code {child.returncode} outside any stage. Its last"
                    f" words:\n{_last_lines(log)}"
                ),
            }
        if failure and not (folder / FAILURE).exists():
            close_run(folder, failed=True, message=failure["message"], events=events)
    if failure:
        raise RunFailed(
            f"{failure['message']}\n\nStage: {failure['stage']}. Log: {log}. Page: {folder / FAILURE}"
        )
    return folder


def _follow(child: subprocess.Popen, events: Path, terminal: Terminal) -> dict | None:
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
                        failure = event
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


def _execute(plan_path: Path) -> None:
    """The child: build the pipeline of the plan and run it through `kfp.local`."""
    from kfp import local

    from pipelines.graphs.build import build_pipeline

    end_group_with_parent()
    plan = json.loads(plan_path.read_text(encoding="utf-8"))
    config = Config.model_validate(plan["config"])
    folder = plan_path.parent
    logging.getLogger().setLevel(logging.INFO)
    _forget_failures(folder / "artifacts")
    _forget_lost_publications(folder)
    if plan["runner"] == "docker":
        runner = docker_runner(
            folder, config, {**TASK_ENVIRONMENT, EVENTS_VARIABLE: os.environ[EVENTS_VARIABLE]}
        )
    else:
        runner = local.SubprocessRunner(use_venv=False)
    local.init(
        runner=runner,
        pipeline_root=str(folder / "artifacts"),
        workspace_root=os.environ["TMPDIR"],
        enable_caching=True,
        raise_on_error=True,
    )
    with stage("set-up"):
        pipeline = build_pipeline(plan["pipeline"], config, folder=str(folder), options=plan["options"])
    logging.getLogger().addHandler(_CacheHits(_titles(pipeline)))
    try:
        pipeline()
    except RuntimeError as error:
        print(error, flush=True)
        sys.exit(1)


class _CacheHits(logging.Handler):
    """Turns kfp's log line about a cache hit into an event; `titles` maps task names to what people call
    them.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        super().__init__()
        self.titles = titles

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if " cache hit (" in text:
            name = re.sub(r"\x1b\[\d+m|'", "", text.split()[1])
            event = {"time": time.time(), "event": "cached", "stage": self.titles.get(name, name)}
            with open(os.environ[EVENTS_VARIABLE], "a", encoding="utf-8") as handle:
                handle.write(json.dumps(event) + "\n")


def _titles(pipeline) -> dict[str, str]:
    """Display name of each task of a pipeline, by the name that kfp gives it."""
    graphs = [component.dag for component in pipeline.pipeline_spec.components.values()]
    return {name: task.task_info.name for graph in graphs for name, task in graph.tasks.items()}


def _forget_failures(artifacts: Path) -> None:
    """Remove what experts that failed left behind, and the folders that they were gathered in, so that the
    cache does not answer with their failure.
    """
    from components.contracts.documents.experts import read_status

    places = {"*/*/expert/status.json": 0, "*/*/gathered/*/status.json": 1}
    for pattern, above in places.items():
        for status in list(artifacts.glob(pattern)):
            if status.exists() and read_status(status).status == "failed":
                shutil.rmtree(status.parents[above])


def _forget_lost_publications(folder: Path) -> None:
    """Remove the outputs of materialisations whose store is gone or holds another publication, so that the
    cache does not answer with them.
    """
    current = folder / "feature_store" / "current.json"
    held = json.loads(current.read_text(encoding="utf-8"))["publication"] if current.exists() else None
    for output in (folder / "artifacts").glob("*/materialise/registry"):
        if json.loads(output.read_text(encoding="utf-8"))["publication"] != held:
            output.unlink()


if __name__ == "__main__":
    _execute(Path(sys.argv[1]))
