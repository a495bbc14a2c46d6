"""The run's side of the warm process, `pipelines.runners.warm.server`: starts it, and asks it for tasks."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.processes.endings import KILL
from components.processes.imports import python_module

SERVER = "pipelines.runners.warm.server"
ANSWER_BYTES = 64
# How kfp's command of a task begins; behind that come a script, the source of the door, and arguments.
SHELL, SCRIPT = ["sh", "-ec"], "-m kfp.dsl.executor_main"
DOOR_OPTION = "--function_to_execute"
# The libraries that are imported, and functions that are called where it is written `module:function`, before
# the fork: for all tasks, and by door what tasks behind it need as well. What one task of a run needs alone
# (Great Expectations, torch's exporter) that imports itself.
FOREST = ("scipy.stats", "pandas", "sklearn.linear_model")
FEAST = ("components.feature_store.feast_import:import_feast",)
MLFLOW = (
    "mlflow",
    "alembic.migration",
    "alembic.script",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sqlalchemy.orm:configure_mappers",
)
PRELOADED: Mapping[str, Sequence[str]] = {
    "": ("kfp.dsl.executor_main", "polars", "pydantic", "scipy.special", "yaml"),
    **dict.fromkeys(("train_expert", "stack", "make_reference"), FOREST),
    **dict.fromkeys(("materialise", "make_training_set"), FEAST),
    **dict.fromkeys(("gather_trials", "read_champion", "register"), MLFLOW),
    **dict.fromkeys(("backtest", "judge"), ("scipy.stats", "numba")),
}
# kfp reads this where it is imported: a task needs little of it.
KFP_RUNTIME = {"_KFP_RUNTIME": "true"}
# The exit code of a task whose end nobody saw, because the warm process was killed: the kernel killed it too.
LOST = -KILL


def can_fork() -> bool:
    """Whether processes can be forked safely from one that has imported libraries: on Linux. macOS's own
    libraries forbid it, Windows knows no fork.
    """
    return sys.platform == "linux"


@dataclass(frozen=True)
class Forked:
    """A task that runs in a fork of the warm process: the number of its process, what it says, and how it
    ends.
    """

    number: int
    output: int
    ended: int

    def lines(self) -> Iterator[str]:
        """What it says, to its end."""
        with open(self.output, encoding="utf-8", errors="replace") as output:
            yield from output

    def code(self) -> int:
        """Its exit code, negative the signal that ended it, once it has ended."""
        with open(self.ended, encoding="utf-8") as ended:
            return int(ended.read() or LOST)


@dataclass(frozen=True)
class WarmTasks:
    """The warm process of one run, and how it is asked for tasks: `preloaded` names by door what is imported
    before the fork.
    """

    server: subprocess.Popen
    connection: socket.socket
    asking: threading.Lock
    scratch: Path
    preloaded: Mapping[str, Sequence[str]]

    @classmethod
    def start(cls, scratch: Path, preloaded: Mapping[str, Sequence[str]] = PRELOADED) -> "WarmTasks":
        """Start the process, in our group so that it ends with the run. `scratch` is a folder of the run."""
        ours, its = socket.socketpair()
        with its:
            server = subprocess.Popen(
                python_module(SERVER, str(its.fileno()), *preloaded[""]),
                pass_fds=[its.fileno()],
                env={**os.environ, **KFP_RUNTIME},
            )
        return cls(server, ours, threading.Lock(), scratch, preloaded)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and what still runs of its tasks."""
        self.connection.close()
        self.server.wait()

    def fork(self, full_command: list[str], env_vars: Mapping[str, str] | None = None) -> Forked | None:
        """Begin a task in a fork. None where it has to be started afresh: it is no task of a door as we know
        them, or forking would not be safe.
        """
        task = None if env_vars else _read_command(full_command)
        if task is None:
            return None
        source, arguments = task
        door = arguments[arguments.index(DOOR_OPTION) + 1]
        output, its_output = os.pipe()
        ended, its_ended = os.pipe()
        try:
            modules = self.preloaded.get(door, ())
            request = {"source": source, "arguments": arguments, "modules": list(modules)}
            number = self._ask(request, [its_output, its_ended])
        finally:
            os.close(its_output)
            os.close(its_ended)
        if number:
            return Forked(number, output, ended)
        os.close(output)
        os.close(ended)
        return None

    def _ask(self, request: Mapping[str, object], descriptors: list[int]) -> int:
        """Have a task forked; returns the number of its process, 0 where the warm one refuses or is gone."""
        with tempfile.NamedTemporaryFile("w", dir=self.scratch, suffix=".json", encoding="utf-8") as file:
            json.dump(request, file)
            file.flush()
            with self.asking:
                try:
                    socket.send_fds(self.connection, [file.name.encode()], descriptors)
                    return int(self.connection.recv(ANSWER_BYTES) or 0)
                except OSError:
                    return 0


def _read_command(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """Source of the door and arguments of kfp's executor, read from its command of a task; None where that is
    another one, or installs packages first.
    """
    if len(command) < 4 or list(command[:2]) != SHELL or command[2].count(SCRIPT) != 1:
        return None
    source, arguments = command[3], list(command[4:])
    installs = "pip install" in command[2]
    return (source, arguments) if DOOR_OPTION in arguments and not installs else None
