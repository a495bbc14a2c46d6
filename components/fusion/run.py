"""What the doors of fusion call: join the slow tables to a panel, draw the page on that, and choose the rows
that experts of a modality may learn from.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from components.contracts import (
    FUSED,
    LEARNABLE,
    PANEL,
    TRAINING_SET,
    atomic_write_text,
    map_table,
    read_catalog,
    read_stamp,
    read_table,
    require_json,
    write_table,
)
from components.fusion.config import Settings
from components.fusion.datasets import Dataset, learnable_rows
from components.fusion.errors import FusionError
from components.fusion.fuse import Fusion, fuse_panel
from components.fusion.page import write_fusion_page
from components.fusion.source_hash import slow_tables_sha256
from components.progress import report, stage, warn
from components.settings import config_hash


@dataclass(frozen=True)
class FuseInputs:
    """`panel`: a PANEL table; `source`: the content hash that the slow tables had when the run began, empty
    where nobody hashed them. They lie in the folder that ALPHALOOP_DATA names, or in S3.
    """

    panel: str | os.PathLike
    source: str = ""


@dataclass(frozen=True)
class FuseOutputs:
    """Where FUSED and the report (JSON) go."""

    fused: str | os.PathLike
    report: str | os.PathLike


@dataclass(frozen=True)
class LearnableInputs:
    """`training_set`: a TRAINING_SET table, and the `catalog` of its factors."""

    training_set: str | os.PathLike
    catalog: str | os.PathLike


@dataclass(frozen=True)
class LearnableOutputs:
    """Where LEARNABLE and the report (JSON) go."""

    learnable: str | os.PathLike
    report: str | os.PathLike


def run_source(*, settings: str) -> str:
    """The content hash of the slow tables where they lie."""
    with stage("source of slow tables"):
        found = slow_tables_sha256(Settings.model_validate_json(settings), _data_folder())
        report("source of slow tables", f"slow tables {found[:12]}")
    return found


def run_fuse(inputs: FuseInputs, outputs: FuseOutputs, *, settings: str, code: str) -> Fusion:
    """Join the slow tables as known at each bar; a sample is joined again row by row before anything is
    written.

    Raises
    ------
    FusionError
        As `fuse_panel`, and where the slow tables are not those that the run began with.
    """
    with stage("fusion"):
        parsed = Settings.model_validate_json(settings)
        found = fuse_panel(read_table(inputs.panel, PANEL), parsed, _data_folder())
        if inputs.source and inputs.source != found.source_sha256:
            raise FusionError(
                f"The slow tables changed since this run began: they were {inputs.source[:12]} then and are"
                f" {found.source_sha256[:12]} now. Run again when nobody writes to them."
            )
        origin = {
            "panel": read_stamp(inputs.panel).content_sha256,
            "slow_tables": found.source_sha256,
        }
        stamp = {"code_version": code, "config_hash": config_hash(parsed), "inputs": origin}
        write_table(found.fused, outputs.fused, FUSED, **stamp)
        _write_report(outputs.report, found.report)
        for note in found.notes:
            warn("fusion", note)
        report(
            "fusion",
            f"{len(found.fused):,} rows, {found.fused.width - 2} slow columns of {len(parsed.tables)} tables,"
            f" {found.report['checks']['values_compared']:,} values checked by hand",
        )
    return found


def run_draw_fusion(report: str | os.PathLike, page: str | os.PathLike) -> None:
    """Draw the page on a fusion from its report (JSON)."""
    with stage("fusion page"):
        write_fusion_page(page, require_json(report))


def run_learnable(
    inputs: LearnableInputs, outputs: LearnableOutputs, *, settings: str, modality: str, code: str
) -> Dataset:
    """Choose the rows that experts of a modality may learn from."""
    with stage(f"rows for {modality} experts"):
        parsed = Settings.model_validate_json(settings)
        found = learnable_rows(
            map_table(inputs.training_set, TRAINING_SET),
            read_catalog(inputs.catalog),
            getattr(parsed.datasets, modality),
            modality,
        )
        origin = {"training_set": read_stamp(inputs.training_set).content_sha256}
        stamp = {"code_version": code, "config_hash": config_hash(parsed), "inputs": origin}
        write_table(found.learnable, outputs.learnable, LEARNABLE, **stamp)
        _write_report(outputs.report, found.report)
        report(
            f"rows for {modality} experts",
            f"{found.report['kept']:,} of {found.report['rows']:,} rows, {len(found.report['columns'])}"
            " inputs",
        )
    return found


def _write_report(path: str | os.PathLike, said: dict) -> None:
    atomic_write_text(path, json.dumps(said, indent=1, allow_nan=False))


def _data_folder() -> Path:
    return Path(os.environ.get("ALPHALOOP_DATA", "data"))
