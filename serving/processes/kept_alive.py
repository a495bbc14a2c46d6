"""Processes that are kept alive: started, started again when they end, and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.processes.endings import KILL, leader_of_a_group, signal_group
from serving.processes.killed import MemoryWatch

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SOUND_AFTER_S = 30.0
_LAST_WORDS = 6


@dataclass
class KeptAlive:
    """One process that is kept alive.

    `log` takes its output; None: it writes to our own. `ends_by`: the signal that it gets when we die.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    ends_by: int = signal.SIGTERM
    process: subprocess.Popen | None = None
    began: float = 0.0
    pause_s: float = field(default=_FIRST_PAUSE_S)
    start_at: float = 0.0
    memory: MemoryWatch = field(default_factory=MemoryWatch)

    def start(self) -> None:
        """Start it now."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output or sys.stderr.fileno(),
                stderr=output or sys.stderr.fileno(),
                **leader_of_a_group(ends_by=self.ends_by),  # this process starts no threads
            )
        self.began = time.monotonic()

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send it a signal, or its whole group; nothing where it has ended."""
        if self.process is not None and self.process.poll() is None:
            if group:
                signal_group(self.process, number)
            else:
                self.process.send_signal(number)

    def waits_to_start(self, now: float) -> bool:
        """Whether it has ended and is about to be started again."""
        return self.process is None and now >= self.start_at

    def keep(self, now: float, say: Callable[[str], None]) -> None:
        """Start it again where it has ended, after a pause that grows while it ends soon."""
        if self.process is None:
            if self.waits_to_start(now):
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        if now - self.began > _SOUND_AFTER_S:
            self.pause_s = _FIRST_PAUSE_S
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        words = _last_words(self.log) if code > 0 else ""
        if code == -KILL:
            words = f". {self.memory.words()}"
        say(f"The {self.name} {ended}; starting it again in {self.pause_s:g} s{words}")
        self.process, self.start_at = None, now + self.pause_s
        self.pause_s = min(self.pause_s * 2, _LONGEST_PAUSE_S)

    def wait(self, seconds: float, hurry: threading.Event) -> None:
        """Wait for its end; after `seconds`, or in a hurry, it and what it started are killed."""
        deadline = time.monotonic() + seconds
        while self.process is not None and self.process.poll() is None:
            if time.monotonic() > deadline or hurry.is_set():
                self.signal(KILL, group=True)
                self.process.wait()
                return
            time.sleep(0.02)


def reap_orphans(children: Sequence[KeptAlive]) -> None:
    """Kill processes that have become ours but are none of the children."""
    if sys.platform != "linux":
        return
    known = {child.process.pid for child in children if child.process is not None}
    with contextlib.suppress(OSError):
        pids = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        for pid in (int(text) for text in pids):
            if pid not in known:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, KILL)
                    os.waitpid(pid, 0)


def _last_words(log: Path | None) -> str:
    if log is None:
        return ""
    with log.open("rb") as handle:
        handle.seek(max(handle.seek(0, os.SEEK_END) - 4096, 0))
        lines = handle.read().decode("utf-8", errors="replace").splitlines()
    return f". Its last words ({log}):\n" + "\n".join(lines[-_LAST_WORDS:])
