"""The log of answers, on disk side: a process of its own that turns closed segments into Parquet parts and
measures feature shift.

A part is named after its segment and a segment is deleted only once its parts are durable, so that work cut
short at any moment is done again into the same files: each answer ends up in Parquet exactly once. Parts of
hours long past are merged.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import (
    SERVED,
    AlphaloopError,
    ContractError,
    OutputError,
    hour_folder,
    read_stamp,
    served_parts,
    write_table,
)
from components.contracts.files import sync_folder
from components.contracts.served import HOUR_FORMAT
from components.processes.endings import end_with_parent
from components.processes.locks import BINARY, LockHeld, lock_if_free, take_lock
from components.settings import config_hash
from serving.faults import Faults, words
from serving.live.segments import SUFFIX, read_segment, spool_bytes
from serving.processes.documents import WRITER_FILE, ChampionNotice, WriterReport
from serving.processes.feature_shift import ServedShift
from serving.processes.plan import ServingPlan, read_plan
from serving.processes.retention import Keep, finish_removals, remove_old
from serving.processes.served_tables import served_frames

BROKEN = ".broken"
_STEP_S = 0.25
_REPORT_S = 1.0
_PAUSE_S = 2.0
_MERGE_AFTER = timedelta(minutes=10)
_MERGE_EVERY_S = 60.0
# Parts of an hour are merged up to this size together, so that a busy hour never fills the memory.
_MERGE_BYTES = 256 * 2**20
# Segments at a time, so that the report stays fresh while a long spool is emptied.
_MOST_AT_ONCE = 8
_HIDDEN_FOR_S = 60.0
_REMOVE_EVERY_S = 3600.0
# What disks do now and then; everything else leaves its trace.
_EXPECTED = (AlphaloopError, OSError)
# Newest distinct bars of symbols over which the log writer compares the features with the champion's
# training window.
LOG_SHIFT_ROWS = 2000


class WriterError(AlphaloopError):
    """The log writer can't start."""


