"""What takes the place of `kfp.local`'s own running of one task, in a subprocess or a container: a task that
ends without a word is told of by its stage, with what it held of memory.
"""

import json
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.memory.deaths import how_it_ended, kernel_kills
from components.memory.held import descendants, most_held
from components.report.closing import killed
from pipelines.runners.containers import run_container
from pipelines.runners.warm.tasks import Forked, WarmTasks

INPUT_OPTION = "--executor_input"
# Lines of a task's output of which its last words are taken.
KEPT_LINES = 40
# A process that runs out of memory grows for longer than this.
LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Ended:
    """How a task ended: its exit code, and the most that one of its processes held, where that is known."""

    code: int
    peak: int | None = None


@dataclass
class Output:
    """What a task says on its output: passed on, behind the task's name where it comes in lines, and the end
    of it kept.
    """

    name: str = ""
    kept: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def take(self, text: str) -> None:
        """Pass on a piece of it."""
        print(f"{self.name} | {text}" if self.name else text, end="")
        self.kept.append(text)

    @property
    def end(self) -> str:
        """Its last lines."""
        return "".join(self.kept)


@dataclass(frozen=True)
class LocalTasks:
    """The tasks of a run: `titles` by the name that kfp gives each; `events`: the file of the run's events;
    `warm`: what forks them, none where each is started afresh.
    """

    titles: Mapping[str, str]
    events: Path
    warm: WarmTasks | None = None

    def run_in_subprocess(self, full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        """Run one task to its end; returns its exit code. It replaces kfp's `run_local_subprocess`."""

        def run(output: Output) -> Ended:
            output.name = _name(full_command)
            forked = self.warm and self.warm.fork(full_command, env_vars)
            return (
                _in_fork(forked, output) if forked else _in_subprocess(full_command, env_vars or {}, output)
            )

        return self.follow(full_command, run)

    def run_in_container(
        self, client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any
    ) -> int:
        """The same in a container; it replaces kfp's `run_docker_container`."""

        def run(output: Output) -> Ended:
            return Ended(run_container(client, image, command, volumes, output.take, **arguments))

        return self.follow(command, run)

    def take_over(self) -> None:
        """Have kfp.local run tasks by us."""
        from kfp.local import docker_task_handler, subprocess_task_handler

        docker_task_handler.run_docker_container = self.run_in_container
        subprocess_task_handler.run_local_subprocess = self.run_in_subprocess

    def follow(self, full_command: list[str], run: Callable[[Output], Ended]) -> int:
        """Run one task by `run`, and where it fails without a word say what is known; returns its exit
        code.
        """
        heard, kills = self.events.stat().st_size, kernel_kills()
        output = Output()
        ended = run(output)
        if ended.code:
            name = _name(full_command)
            title = self.titles.get(name, name)
            said = self._said_since(heard, title)
            if not any(event["event"] == "failed" for event in said):
                self._fail(_at_work(said) or title, ended, output.end, kernel_kills() - kills)
        return ended.code

    def _said_since(self, heard: int, title: str) -> list[dict[str, Any]]:
        """What was said since then, but for what tasks of other titles said, which run beside this one."""
        others = {*self.titles.values()} - {title}
        with self.events.open(encoding="utf-8") as lines:
            lines.seek(heard)
            said = [json.loads(line) for line in lines]
        return [event for event in said if event["stage"] not in others]

    def _fail(self, stage: str, ended: Ended, said: str, kills: int) -> None:
        message = how_it_ended(stage, ended.code, said, peak=ended.peak, kernel_kills=kills)
        event = {"event": "failed", "stage": stage, "message": message, "mendable": True, "seconds": 0.0}
        with self.events.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"time": time.time(), **event}) + "\n")


def _name(full_command: list[str]) -> str:
    """kfp's name of a task, which is that of the folder it writes to."""
    asked = json.loads(full_command[full_command.index(INPUT_OPTION) + 1])
    return Path(asked["outputs"]["outputFile"]).parent.name


def _at_work(said: list[dict[str, Any]]) -> str:
    """The stage that began and did not end, empty where none had begun."""
    return next((one.stage for one in killed(said)), "")


def _in_fork(task: Forked, output: Output) -> Ended:
    with _watched(task.number) as peak:
        for line in task.lines():
            output.take(line)
        code = task.code()
    return Ended(code, peak[0] or None)


def _in_subprocess(full_command: list[str], env_vars: Mapping[str, str], output: Output) -> Ended:
    with subprocess.Popen(
        full_command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        env={**os.environ, **env_vars},
    ) as process:
        with _watched(process.pid) as peak:
            for line in process.stdout:
                output.take(line)
        print("\n")
        return Ended(process.wait(), peak[0] or None)


@contextmanager
def _watched(process: int) -> Iterator[list[int]]:
    """The most that a process or one below it has held, brought up to date while the block runs."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            peak[0] = max(peak[0], most_held([process, *descendants(process)]))

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield peak
    finally:
        over.set()
        watch.join()
