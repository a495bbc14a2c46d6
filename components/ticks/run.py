"""What the doors of ticks call: read the events of a source, one symbol's session at a time; and validate
them, set them on one clock, and stop the run where a critical check failed.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from components.contracts.documents.tick_quality import (
    DayQuality,
    Expectation,
    ReadDay,
    TickQuality,
    TickReport,
)
from components.contracts.documents.tick_truth import TRUTH
from components.contracts.errors import AlphaloopError
from components.contracts.files import atomic_path
from components.contracts.tables import write_table
from components.contracts.tick_days import (
    INSTRUMENTS,
    TickDay,
    days_sha256,
    read_instruments,
    tick_days,
    write_day,
)
from components.contracts.tick_schemas import DELAYS, EXECUTE, HIDDEN, RAW_TICKS, TRADE
from components.progress import report, stage, warn
from components.progress.notes import keep_page
from components.settings import config_hash
from components.spread import engines
from components.spread.piece import Piece
from components.ticks.at_hand import at_hand
from components.ticks.config import Settings
from components.ticks.delays import delay_table
from components.ticks.errors import TicksError
from components.ticks.page import write_quality_page
from components.ticks.pieces import (
    NEED,
    QUALITY_FILE,
    QUARANTINE,
    TICKS_FILE,
    VALIDATE_DAY,
    ExaminedDay,
    piece,
    read_quarantine,
)
from components.ticks.sources.choice import SOURCES
from components.ticks.sources.protocol import RecordedDay
from components.ticks.suite import judge

# Of the days that stop a run so many are named.
MOST_NAMED = 5
# What file systems take for a name, less what endings and names for the time of writing need; in bytes.
LONGEST_NAME = 200
# Nanoseconds of 1990 and 2200. Milliseconds that are taken for nanoseconds lie in 1970.
# Features have a row for each moment between a session's first message and its last.
MOST_DAYS = 31
FIRST_TIME, LAST_TIME = 631_152_000 * 10**9, 7_258_118_400 * 10**9


class ValidationFailed(AlphaloopError):
    """A critical expectation of events was not met; the message says which, where and what to do, and names
    the page.
    """


@dataclass(frozen=True)
class IngestOutputs:
    """Where the folder of RAW_TICKS, in it the TickTruth of a simulated market, and the TickReport go."""

    raw: str | os.PathLike
    report: str | os.PathLike


@dataclass(frozen=True)
class ValidateOutputs:
    """Where the folder of TICKS, the tables DELAYS and QUARANTINE, the TickQuality and its page go, and the
    work folder in which finished sessions stay for the next call.
    """

    ticks: str | os.PathLike
    delays: str | os.PathLike
    quarantine: str | os.PathLike
    quality: str | os.PathLike
    page: str | os.PathLike
    work: str | os.PathLike


def run_ingest(outputs: IngestOutputs, *, settings: str, seed: int, code: str) -> TickReport:
    """Read the events of the configured source; their faults stay in, for validation to find.

    Raises
    ------
    TicksError
        If there are none, or they can't be read.
    """
    with stage("ingest ticks"):
        parsed = Settings.model_validate_json(settings)
        about = {"code_version": code, "config_hash": config_hash(parsed)}
        data_folder = Path(os.environ.get("ALPHALOOP_DATA", "data"))
        with at_hand(parsed, data_folder) as local, atomic_path(outputs.raw) as folder:
            folder.mkdir()
            recording = SOURCES[parsed.source](local, data_folder, seed)
            read = [_written(day, folder, about) for day in recording.days]
            if not read:
                raise TicksError(
                    f"source {parsed.source} holds no events of ticks.symbols and ticks.sessions. Mend them."
                )
            recording.instruments.write(folder / INSTRUMENTS)
            if recording.truth:
                recording.truth().write(folder / TRUTH)
        for note in recording.notes:
            warn("ingest ticks", note)
        found = TickReport(source=parsed.source, days=read, notes=list(recording.notes))
        found.write(outputs.report)
    return found


def run_validate(
    raw: str | os.PathLike, outputs: ValidateOutputs, *, settings: str, code: str
) -> TickQuality:
    """Validate a folder of raw ticks, symbol-session by symbol-session.

    Raises
    ------
    ValidationFailed
        If a critical expectation was not met; then all is written but the ticks.
    """
    with stage("validate ticks"):
        parsed = Settings.model_validate_json(settings)
        about = {"code_version": code, "config_hash": config_hash(parsed)}
        work = Path(outputs.work).absolute()
        days = tick_days(raw)
        pieces = [piece(day, work / day.symbol / day.session, settings=settings, about=about) for day in days]
        engines.map(VALIDATE_DAY, pieces, memory_gib=NEED.most_gib(day.path for day in days))
        found = _quality(pieces, parsed)
        found.write(outputs.quality)
        stamped = {**about, "inputs": {"raw_ticks": days_sha256(days)}}
        set_aside = pl.concat([read_quarantine(one.folder) for one in pieces])
        write_table(set_aside.sort(QUARANTINE.key), outputs.quarantine, QUARANTINE, **stamped)
        write_quality_page(outputs.page, found)
        _require(found, outputs.page)
        _gather(raw, days, pieces, outputs.ticks)
        write_table(delay_table(outputs.ticks), outputs.delays, DELAYS, **stamped)
        shutil.rmtree(work)
        report("validate ticks", _summary(found))
    return found


def _written(day: RecordedDay, folder: Path, about: dict[str, str]) -> ReadDay:
    """Put the events of a symbol's session into the folder, faults and all; what they are."""
    _require_names(day)
    _require_times(day)
    _require_sums(day)
    write_day(day.ticks, folder, day.symbol, day.session, **about, table=RAW_TICKS)
    report("ingest ticks", f"{day.symbol} {day.session}: {len(day.ticks):,} rows")
    return _read(day)


