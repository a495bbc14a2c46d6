"""The log of answers, service side: a thread that appends answers to segments and never slows or fails an
answer.
"""

import contextlib
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts import AlphaloopError
from serving.faults import Faults, logged
from serving.live.segments import Answer, Segment, spool_bytes

if TYPE_CHECKING:
    from serving.config import Settings

# What may wait in memory besides the number of answers: 500 rows of 200 columns are 0.4 MB an answer.
_QUEUE_BYTES = 256 * 2**20
_BATCH_BYTES = 8 * 2**20
_TRY_AGAIN_S = 0.5
_LOOK_S = 1.0
_CLOSE_S = 5.0
# Longest wait for the answer log before an answer is given.
LOG_WAIT_MS = 50.0


@dataclass(frozen=True)
class _Waiting:
    """An answer that waits for the disk, what its caller waits on, and about how many bytes it takes."""

    answer: Answer
    written: "Future[bool]"
    size: int


class AnswerLog:
    """Takes answers from the service and appends them to segments in `spool`; several processes may share the
    folder.

    Nothing here raises into the caller: an answer that can't be kept is counted in `dropped`.
    """

    def __init__(self, spool: Path, settings: "Settings") -> None:
        self.spool = Path(spool)
        self.settings = settings
        self.dropped = 0
        self.written = 0
        self.problem: str | None = None
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._queued_bytes = 0
        self._oldest = 0.0
        self._closed = False
        self._segment: Segment | None = None
        self._try_again_at = 0.0
        self._spool_bytes = 0
        self._looked_at = -_LOOK_S
        self._faults = Faults(logged(), (AlphaloopError, OSError))
        self._thread = threading.Thread(target=self._run, name="answer-log", daemon=True)

    @property
    def queued(self) -> int:
        """Answers that wait to be written."""
        return self._queued

    @property
    def behind(self) -> bool:
        """True while the disk does not keep up: waiting for a future would cost an answer its time."""
        oldest = self._oldest
        return self.problem is not None or (oldest > 0 and time.monotonic() - oldest > LOG_WAIT_MS / 1000)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, for at most five seconds, and let go of the segment."""
        self._closed = True
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def append(self, answer: Answer) -> "Future[bool] | None":
        """Queue an answer.

        The future is done when its bytes are with the operating system (True) or it was dropped (False);
        None: the queue is full.
        """
        size = answer.features.nbytes + answer.outputs.nbytes + 64 * len(answer.symbols)
        now = time.monotonic()
        with self._lock:
            if (
                self._closed
                or self._queued >= self.settings.log_queue_answers
                or self._queued_bytes + size > _QUEUE_BYTES
            ):
                self.dropped += 1
                return None
            if not self._queued:
                self._oldest = now
            self._queued += 1
            self._queued_bytes += size
        written: Future[bool] = Future()
        self._waiting.put(_Waiting(answer, written, size))
        return written

    def _run(self) -> None:
        while True:
            batch, ends = self._next_batch()
            if batch:
                self._settle(batch, self._write([waiting.answer for waiting in batch]))
            if self._segment is not None and (ends or self._segment.full(self.settings)):
                self._let_go()
            if ends:
                return

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Whatever waits, up to a few megabytes, and whether the log was closed."""
        batch, size = [], 0
        with contextlib.suppress(queue.Empty):
            item = self._waiting.get(timeout=min(_LOOK_S, self.settings.log_segment_seconds))
            while item is not None:
                batch.append(item)
                size += item.size
                if size > _BATCH_BYTES:
                    return batch, False
                item = self._waiting.get_nowait()
            return batch, True
        return batch, False

    def _settle(self, batch: list[_Waiting], kept: list[bool]) -> None:
        with self._lock:
            self._queued -= len(batch)
            self._queued_bytes -= sum(waiting.size for waiting in batch)
            self._oldest = time.monotonic() if self._queued else 0.0
            self.written += sum(kept)
            self.dropped += len(kept) - sum(kept)
        for waiting, good in zip(batch, kept, strict=True):
            if waiting.written.set_running_or_notify_cancel():
                waiting.written.set_result(good)

    def _write(self, answers: list[Answer]) -> list[bool]:
        """Append the answers; False for those that were not kept.

        A batch is kept as a whole or not at all.
        """
        now = time.monotonic()
        if now < self._try_again_at:
            return [False] * len(answers)
        try:
            self._check_room(now)
            if self._segment is None:
                self._segment = Segment.begin(self.spool)
            kept = self._segment.append(answers, self._faults)
        except Exception as error:  # whatever it is, an answer must not fail for it
            from_system = isinstance(error, OSError) and error.strerror
            self.problem = f"{error.strerror}: {self.spool}" if from_system else str(error)
            self._faults.say(f"The answer log does not take answers: {self.problem}", error)
            self._try_again_at = now + _TRY_AGAIN_S
            self._let_go()
            return [False] * len(answers)
        if self.problem is not None:
            self._faults.clear()
        self.problem = None
        return kept

    def _check_room(self, now: float) -> None:
        """Refuse to write while all segments together, those of other processes included, are
        over the limit.
        """
        own = self._segment.size if self._segment else 0
        if now - self._looked_at >= _LOOK_S or self._spool_bytes + own > self.settings.log_spool_bytes:
            self._spool_bytes = spool_bytes(self.spool) - own
            self._looked_at = now
        if self._spool_bytes + own > self.settings.log_spool_bytes:
            raise OSError(
                None,
                f"the spool holds {(self._spool_bytes + own) / 2**20:.0f} MiB, its limit; the log writer is"
                " behind or gone",
            )

    def _let_go(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
            self._spool_bytes += segment.size
