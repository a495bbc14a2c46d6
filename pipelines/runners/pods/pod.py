"""One pod: the folders that it gets of this machine, the program that builds it, its log and its events, and
its end.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.memory.held import descendants, memory_held
from pipelines.runners.pods.machine import (
    INSIDE,
    graphics_mounts,
    image_links,
    image_mounts,
    image_path,
    isolated_python,
    mount,
    pod_user,
)
from pipelines.runners.pods.memory import LOOK_EVERY_S

WORKING_FOLDER = "/home/task"
EVENTS = "/dev/alphaloop-events"
SHARED_MEMORY = "/dev/shm"
# What Kubernetes gives a pod of shared memory where nothing is said.
SHARED_MEMORY_BYTES = 64 * 1024**2
READ_BYTES = 1 << 16
# What kfp itself lays into /tmp of a task: its program, and the launcher's folder of outputs.
KFP_OUTPUTS = "kfp"
KFP_PROGRAM = "ephemeral_component"


@dataclass(frozen=True)
class Lost:
    """A file that ended with its pod: where the task saw it, and its bytes."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Ended:
    """How a pod ended: exit code, and the bytes that it held where it was killed for them."""

    code: int
    killed_at: int | None


@dataclass
class Pod:
    """A pod that is to run, in `place`, an empty folder of this machine; `mounts` are added to until then.

    `hidden`: folders that it sees empty, should they lie among the installed packages.
    """

    place: Path
    name: str
    environment: Mapping[str, str]
    accelerator: bool = False
    hidden: tuple[Path, ...] = ()
    mounts: list[dict] = field(default_factory=list)
    scratch: dict[str, Path] = field(default_factory=dict)

    def add_scratch(self, target: str) -> Path:
        """Let the pod have an empty folder at `target` that it may write; returns where it lies here."""
        folder = self.place / f"scratch_{len(self.scratch)}"
        folder.mkdir()
        folder.chmod(0o777)
        self.scratch[target] = folder
        self.mounts.append(mount(folder, target, writable=True))
        return folder

    def add_memory(self, target: str, size: int) -> None:
        """Let the pod have a folder in memory of `size` bytes at `target`."""
        self.mounts.append({"kind": "memory", "target": target, "bytes": size})

    def run(
        self,
        command: list[str],
        *,
        limit: int | None,
        on_output: Callable[[str], None],
        on_event: Callable[[str], None],
    ) -> Ended:
        """Run the command to its end; lines of its log and of its events are handed on as they come."""
        events = self.place / "events"
        os.mkfifo(events)
        plan = self._plan(command, events)
        # Held open for writing too: else it ends whenever the task has it closed.
        listening = os.open(events, os.O_RDWR | os.O_NONBLOCK)
        try:
            with subprocess.Popen(
                [*isolated_python(), str(INSIDE), str(self.place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                try:
                    with process.stdin as given:
                        given.write(json.dumps(plan).encode())
                    killed_at = _follow(process, listening, limit, on_output, on_event)
                finally:
                    process.kill()  # where we were interrupted; all in the pod ends with it
                return Ended(process.wait(), killed_at)
        finally:
            os.close(listening)

    def lost(self) -> list[Lost]:
        """Files that the task left where nothing keeps them."""
        mounted = {one["target"] for one in self.mounts}
        return [
            Lost(path, size)
            for target, folder in self.scratch.items()
            for name, size in _files(folder)
            if (path := os.path.join(target, name)).rstrip(os.sep) not in mounted
            and not (target == "/tmp" and _is_of_kfp(name))
        ]

    def _plan(self, command: list[str], events: Path) -> dict[str, Any]:
        (self.place / "root").mkdir()
        given = [*self.mounts, mount(events, EVENTS, writable=True)]
        given += graphics_mounts() if self.accelerator else []
        if not any(one["target"] == SHARED_MEMORY for one in given):
            given.append({"kind": "memory", "target": SHARED_MEMORY, "bytes": SHARED_MEMORY_BYTES})
        given.append({"kind": "processes", "target": "/proc"})
        image = image_mounts()
        image += [
            {"kind": "empty", "target": str(place)}
            for place in self.hidden
            if any(place.is_relative_to(one["source"]) for one in image)
        ]
        return {
            "hostname": self.name[:63],
            "parent": os.getpid(),
            "uid": pod_user(),
            "host_uid": os.geteuid(),
            "host_gid": os.getegid(),
            "mounts": [*image, *sorted(given, key=lambda one: one["target"].count("/"))],
            "links": image_links(),
            "working_folder": WORKING_FOLDER,
            "command": command,
            "environment": {"PATH": image_path(), "HOME": "/tmp", "LANG": "C.UTF-8", **self.environment},
        }


def _follow(
    process: subprocess.Popen,
    listening: int,
    limit: int | None,
    on_output: Callable[[str], None],
    on_event: Callable[[str], None],
) -> int | None:
    """Hand on log and events until the log ends; returns the memory at which the pod was killed,
    if it was.
    """
    output = process.stdout.fileno()
    lines = {output: _Lines(on_output), listening: _Lines(on_event)}
    killed_at, look_at = None, time.monotonic()
    with selectors.DefaultSelector() as selector:
        for descriptor in lines:
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(LOOK_EVERY_S):
                read = os.read(key.fd, READ_BYTES)
                lines[key.fd].take(read)
                if key.fd == output and not read:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            lines[listening].take(os.read(listening, READ_BYTES))
                    for one in lines.values():
                        one.finish()
                    return killed_at
            if limit and killed_at is None and time.monotonic() >= look_at:
                held = memory_held(process.pid, limit)
                look_at = time.monotonic() + LOOK_EVERY_S
                if held > limit:
                    killed_at = held
                    _kill_below(process.pid)


def _kill_below(process: int) -> None:
    for one in descendants(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


class _Lines:
    """Bytes as they come, handed on in whole lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.on_line = on_line
        self.rest = b""

    def take(self, read: bytes) -> None:
        *whole, self.rest = (self.rest + read).split(b"\n")
        for line in whole:
            self.on_line(line.decode(errors="replace"))

    def finish(self) -> None:
        if self.rest:
            self.take(b"\n")


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """What lies in a folder, whatever it is: names in it, and bytes. Of folders only empty ones."""
    for place, folders, files in os.walk(folder):
        inside = [*files, *(one for one in folders if os.path.islink(os.path.join(place, one)))]
        for name in inside:
            path = os.path.join(place, name)
            yield _shown(os.path.relpath(path, folder)), os.lstat(path).st_size
        if not inside and not folders and place != str(folder):
            yield _shown(os.path.relpath(place, folder)) + os.sep, 0


def _shown(name: str) -> str:
    """A file's name, which is any bytes, as text that can be written and printed."""
    return os.fsencode(name).decode(errors="replace")


def _is_of_kfp(name: str) -> bool:
    first, _, rest = name.partition(os.sep)
    return (
        first == KFP_OUTPUTS
        or (first.startswith("tmp.") and KFP_PROGRAM in rest)
        or name.startswith("kfp_outputs")
    )
