"""The log of attempts at a piece, beside its folder: one JSON line when an attempt begins and one when it
ends. An attempt without an end was killed, or is under way.
"""

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOGS = ".attempts"


@dataclass(frozen=True)
class Attempt:
    """An attempt at the piece of a folder; numbers start at 1 and go on when the work is started again."""

    folder: Path
    number: int

    @classmethod
    def begin(cls, folder: Path) -> "Attempt":
        """The next attempt, written down; one before it that did not end is written down as lost."""
        earlier = read_attempts(folder)
        attempt = cls(folder, sum(line["event"] == "began" for line in earlier) + 1)
        if earlier and earlier[-1]["event"] == "began":
            cls(folder, attempt.number - 1).add("lost")
        attempt.add("began", host=socket.gethostname(), process=os.getpid())
        return attempt

    def add(self, event: str, **about: Any) -> None:
        """Write down what happened; a line is written at once, so that two writers do not mix."""
        path = log_of(self.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"time": time.time(), "attempt": self.number, "event": event, **about})
        with path.open("ab", buffering=0) as handle:
            handle.write(f"{line}\n".encode())


def log_of(folder: Path) -> Path:
    """Where the attempts at the piece of a folder are written down."""
    return folder.parent / LOGS / f"{folder.name}.jsonl"


def events_of(folder: Path, number: int) -> Path:
    """Where an attempt that runs in another process says how far it is."""
    return folder.parent / LOGS / f"{folder.name}.{number}.events"


def all_events(folder: Path) -> list[Path]:
    """Those of all attempts, for as long as someone listens."""
    return sorted((folder.parent / LOGS).glob(f"{folder.name}.*.events"))


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, oldest first; a last one that is still being written is left out."""
    path = log_of(folder)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
