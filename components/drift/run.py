"""What the doors of drift do: sketch what a model learned from, and hold what was served against it."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    TRAINING_SET,
    of_task,
    read_catalog,
    read_stamp,
    read_table,
)
from components.contracts.documents.champion import ChampionRecord
from components.contracts.documents.drift import DriftReport
from components.contracts.documents.drift_reference import DriftReference
from components.contracts.parts import scan_table
from components.drift.config import Settings
from components.drift.detect import detect
from components.drift.early import too_early, write_early
from components.drift.reference import make_reference
from components.drift.report import write_reports
from components.drift.tables import read_current, require_made_from
from components.memory.need import MIB, Need
from components.progress import report, stage
from components.settings import config_hash
from components.timeline import Settings as TimelineSettings

# Some columns are held at a time: 246 and 369 MiB with 115,810 and 485,564 simulated rows of 146 columns.
NEED = Need("drift reference", base=208 * MIB, row=350, cell=0)

READ_OF_PREDICTIONS = ("timestamp", "symbol", "period", "horizon", "target", "expert", "score")


@dataclass(frozen=True)
class LearnedFrom:
    """The tables that a model learned from and what it predicted, with their stamps; and the task by which it
    is judged.
    """

    training_set: Path
    labels: Path
    predictions: Path
    catalog: Path
    target: str
    horizon: int


@dataclass(frozen=True)
class Served:
    """What was served, the champion that answered (champion.json with its reference beside it), and the
    labels that are known by now.
    """

    current: Path
    champion: Path
    labels: Path | None = None


def run_make_reference(
    inputs: LearnedFrom, reference: Path, *, settings: str, timeline: str, code: str
) -> DriftReference:
    """Write the reference of a model into the folder `reference`."""
    with stage("drift reference"):
        NEED.require(inputs.training_set)
        parsed = Settings.model_validate_json(settings)
        stamps = {"training_set": read_stamp(inputs.training_set), "labels": read_stamp(inputs.labels)}
        require_made_from(read_stamp(inputs.predictions), stamps)
        about = make_reference(
            scan_table(inputs.training_set, TRAINING_SET),
            scan_table(inputs.labels, LABELS),
            _predictions(inputs),
            read_catalog(inputs.catalog),
            parsed,
            TimelineSettings.model_validate_json(timeline),
            reference,
            stamp={"code_version": code, "config_hash": config_hash(parsed)},
        )
        size = f"{about.rows:,} rows of {about.bars:,} bars, {len(about.columns)} columns"
        report("drift reference", size)
    return about


def _predictions(inputs: LearnedFrom) -> pl.DataFrame:
    """What was predicted of the task; a table of many tasks and experts is not held as a whole."""
    table = scan_table(inputs.predictions, ALL_PREDICTIONS)
    task = (pl.col("target") == inputs.target) & (pl.col("horizon") == inputs.horizon)
    found = table.filter(task).select(*READ_OF_PREDICTIONS).collect()
    known = found if len(found) else table.select("target", "horizon").collect()
    return of_task(known, inputs.target, inputs.horizon)


def run_detect_drift(inputs: Served, drift: Path, *, settings: str, code: str) -> DriftReport:
    """Write the drift report and its pages into the folder `drift`; without pages where it is too early."""
    with stage("drift"):
        parsed = Settings.model_validate_json(settings)
        champion = ChampionRecord.find(inputs.champion / "champion.json")
        reference, stamp = inputs.champion / "reference", read_stamp(inputs.current)
        origin = {"source": stamp.table, "sha256": stamp.content_sha256}
        count = pl.scan_parquet(inputs.current).select(pl.len()).collect().item()
        found = too_early(champion, reference, count, **origin)
        if found:
            write_early(drift, found)
        else:
            rows = read_current(inputs.current)
            known = read_table(inputs.labels, LABELS) if inputs.labels else None
            found = detect(reference, rows, known, parsed, **origin, champion=champion)
            made_by = {"code_version": code, "config_hash": config_hash(parsed)}
            found = found.model_copy(update={"stamp": made_by})
            write_reports(drift, found, reference, rows, parsed)
        report("drift", f"{found.verdict}: {found.reason}")
    return found
