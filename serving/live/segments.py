"""Segments of the answer log: framed records appended to a file, and read back however the file ends.

A segment is `MAGIC`, then records: mark, kind, length, CRC-32, payload. What was handed to the operating
system survives a kill -9 of any process; there is no fsync, so a power cut may cost the last seconds. The
writer (`serving.processes.log_writer`) takes a segment when nobody holds its lock any more.
"""

import contextlib
import json
import os
import secrets
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.contracts.classes import CLASS_COLUMNS
from components.processes.locks import BINARY, lock_if_free
from serving.faults import Faults, words

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


@dataclass(frozen=True)
class Answer:
    """One answered request of B rows.

    `timestamps_us` int64[B] (close of the bar) and `known_times_us` int64[B] (or UNKNOWN_TIME_US) in
    microseconds since 1970, `stale` bool[B], `outputs` float64[B, 6] in the order of OUTPUTS, `features`
    float32[B, len(columns)], NaN where unknown; `chances` float64[B, 3], the probabilities in the order of
    CLASS_COLUMNS, where the target is a class.
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
    chances: np.ndarray | None = None


class Segment:
    """The file that is being appended to, locked as long as it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self._began = time.monotonic()
        self._columns: dict[tuple[str, ...], int] = {}

    @classmethod
    def begin(cls, spool: Path) -> "Segment":
        """A new segment.

        Its number is beyond those of all that are there: the writer takes them in the order in which they
        began, whatever the clock did. It gets its name only once it is locked, so that the writer never takes
        it for a closed one.
        """
        spool.mkdir(parents=True, exist_ok=True)
        path = spool / f"{_next_number(spool):012d}-{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
        hidden = path.with_name(f".{path.name}")
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600)
        segment = cls(path, descriptor)
        try:
            if not lock_if_free(descriptor):
                raise BlockingIOError(f"{hidden} was locked by another before it had its name")
            segment._put(MAGIC)
            os.rename(hidden, path)
        except BaseException:
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        return segment

    def append(self, answers: list[Answer], faults: Faults) -> list[bool]:
        """Write the answers with one call; False for those that can't be put into bytes, which `faults` is
        told.

        OSError leaves the file as it was.
        """
        known, parts, kept = dict(self._columns), [], []
        for answer in answers:
            try:
                payload = encode(answer, known.get(answer.columns, len(known)))
            except (TypeError, ValueError, AttributeError) as error:
                faults.say(f"An answer can't be put into bytes and is not logged: {words(error)}", error)
                kept.append(False)
                continue
            if answer.columns not in known:
                known[answer.columns] = len(known)
                parts.append(framed(_COLUMNS, json.dumps(list(answer.columns)).encode()))
            parts.append(framed(_ANSWER, payload))
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
                answers.append(decode(payload, columns))
            else:
                raise ValueError(f"kind {kind}")
        except (ValueError, LookupError, TypeError, struct.error) as error:
            return SegmentContent(answers, damage=f"the record at byte {place:,} can't be read ({error})")
        place = end
    return SegmentContent(answers)


def _next_number(spool: Path) -> int:
    numbers = (path.name.partition("-")[0] for path in spool.glob(f"[!.]*{SUFFIX}"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0) + 1


def spool_bytes(spool: Path) -> int:
    """Bytes of all segments in a spool folder, active ones included."""
    total = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(spool) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
    return total


def framed(kind: int, payload: bytes) -> bytes:
    return _FRAME.pack(_MARK, kind, len(payload), zlib.crc32(payload)) + payload


def encode(answer: Answer, columns: int) -> bytes:
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
    chances = []
    if answer.chances is not None:
        header["chances"] = len(CLASS_COLUMNS)
        chances = [(answer.chances, "<f8", (rows, len(CLASS_COLUMNS)))]
    text = json.dumps(header, separators=(",", ":")).encode()
    arrays = [
        np.ascontiguousarray(array, dtype=dtype).reshape(shape).tobytes()
        for array, dtype, shape in (
            (answer.timestamps_us, "<i8", (rows,)),
            (answer.known_times_us, "<i8", (rows,)),
            (answer.stale, "u1", (rows,)),
            (answer.outputs, "<f8", (rows, len(OUTPUTS))),
            (answer.features, "<f4", (rows, len(answer.columns))),
            *chances,
        )
    ]
    return b"".join([_HEADER_LENGTH.pack(len(text)), text, *arrays])


def decode(payload: memoryview, columns: list[tuple[str, ...]]) -> Answer:
    (length,) = _HEADER_LENGTH.unpack_from(payload)
    place = _HEADER_LENGTH.size + length
    header = json.loads(bytes(payload[_HEADER_LENGTH.size : place]))
    rows, width = len(header["symbols"]), header.pop("width")
    names = columns[header.pop("columns")]
    # Not in what was written of a number, or before probabilities were kept.
    classes = header.pop("chances", 0)
    if len(names) != width:
        raise ValueError(f"{width} values a row for {len(names)} columns")
    arrays = []
    for dtype, shape in (
        ("<i8", (rows,)),
        ("<i8", (rows,)),
        ("u1", (rows,)),
        ("<f8", (rows, len(OUTPUTS))),
        ("<f4", (rows, width)),
        ("<f8", (rows, classes)),
    ):
        array = np.frombuffer(payload, dtype=dtype, count=int(np.prod(shape)), offset=place).reshape(shape)
        arrays.append(array)
        place += array.nbytes
    if place != len(payload):
        raise ValueError(f"{len(payload) - place} bytes too many")
    timestamps, known_times, stale, outputs, features, chances = arrays
    return Answer(
        **header,
        columns=names,
        timestamps_us=timestamps,
        known_times_us=known_times,
        stale=stale.astype(bool),
        outputs=outputs,
        features=features,
        chances=chances if classes else None,
    )
