"""What the doors of tick features call: the features of all symbols and sessions, and their leak audit."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from components.contracts import VOLATILITY_COLUMN, read_stamp, write_catalog
from components.contracts.merged import SessionRows
from components.contracts.tick_days import TickDay, days_sha256, tick_days
from components.progress import report, stage, warn
from components.settings import config_hash, values_hash
from components.spread import engines
from components.spread.piece import Piece
from components.tick_features.catalog import catalog
from components.tick_features.config import Settings
from components.tick_features.day import MAKE_DAY, SAMPLES_FILE, Span
from components.tick_features.errors import TickFeatureError
from components.tick_features.library import VOLATILITY_SAMPLES
from components.tick_features.merged import merge_days

# What a session of a symbol takes while it is worked on, however long it is; the libraries for the most part.
PIECE_GIB = 0.6


@dataclass(frozen=True)
class Inputs:
    """`ticks`: folder of validated ticks."""

    ticks: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the FACTORS table and its catalog go, and the work folder in which finished sessions stay for the
    next call.
    """

    features: str | os.PathLike
    catalog: str | os.PathLike
    work: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> None:
    """Sample the features of every symbol and session; a column without any value is no input of models.

    Raises
    ------
    ContractError, TickFeatureError
        If a file is not what its stamp says, ticks are out of order, two sessions of a symbol overlap, or
        there is no sample.
    """
    with stage("tick features"):
        parsed = Settings.model_validate_json(settings)
        days = tick_days(inputs.ticks)
        spans = session_spans(days)
        work = Path(outputs.work).absolute()
        made = _make_days(days, spans, work, parsed, code)
        with tempfile.TemporaryDirectory(prefix="merged.", dir=work) as name:
            known = merge_days(
                made,
                outputs.features,
                Path(name),
                code_version=code,
                config_hash=config_hash(parsed),
                inputs={"ticks": days_sha256(days)},
            )
        _write_catalog(outputs.catalog, known, parsed)
        shutil.rmtree(work)
        report(
            "tick features",
            f"{known['timestamp']:,} samples of {len(days)} sessions in {len(catalog(parsed))} columns;"
            f" {known[VOLATILITY_COLUMN]:,} lie {VOLATILITY_SAMPLES} samples or more behind a whole book",
        )


def session_spans(days: Sequence[TickDay]) -> dict[str, Span]:
    """From the first message to the last of each session, of all its symbols."""
    ends = {day: _ends(day) for day in days}
    return {
        session: Span(
            min(ends[day][0] for day in days if day.session == session),
            max(ends[day][1] for day in days if day.session == session),
        )
        for session in {day.session for day in days}
    }


def _ends(day: TickDay) -> tuple[int, int]:
    times = pl.scan_parquet(day.path).select(
        pl.col("ingest_ts").min().alias("first"), pl.col("ingest_ts").max().alias("last")
    )
    first, last = times.collect(engine="streaming").row(0)
    if first is None:
        raise TickFeatureError(f"{day.path} holds no ticks. Take the file out, or validate the ticks again.")
    return first, last


def _make_days(
    days: Sequence[TickDay], spans: Mapping[str, Span], folder: Path, settings: Settings, code: str
) -> list[SessionRows]:
    """The samples of each session, by whatever engine the run has."""
    text, pieces, made = settings.model_dump_json(), [], []
    for day in days:
        span = spans[day.session]
        about = {"path": str(Path(day.path).absolute()), "first": span.first, "last": span.last}
        content = read_stamp(day.path).content_sha256
        key = values_hash({**about, "content": content, "settings": text, "code": code})
        piece = Piece(key, folder / day.symbol / day.session, {**about, "settings": text})
        pieces.append(piece)
        made.append(SessionRows(day.symbol, piece.folder / SAMPLES_FILE))
    engines.map(MAKE_DAY, pieces, memory_gib=PIECE_GIB)
    return made


def _write_catalog(path: str | os.PathLike, known: Mapping[str, int], settings: Settings) -> None:
    """The catalog; a source that tells few levels leaves columns without a value, which are no inputs."""
    entries = catalog(settings)
    empty = [entry.column for entry in entries if entry.role == "input" and not known[entry.column]]
    write_catalog([replace(entry, role="raw") if entry.column in empty else entry for entry in entries], path)
    if empty:
        warn("tick features", f"no value at all in {', '.join(empty)}: these are no inputs of models")
