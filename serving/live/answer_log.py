"""The log of answers, service side: framed records appended to a segment file, by a thread that never slows
or fails an answer.

A segment is `MAGIC`, then records: mark, kind, length, CRC-32, payload. What was handed to the operating
system survives a kill -9 of any process; there is no fsync, so a power cut may cost the last seconds. The
writer (`serving.processes.log_writer`) takes a segment when nobody holds its lock any more.
"""

import contextlib
import fcntl
import json
import os
import queue
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from serving.config import Settings

MAGIC = b"ALSPOOL1"
SUFFIX = ".segment"
OUTPUTS = ("score", "uncertainty", "p10", "p50", "p90", "position")
# A known time that nobody knows; NumPy reads it as NaT.
UNKNOWN_TIME_US = int(np.iinfo(np.int64).min)

_MARK = b"\xa1REC"
_FRAME = struct.Struct("<4sBII")  # mark, kind, payload bytes, CRC-32 of the payload
_HEADER_LENGTH = struct.Struct("<I")
_COLUMNS, _ANSWER = 1, 2
# What may wait in memory besides the number of answers: 500 rows of 200 columns are 0.4 MB an answer.
_QUEUE_BYTES = 256 * 2**20
_BATCH_BYTES = 8 * 2**20
_TRY_AGAIN_S = 0.5
_LOOK_S = 1.0
_CLOSE_S = 5.0


