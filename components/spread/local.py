"""Pieces in processes of this machine: as many side by side as cores, GPUs and memory allow, each making one
piece after the other.
"""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from components.memory.limits import target
from components.processes.imports import own_modules_only, python_module
from components.spread.failures import lost, raise_failure
from components.spread.needs import Needs
from components.spread.piece import Piece

GIB = 2**30
POLL_S = 0.5
GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"


def slots(needs: Needs) -> int:
    """How many pieces can be worked on side by side here, 1 at least."""
    allowed = [int(cores() / needs.cpus)]
    if needs.gpus:
        allowed.append(len(_gpus()) // needs.gpus)
    free = target()
    if needs.memory_gib and free is not None:
        allowed.append(int(free / (needs.memory_gib * GIB)))
    return max(1, min(allowed))


def cores(root: Path = Path("/")) -> float:
    """Cores that this process may use: those it may run on, less where its container has a quota."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return min(here, int(quota) / int(period))
    except (OSError, ValueError):  # no control groups of version 2, or `max`: no quota
        return here


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA takes."""
    named = os.environ.get(GPUS_VARIABLE)
    if named is not None:
        return [one for one in named.split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


class _Process:
    """A process of `components.spread.worker`, and what it is asked."""

    def __init__(self, gpus: Sequence[str]):
        environment = own_modules_only()
        if gpus:
            environment[GPUS_VARIABLE] = ",".join(gpus)
        self._process = subprocess.Popen(
            python_module("components.spread.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )

    def ask(self, function: str, piece: Piece) -> str:
        """The answer as a JSON line; empty where the process died."""
        try:
            self._process.stdin.write(json.dumps([function, piece.to_json()]) + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline()
        except BrokenPipeError:
            return ""

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Kill the process; returns its exit code."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()


@dataclass(frozen=True)
class _Answer:
    """What came of a piece: a JSON line, or the exit code of the process that died of it, or the error that
    let none be started.
    """

    piece: Piece
    line: str = ""
    code: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class _Work:
    """What the threads share that each have a process work on what waits."""

    function: str
    waiting: "queue.SimpleQueue[Piece | None]" = field(default_factory=queue.SimpleQueue)
    answers: "queue.SimpleQueue[_Answer]" = field(default_factory=queue.SimpleQueue)
    ending: threading.Event = field(default_factory=threading.Event)
    processes: list[_Process] = field(default_factory=list)

    def serve(self, gpus: Sequence[str]) -> None:
        """Ask one process after the other, a new one where the last died, until told to end."""
        process = None
        while (piece := self.waiting.get()) is not None:
            try:
                if process is None:
                    process = _Process(gpus)
                    self.processes.append(process)
                line = "" if self.ending.is_set() else process.ask(self.function, piece)
                code = 0
                if not line:
                    self.processes.remove(process)
                    code, process = process.end(), None
                self.answers.put(_Answer(piece, line, code))
            except Exception as error:
                self.answers.put(_Answer(piece, error=error))
        if process is not None:
            process.end()


def results(
    function: str, pieces: Sequence[Piece], needs: Needs, retries: int, side_by_side: int
) -> Iterator[Piece | None]:
    """Each piece as it is finished, and None from time to time.

    Raises
    ------
    LostPiece
        If a piece's process died more than `retries` times. What a piece itself raises is raised on.
    """
    work = _Work(function)
    for piece in pieces:
        work.waiting.put(piece)
    gpus = _gpus() if needs.gpus else []
    given = [gpus[slot * needs.gpus : (slot + 1) * needs.gpus] for slot in range(side_by_side)]
    threads = [threading.Thread(target=work.serve, args=(names,)) for names in given]
    for thread in threads:
        thread.start()
    try:
        yield from _gathered(work, len(pieces), retries)
    finally:
        work.ending.set()
        for _ in threads:
            work.waiting.put(None)
        for process in list(work.processes):
            process.kill()
        for thread in threads:
            thread.join()


def _gathered(work: _Work, count: int, retries: int) -> Iterator[Piece | None]:
    died: Counter[Path] = Counter()
    while count:
        try:
            answer = work.answers.get(timeout=POLL_S)
        except queue.Empty:
            yield None
            continue
        piece = answer.piece
        if answer.error:
            raise answer.error
        if answer.line:
            if failure := json.loads(answer.line):
                raise_failure(failure, piece)
            count -= 1
            yield piece
            continue
        died[piece.folder] += 1
        if died[piece.folder] > retries:
            raise lost(piece, died[piece.folder], f"with exit code {answer.code}")
        work.waiting.put(piece)
