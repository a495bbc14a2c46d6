"""Puts the model bundle together: fitted experts, stacker, catalog, feature service, and what the model
predicted out of sample.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import of_task, read_stamp, require_json, tasks_in, write_manifest
from components.credentials import require_no_credential
from components.registry.mlmodel import write_mlmodel
from components.scoring.form import SERVED_FORMAT

PREDICTIONS_FILE, REFERENCE = "out_of_sample.parquet", "reference"


def build_bundle(
    folder: Path,
    *,
    experts: Mapping[str, Path],
    stacker: Path,
    catalog: Path,
    feature_registry: Path,
    predictions: Path,
    task: tuple[str, int],
    config: Mapping[str, Any],
    code: str,
    reference: Path | None = None,
) -> dict[str, Any]:
    """Fill `folder` with the bundle and return its manifest.

    Parameters
    ----------
    experts : folder of the fitted model of each expert; those that the stack gives no weight are kept for
        warm starts
    predictions : ALL_PREDICTIONS file; the stack's rows of the judged task go into the bundle, so that a
        later candidate can be compared with what this model said before it could know
    task : the judged target and horizon
    reference : folder with the drift reference of the training window
    """
    for name, source in experts.items():
        shutil.copytree(source, folder / "experts" / name)
    shutil.copytree(stacker, folder / "stacker")
    if reference is not None:
        shutil.copytree(reference, folder / REFERENCE)
    shutil.copyfile(catalog, folder / "catalog.json")
    shutil.copyfile(feature_registry, folder / "features.json")
    said = pl.scan_parquet(predictions).filter(pl.col("expert") == "stack").collect()
    stack = of_task(said, *task, source=str(predictions))
    stack.write_parquet(folder / PREDICTIONS_FILE, compression="zstd")
    published = require_json(feature_registry)
    about = {
        "schema": published.get("schema", ""),
        "bars_per_year": published.get("bars_per_year"),
        "served_format": SERVED_FORMAT,
        "train_window": _train_window(folder / "experts"),
        "experts": sorted(experts),
        "period": stack["period"][0],
        "horizon": stack["horizon"][0],
        "target": stack["target"][0],
        "tasks": [{"target": target, "horizon": horizon} for target, horizon in _tasks(said, task)],
        "inputs": dict(read_stamp(predictions).inputs),
        "code_version": code,
        "config": dict(config),
    }
    require_no_credential(about, "The manifest of the bundle")
    write_manifest(folder, about)
    if write_mlmodel(folder):
        write_manifest(folder, about)
    return require_json(folder / "manifest.json")


def _tasks(said: pl.DataFrame, judged: tuple[str, int]) -> list[tuple[str, int]]:
    """The (target, horizon) that the bundle answers, the judged one first."""
    return [judged, *(task for task in tasks_in(said) if task != judged)]


def _train_window(experts: Path) -> str:
    """From the first day to the last that any of the experts learned from, `YYYY-MM-DD..YYYY-MM-DD`; empty
    where none says so.
    """
    manifests = (require_json(path) for path in experts.glob("*/manifest.json"))
    days = [manifest["train_window"].split("..") for manifest in manifests if manifest.get("train_window")]
    return f"{min(first for first, _ in days)}..{max(last for _, last in days)}" if days else ""