class LogWriter:
    """Empties the spool of a run folder into `served/`. One at a time a folder."""

    def __init__(self, plan: ServingPlan) -> None:
        self.plan = plan
        self.spool = plan.serving_folder / "spool"
        self.served = plan.served_folder
        self.rows_written = self.parts_written = self.torn = self.broken = 0
        self.problem: str | None = None
        self._hidden_since: dict[Path, float] = {}
        self._config_hash = config_hash(plan.serving)
        self._lock: Any = None
        self.faults = Faults(_say, _EXPECTED)
        self._shift = ServedShift(LOG_SHIFT_ROWS, Faults(_say))

    def open(self) -> None:
        """Take the folder, remove what a killed writer left half done, and load the newest rows for the
        feature shift.

        Raises
        ------
        WriterError
            If another writer works on this folder.
        OutputError
            If it can't be written.
        """
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            self.served.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.spool / ".writer")  # held until the process ends
        except LockHeld:
            raise WriterError(
                f"Another log writer works on {self.spool}. Stop the other `alphaloop serve` of this run"
                " folder first."
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self.spool} can't be written: {error.strerror}. Set run.folder to a folder that you may"
                " write."
            ) from error
        for hidden in self.served.glob("hour=*/.*"):
            shutil.rmtree(hidden, ignore_errors=True)
        finish_removals(self.served)
        self._finish_merges()
        self._shift.load(served_parts(self.served))

    def take_closed(self, most: int | None = None) -> int:
        """Write the parts of every segment that nobody writes to any more, or of the oldest `most`; returns
        how many were done.

        A full disk is kept in `problem`, and its segment stays for the next time.
        """
        done = 0
        # A hidden one is about to be locked: its process has not given it its name yet.
        for path in sorted(self.spool.glob(f"[!.]*{SUFFIX}")):
            if done == most:
                break
            with _if_closed(path) as descriptor:
                if descriptor is not None:
                    self._take(path, descriptor)
                    done += 1
        self._drop_stillborn()
        self.problem = None
        return done

    def merge_hours(self, *, now: datetime | None = None) -> int:
        """Make one part of the many of each past hour, a column set at a time; returns how many
        files went.
        """
        newest = hour_folder("", (now or datetime.now(UTC)) - _MERGE_AFTER).name
        waiting = {path.name.removesuffix(SUFFIX) for path in self.spool.glob(f"*{SUFFIX}")}
        groups: dict[tuple[Path, str], list[Path]] = {}
        for part in served_parts(self.served):
            if part.parent.name < newest and part.name.split(".")[0] not in waiting:
                groups.setdefault((part.parent, part.name.split(".")[-2]), []).append(part)
        gone = 0
        for (folder, columns), parts in groups.items():
            few = _within(sorted(parts, key=lambda part: part.stat().st_size), _MERGE_BYTES)
            if len(few) > 1:
                self._merge(folder, columns, few)
                gone += len(few) - 1
        return gone

    def remove_old(self, *, now: datetime | None = None) -> int:
        """Remove the hours that need not be kept, and say which; returns how many."""
        settings = self.plan.serving
        champions = self.plan.serving_folder / "champions"
        keep = Keep(
            days=settings.keep_served_days,
            most_bytes=settings.keep_served_bytes,
            bars=self.plan.drift_bars,
            bundles=[path.name for path in champions.iterdir()] if champions.is_dir() else [],
        )
        removed = remove_old(self.served, keep, now=now or datetime.now(UTC))
        for text in removed.words():
            _say(text)
        return len(removed.hours)

    def report(self) -> WriterReport:
        """What `serving/log_writer.json` holds."""
        return WriterReport(
            at=datetime.now(UTC),
            rows_written=self.rows_written,
            parts_written=self.parts_written,
            spool_bytes=spool_bytes(self.spool),
            torn=self.torn,
            broken=self.broken,
            problem=self.problem,
            feature_shift=self._shift.measure(self._champion()),
        )

    def _champion(self) -> ChampionNotice | None:
        """Who is served now; None before the first, and where it can't be told."""
        try:
            return ChampionNotice.read(self.plan.champion_file)
        except ContractError:
            return None

    def _take(self, path: Path, descriptor: int) -> None:
        with open(descriptor, "rb", closefd=False) as handle:
            content = read_segment(handle.read())
        frames, damage = served_frames(content.answers)
        damage = content.damage or damage
        parts = [
            (part, frame) for columns, whole in frames for part, frame in self._parts(path, columns, whole)
        ]
        for part, frame in parts:
            self._write(part, frame, inputs={})
        if parts:
            sync_folder(self.served)
        if damage:
            path.rename(path.with_name(path.name + BROKEN))
            self.broken += 1
            _say(
                f"{path.name}{BROKEN} was set aside: {damage}; the {sum(len(frame) for _, frame in parts):,}"
                " rows that could be read were kept"
            )
        else:
            path.unlink()
        # A segment that came back after a power cut would be written twice where its parts were merged by
        # then.
        sync_folder(self.spool)
        self.rows_written += sum(len(frame) for _, frame in parts)
        self.parts_written += len(parts)
        if content.torn_bytes:
            self.torn += 1
            _say(
                f"{path.name}: its last record was never finished (its process was killed) and was left out;"
                " no answer had been acknowledged with it"
            )
        for _, frame in parts:
            self._shift.remember(frame)

    def _parts(
        self, segment: Path, columns: tuple[str, ...], frame: pl.DataFrame
    ) -> list[tuple[Path, pl.DataFrame]]:
        name = f"{segment.name.removesuffix(SUFFIX)}.{_columns_id(columns)}.parquet"
        hours = frame.with_columns(pl.col("answered_at").dt.strftime(HOUR_FORMAT).alias("hour")).partition_by(
            "hour", as_dict=True, include_key=False, maintain_order=True
        )
        return [(self.served / f"hour={hour}" / name, rows) for (hour,), rows in hours.items()]

    def _write(self, part: Path, frame: pl.DataFrame, inputs: dict[str, str]) -> None:
        write_table(
            frame,
            part,
            SERVED,
            code_version=self.plan.code_version,
            config_hash=self._config_hash,
            inputs=inputs,
        )

    def _merge(self, folder: Path, columns: str, parts: Sequence[Path]) -> None:
        inputs = {part.name: read_stamp(part).content_sha256 for part in parts}
        # Some may hold probabilities of classes, and others not.
        frame = pl.concat([pl.read_parquet(part) for part in parts], how="diagonal").sort(SERVED.key)
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        target = folder / f"merged-{digest[:12]}.{columns}.parquet"
        self._write(target, frame, inputs)
        for part in parts:
            part.unlink()

    def _finish_merges(self) -> None:
        """Delete the parts that a merged part already holds: the writer was killed before it could."""
        for merged in self.served.glob("hour=*/merged-*.parquet"):
            for name in read_stamp(merged).inputs:
                (merged.parent / name).unlink(missing_ok=True)

    def _drop_stillborn(self) -> None:
        """Remove segments whose process was killed before they had a name; they hold nothing.

        How long they have been there is seen here: files carry the time of day, which may be set.
        """
        now = time.monotonic()
        hidden = {path: self._hidden_since.get(path, now) for path in self.spool.glob(f".*{SUFFIX}")}
        for path, since in hidden.items():
            if now - since > _HIDDEN_FOR_S:
                path.unlink(missing_ok=True)
        self._hidden_since = hidden