@dataclass(frozen=True)
class Answer:
    """One answered request of B rows.

    `timestamps_us` int64[B] (close of the bar) and `known_times_us` int64[B] (or UNKNOWN_TIME_US) in
    microseconds since 1970, `stale` bool[B], `outputs` float64[B, 6] in the order of OUTPUTS, `features`
    float32[B, len(columns)], NaN where unknown.
    """

    request_id: str
    endpoint: str
    answered_at_us: int
    model_version: int
    bundle_sha256: str
    publication: str
    symbols: Sequence[str]
    timestamps_us: np.ndarray
    known_times_us: np.ndarray
    stale: np.ndarray
    outputs: np.ndarray
    columns: tuple[str, ...]
    features: np.ndarray


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
        self._waiting: queue.SimpleQueue[tuple[Answer, Future, int, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._queued_bytes = 0
        self._oldest = 0.0
        self._closed = False
        self._segment: _Segment | None = None
        self._try_again_at = 0.0
        self._spool_bytes = 0
        self._looked_at = -_LOOK_S
        self._thread = threading.Thread(target=self._run, name="answer-log", daemon=True)

    @property
    def queued(self) -> int:
        """Answers that wait to be written."""
        return self._queued

    @property
    def behind(self) -> bool:
        """True while the disk does not keep up: waiting for a future would cost an answer its time."""
        oldest = self._oldest
        return self.problem is not None or (
            oldest > 0 and time.monotonic() - oldest > self.settings.log_wait_ms / 1000
        )

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
        future: Future[bool] = Future()
        self._waiting.put((answer, future, size, now))
        return future

    def _run(self) -> None:
        while True:
            batch, ends = self._next_batch()
            if batch:
                self._settle(batch, self._write([answer for answer, *_ in batch]))
            if self._segment is not None and (ends or self._segment.full(self.settings)):
                self._let_go()
            if ends:
                return

    def _next_batch(self) -> tuple[list[tuple[Answer, Future, int, float]], bool]:
        """Whatever waits, up to a few megabytes, and whether the log was closed."""
        batch, size = [], 0
        with contextlib.suppress(queue.Empty):
            item = self._waiting.get(timeout=min(_LOOK_S, self.settings.log_segment_seconds))
            while item is not None:
                batch.append(item)
                size += item[2]
                if size > _BATCH_BYTES:
                    return batch, False
                item = self._waiting.get_nowait()
            return batch, True
        return batch, False

    def _settle(self, batch: list[tuple[Answer, Future, int, float]], kept: list[bool]) -> None:
        with self._lock:
            self._queued -= len(batch)
            self._queued_bytes -= sum(size for _, _, size, _ in batch)
            self._oldest = time.monotonic() if self._queued else 0.0
            self.written += sum(kept)
            self.dropped += len(kept) - sum(kept)
        for (_, future, _, _), good in zip(batch, kept, strict=True):
            if future.set_running_or_notify_cancel():
                future.set_result(good)

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
                self._segment = _Segment.begin(self.spool)
            kept = self._segment.append(answers)
        except Exception as error:  # whatever it is, an answer must not fail for it
            self.problem = (
                f"{error.strerror}: {self.spool}"
                if isinstance(error, OSError) and error.strerror
                else str(error)
            )
            self._try_again_at = now + _TRY_AGAIN_S
            self._let_go()
            return [False] * len(answers)
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


class _Segment:
    """The file that is being appended to, locked as long as it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self._began = time.monotonic()
        self._columns: dict[tuple[str, ...], int] = {}

    @classmethod
    def begin(cls, spool: Path) -> "_Segment":
        """A new segment.

        It gets its name only once it is locked, so that the writer never takes it for a closed one.
        """
        spool.mkdir(parents=True, exist_ok=True)
        path = spool / f"{time.time_ns() // 1000}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        hidden = path.with_name(f".{path.name}")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        segment = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment._put(MAGIC)
            os.rename(hidden, path)
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        return segment

    def append(self, answers: list[Answer]) -> list[bool]:
        """Write the answers with one call; False for those that can't be put into bytes.

        OSError leaves the file as it was.
        """
        known, parts, kept = dict(self._columns), [], []
        for answer in answers:
            try:
                payload = _encode(answer, known.get(answer.columns, len(known)))
            except (TypeError, ValueError, AttributeError):
                kept.append(False)
                continue
            if answer.columns not in known:
                known[answer.columns] = len(known)
                parts.append(_framed(_COLUMNS, json.dumps(list(answer.columns)).encode()))
            parts.append(_framed(_ANSWER, payload))
            kept.append(True)
        self._put(b"".join(parts))
        self._columns = known
        return kept

    def full(self, settings: "Settings") -> bool:
        """True when the segment has its bytes or its seconds."""
        return (
            self.size >= settings.log_segment_bytes
            or time.monotonic() - self._began >= settings.log_segment_seconds
        )

    def close(self) -> None:
        """Unlock it: from now on it is the writer's."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def _put(self, data: bytes) -> None:
        view, done = memoryview(data), 0
        try:
            while done < len(view):
                done += os.write(self.descriptor, view[done:])
        except OSError:
            # Half a record would hide the ones after it.
            os.ftruncate(self.descriptor, self.size)
            raise
        self.size += done


@dataclass(frozen=True)
class SegmentContent:
    """What a closed segment holds.

    `torn_bytes` at its end belong to a record that was never finished, because its process was killed: nobody
    was told that it is safe. `damage` says what is wrong where the file was changed after it was written;
    `answers` are then those before that place.
    """

    answers: list[Answer]
    torn_bytes: int = 0
    damage: str | None = None


def read_segment(data: bytes) -> SegmentContent:
    """Decode a segment's bytes; never raises, whatever they are."""
    if not data.startswith(MAGIC):
        return (
            SegmentContent([], len(data))
            if MAGIC.startswith(data)
            else SegmentContent([], damage="it does not begin like a segment")
        )
    view, place, answers, columns = memoryview(data), len(MAGIC), [], []
    while place < len(data):
        if len(data) - place < _FRAME.size:
            return SegmentContent(answers, torn_bytes=len(data) - place)
        mark, kind, length, checksum = _FRAME.unpack_from(view, place)
        end = place + _FRAME.size + length
        if mark != _MARK:
            return SegmentContent(answers, damage=f"byte {place:,} does not begin a record")
        if end > len(data):
            return SegmentContent(answers, torn_bytes=len(data) - place)
        payload = view[place + _FRAME.size : end]
        if zlib.crc32(payload) != checksum:
            return SegmentContent(answers, damage=f"the record at byte {place:,} does not match its checksum")
        try:
            if kind == _COLUMNS:
                columns.append(tuple(json.loads(bytes(payload))))
            elif kind == _ANSWER:
                answers.append(_decode(payload, columns))
            else:
                raise ValueError(f"kind {kind}")
        except (ValueError, LookupError, TypeError, struct.error) as error:
            return SegmentContent(answers, damage=f"the record at byte {place:,} can't be read ({error})")
        place = end
    return SegmentContent(answers)


def spool_bytes(spool: Path) -> int:
    """Bytes of all segments in a spool folder, active ones included."""
    total = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(spool) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
    return total


def _framed(kind: int, payload: bytes) -> bytes:
    return _FRAME.pack(_MARK, kind, len(payload), zlib.crc32(payload)) + payload


def _encode(answer: Answer, columns: int) -> bytes:
    rows = len(answer.symbols)
    header = {
        "request_id": answer.request_id,
        "endpoint": answer.endpoint,
        "answered_at_us": int(answer.answered_at_us),
        "model_version": int(answer.model_version),
        "bundle_sha256": answer.bundle_sha256,
        "publication": answer.publication,
        "symbols": list(answer.symbols),
        "columns": columns,
        "width": len(answer.columns),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    arrays = [
        np.ascontiguousarray(array, dtype=dtype).reshape(shape).tobytes()
        for array, dtype, shape in (
            (answer.timestamps_us, "<i8", (rows,)),
            (answer.known_times_us, "<i8", (rows,)),
            (answer.stale, "u1", (rows,)),
            (answer.outputs, "<f8", (rows, len(OUTPUTS))),
            (answer.features, "<f4", (rows, len(answer.columns))),
        )
    ]
    return b"".join([_HEADER_LENGTH.pack(len(text)), text, *arrays])


def _decode(payload: memoryview, columns: list[tuple[str, ...]]) -> Answer:
    (length,) = _HEADER_LENGTH.unpack_from(payload)
    place = _HEADER_LENGTH.size + length
    header = json.loads(bytes(payload[_HEADER_LENGTH.size : place]))
    rows, width = len(header["symbols"]), header.pop("width")
    names = columns[header.pop("columns")]
    if len(names) != width:
        raise ValueError(f"{width} values a row for {len(names)} columns")
    arrays = []
    for dtype, shape in (
        ("<i8", (rows,)),
        ("<i8", (rows,)),
        ("u1", (rows,)),
        ("<f8", (rows, len(OUTPUTS))),
        ("<f4", (rows, width)),
    ):
        array = np.frombuffer(payload, dtype=dtype, count=int(np.prod(shape)), offset=place).reshape(shape)
        arrays.append(array)
        place += array.nbytes
    if place != len(payload):
        raise ValueError(f"{len(payload) - place} bytes too many")
    timestamps, known_times, stale, outputs, features = arrays
    return Answer(
        **header,
        columns=names,
        timestamps_us=timestamps,
        known_times_us=known_times,
        stale=stale.astype(bool),
        outputs=outputs,
        features=features,
    )
