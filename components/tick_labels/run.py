"""What the door of the labels of ticks calls: the labels of every sample, symbol and horizon, refused where
they begin before an order could arrive or where too few moves pay.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import FACTORS, LABELS, read_stamp, read_table
from components.contracts.errors import ContractError
from components.contracts.merged import SessionRows, moment_blocks
from components.contracts.parts import scan_table, write_part, write_parts
from components.contracts.row_limit import refuse_too_many, table_rows
from components.contracts.tick_days import TickDay, read_instruments, tick_days
from components.contracts.tick_schemas import DELAYS
from components.memory.given_back import give_back
from components.progress import report, stage
from components.settings import config_hash, values_hash
from components.spread import engines
from components.spread.piece import Piece
from components.tick_labels.build import NS_A_MS, with_neutral_returns
from components.tick_labels.config import Settings
from components.tick_labels.day import COUNTS_FILE, LABEL_DAY, LABELS_FILE, NEED, Counts, total
from components.tick_labels.latency import entry_latency_ns
from components.tick_labels.moments import REASONS
from components.tick_labels.moves import moves_that_pay, require_moves


@dataclass(frozen=True)
class Inputs:
    """`ticks`: folder of validated ticks; `features`: FACTORS table, whose moments are labelled; `delays`:
    DELAYS table.
    """

    ticks: str | os.PathLike
    features: str | os.PathLike
    delays: str | os.PathLike


@dataclass(frozen=True)
class Outputs:
    """Where the LABELS table goes, and the work folder in which finished sessions stay for the next call."""

    labels: str | os.PathLike
    work: str | os.PathLike


def run(inputs: Inputs, outputs: Outputs, *, settings: str, code: str) -> None:
    """Label every sample of the features over every horizon.

    Raises
    ------
    ContractError
        If the labels begin before an order could arrive, if ticks are out of order, if no sample lies in a
        session, or if too few moves pay to learn from; nothing is written then.
    """
    with stage("tick labels"):
        parsed = Settings.model_validate_json(settings)
        scan_table(inputs.features, FACTORS)
        refuse_too_many(table_rows(inputs.features) * len(parsed.horizons), "The table of labels")
        days = tick_days(inputs.ticks)
        delays = read_table(inputs.delays, DELAYS)
        latency = {day.symbol: entry_latency_ns(delays, day.symbol, parsed) for day in days}
        work = Path(outputs.work).absolute()
        pieces = _pieces(days, inputs, latency, settings=settings, code=code, work=work)
        engines.map(LABEL_DAY, pieces, memory_gib=NEED.most_gib(day.path for day in days))
        counts = total(Counts.read(piece.folder / COUNTS_FILE) for piece in pieces)
        made = _made(days, pieces, inputs)
        _tell(counts, latency, parsed)
        require_moves(moves_that_pay(_paying(made, parsed.primary_horizon), latency), parsed)
        about = {"code_version": code, "config_hash": config_hash(parsed)}
        _merge(made, outputs.labels, work, made_from=inputs, about=about)
        shutil.rmtree(work)


def _pieces(
    days: Sequence[TickDay],
    inputs: Inputs,
    latency: Mapping[str, int],
    *,
    settings: str,
    code: str,
    work: Path,
) -> list[Piece]:
    """The symbol-sessions as pieces of work."""
    instruments, features = read_instruments(inputs.ticks).symbols, Path(inputs.features).absolute()
    made_from = read_stamp(features).content_sha256
    pieces = []
    for day in days:
        about = {
            "symbol": day.symbol,
            "session": day.session,
            "path": str(day.path.absolute()),
            "features": str(features),
            "instrument": instruments[day.symbol].model_dump(),
            "latency_ns": latency[day.symbol],
            "settings": settings,
        }
        contents = [made_from, read_stamp(day.path).content_sha256]
        key = values_hash({**about, "contents": contents, "code": code})
        pieces.append(Piece(key, work / day.symbol / day.session, about))
    return pieces


def _made(days: Sequence[TickDay], pieces: Sequence[Piece], inputs: Inputs) -> list[SessionRows]:
    """The labels of sessions that have any."""
    files = [SessionRows(day.symbol, one.folder / LABELS_FILE) for day, one in zip(days, pieces, strict=True)]
    made = [one for one in files if one.file.exists()]
    if not made:
        raise ContractError(
            f"No sample of {inputs.features} lies within a session of {inputs.ticks}. Make the features again"
            " from these ticks."
        )
    return made


def _merge(
    made: Sequence[SessionRows],
    target: str | os.PathLike,
    work: Path,
    *,
    made_from: Inputs,
    about: Mapping[str, str],
) -> None:
    """Write the labels of all sessions as one table, by way of files in `work`."""
    inputs = {name: read_stamp(getattr(made_from, name)).content_sha256 for name in ("features", "delays")}
    with tempfile.TemporaryDirectory(prefix="merged.", dir=work) as name:
        parts = []
        for number, rows in enumerate(moment_blocks(made)):
            labels = with_neutral_returns(rows)
            parts.append(write_part(labels, Path(name) / f"part_{number:05d}"))
            # Or they would stand beside the next ones.
            del rows, labels
            give_back()
        write_parts(parts, target, LABELS, **about, inputs=inputs)


def _paying(made: Sequence[SessionRows], horizon: int) -> pl.DataFrame:
    """The moves of a horizon that pay, by time within each symbol."""
    pays = (pl.col("horizon") == horizon) & (pl.col("trade_class") != 0)
    own = (pl.lit(one.symbol).alias("symbol") for one in made)
    found = (
        pl.scan_ipc(one.file).filter(pays).select(symbol, "timestamp", "label_end")
        for one, symbol in zip(made, own, strict=True)
    )
    return pl.concat(found).sort("symbol", "timestamp").collect()


def _tell(counts: Counts, latency: dict[str, int], settings: Settings) -> None:
    """Say what share of the labels pays at each horizon, how many of the primary are missing, and why."""
    shares = []
    for horizon in settings.horizons:
        known = counts.known.get(horizon, 0)
        pays = counts.pays.get(horizon, 0) / known if known else 0.0
        shares.append(f"{pays:.2%} over {horizon * settings.sample_ms:,} ms ({known:,})")
    report("tick labels", f"pay after costs, of labels: {', '.join(shares)}")
    slowest = max(latency.values()) / NS_A_MS
    missing = ", ".join(
        f"{counts.reasons[why]:,} {text}" for why, text in REASONS.items() if counts.reasons.get(why)
    )
    report(
        "tick labels",
        f"orders arrive within {slowest:.4g} ms; no label over {settings.primary_horizon_ms:,} ms:"
        f" {missing or 'none'}",
    )