def run(plan: ServingPlan) -> None:
    """Work until told to stop; then empty the spool a last time."""
    stop = end_with_parent()
    writer = LogWriter(plan)
    writer.open()
    report_at = pause_until = merged_at = 0.0
    removed_at = -_REMOVE_EVERY_S
    while not stop.wait(_STEP_S):
        now = time.monotonic()
        if now >= pause_until and not _attempt(writer, lambda: writer.take_closed(_MOST_AT_ONCE)):
            pause_until = now + _PAUSE_S
        if now - merged_at >= _MERGE_EVERY_S and _attempt(writer, writer.merge_hours):
            merged_at = now
        if now - removed_at >= _REMOVE_EVERY_S and _attempt(writer, writer.remove_old):
            removed_at = now
        if now - report_at >= _REPORT_S:
            report_at = now
            _write_report(writer)
    _attempt(writer, writer.take_closed)
    _write_report(writer)


def _attempt(writer: LogWriter, step: Callable[[], int]) -> bool:
    """Do a step; what stands in its way is said once and tried again later."""
    try:
        step()
    except Exception as error:  # the writer must outlive whatever lies in the spool
        writer.problem = str(error) if isinstance(error, _EXPECTED) else words(error)
        writer.faults.say(writer.problem, error)
        return False
    writer.faults.clear()
    return True


def _write_report(writer: LogWriter) -> None:
    # The disk may be full, which is what the report would say.
    with contextlib.suppress(OutputError):
        writer.report().write(writer.plan.serving_folder / WRITER_FILE)


def _within(parts: Sequence[Path], most_bytes: int) -> list[Path]:
    """The first of the parts that are together no larger than this."""
    sizes = accumulate(part.stat().st_size for part in parts)
    return [part for part, size in zip(parts, sizes, strict=True) if size <= most_bytes]


def _columns_id(columns: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(columns)).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _if_closed(path: Path):
    """Yield a locked descriptor of a segment that nobody writes to any more, else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | BINARY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor if lock_if_free(descriptor) else None
    finally:
        os.close(descriptor)


def _say(message: str) -> None:
    print(f"[log writer] {message}", file=sys.stderr, flush=True)


def main() -> None:
    """`python -m serving.processes.log_writer PLAN`."""
    try:
        run(read_plan(sys.argv[1] if len(sys.argv) > 1 else None))
    except AlphaloopError as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