def _require_names(day: RecordedDay) -> None:
    for name, of in ((day.symbol, "symbol"), (day.session, "session")):
        is_path = name.startswith(".") or name != Path(name).name
        is_pattern = any(character in "*?[]" for character in name)
        is_plain = name.isprintable() and name == name.strip() and len(name.encode()) <= LONGEST_NAME
        if not name or is_path or is_pattern or not is_plain:
            raise TicksError(
                f"{of} {name[:LONGEST_NAME]!r} can't be the name of a folder or file. Rename it in the"
                " source."
            )


def _require_times(day: RecordedDay) -> None:
    """TicksError where a session lies in no year of a market: its times are of another unit, or empty."""
    for at in (day.ticks["ingest_ts"].min(), day.ticks["ingest_ts"].max()):
        if not FIRST_TIME <= at < LAST_TIME:
            moment = datetime.fromtimestamp(at // 10**9, UTC)
            raise TicksError(
                f"{day.symbol} {day.session}: a message was collected at {moment:%Y-%m-%d %H:%M:%S} by its"
                f" time {at}, counted in nanoseconds since 1970. Times from 1990 to 2200 are expected: mend"
                " their unit in the source."
            )
    days = (day.ticks["ingest_ts"].max() - day.ticks["ingest_ts"].min()) / 86_400e9
    if days > MOST_DAYS:
        raise TicksError(
            f"{day.symbol} {day.session} lasts {days:,.0f} days from its first message to its last. A session"
            f" is a day or one recording, of {MOST_DAYS} days at most: part it in the source, or mend its"
            " times."
        )


def _require_sums(day: RecordedDay) -> None:
    """TicksError where the value of what was traded, in ticks times lots, is more than 64 bits hold."""
    price, quantity = pl.col("price").cast(pl.Float64), pl.col("quantity").cast(pl.Float64)
    traded = day.ticks.filter(pl.col("kind").is_in([TRADE, EXECUTE, HIDDEN])).with_columns(
        (price * quantity).abs().alias("value")
    )
    if traded["value"].sum() >= 2**62:
        most = traded.row(traded["value"].arg_max(), named=True)
        raise TicksError(
            f"{day.symbol} {day.session}: what was traded is worth {traded['value'].sum():.3g} ticks times"
            f" lots, more than 64 bits hold; the most has {most['quantity']:,} lots at"
            f" {most['price']:,} ticks, sequence {most['sequence']:,}. Mend it, or set"
            f" ticks.instruments.{day.symbol} to the exchange's tick_size and lot_size."
        )


def _read(day: RecordedDay) -> ReadDay:
    ticks = day.ticks
    counts = ticks["kind"].value_counts().sort("kind").rows()
    return ReadDay(
        symbol=day.symbol,
        session=day.session,
        rows=len(ticks),
        messages=int(ticks.select(pl.struct("message", "ingest_ts").rle_id().max() + 1).item()),
        first_ts=int(ticks["ingest_ts"].min()),
        last_ts=int(ticks["ingest_ts"].max()),
        kinds={str(kind): count for kind, count in counts},
    )


def _quality(pieces: Sequence[Piece], settings: Settings) -> TickQuality:
    days = [ExaminedDay.read(one.folder / QUALITY_FILE).found for one in pieces]
    judged = judge(days, settings.checks)
    failed = any(one.critical and not one.passed for one in judged)
    return TickQuality(
        verdict="failed" if failed else "passed",
        floor_ms=settings.clock.floor_ms,
        days=days,
        expectations=judged,
    )


def _require(found: TickQuality, page: str | os.PathLike) -> None:
    """Raise ValidationFailed where a critical expectation was not met."""
    failures = [one for one in found.expectations if one.critical and not one.passed]
    if not failures:
        return
    told = [_failure(one, found.days) for one in failures]
    raise ValidationFailed(
        "Validation of ticks stopped the run.\n" + "\n".join(told) + f"\nRead {keep_page(Path(page))}"
    )


def _failure(failed: Expectation, days: Sequence[DayQuality]) -> str:
    named = ", ".join(failed.days[:MOST_NAMED])
    more = f" and {len(failed.days) - MOST_NAMED} more" if len(failed.days) > MOST_NAMED else ""
    reasons: dict[str, int] = {}
    for day in days:
        for finding in day.findings if f"{day.symbol} {day.session}" in failed.days else ():
            if finding.severity == "quarantine":
                reasons[finding.reason] = reasons.get(finding.reason, 0) + finding.count
    most = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items(), key=lambda x: -x[1]))
    rows = f" Set aside: {most}." if most else ""
    return (
        f"{failed.check} ({failed.column}): expected that {failed.says}; found {failed.observed} in"
        f" {named}{more}.{rows} {failed.remedy}"
    )


def _gather(
    raw: str | os.PathLike, days: Sequence[TickDay], pieces: Sequence[Piece], ticks: str | os.PathLike
) -> None:
    """The validated ticks as one folder, with the instruments of the raw one."""
    with atomic_path(ticks) as folder:
        for day, one in zip(days, pieces, strict=True):
            place = folder / day.symbol / f"{day.session}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(one.folder / TICKS_FILE, place)
        read_instruments(raw).write(folder / INSTRUMENTS)


def _summary(found: TickQuality) -> str:
    rows = sum(day.rows_out for day in found.days)
    aside = sum(day.rows_quarantined for day in found.days)
    return f"{rows:,} rows of {len(found.days)} symbol-sessions, {aside:,} in quarantine"
