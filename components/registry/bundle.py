"""Puts the model bundle together: fitted experts, stacker, catalog, feature service, and what the model predicted out of sample."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import read_stamp, write_manifest

PREDICTIONS_FILE = "out_of_sample.parquet"


def build_bundle(
    folder: Path,
    *,
    experts: Mapping[str, Path],
    stacker: Path,
    catalog: Path,
    feature_registry: Path,
    predictions: Path,
    config: Mapping[str, Any],
    code: str,
) -> dict[str, Any]:
    """Fill `folder` with the bundle and return its manifest.

    Parameters
    ----------
    experts : folder of the served model of each expert that the stack uses
    predictions : ALL_PREDICTIONS file; the stack's rows go into the bundle, so that a later candidate can be compared
        with what this model said before it could know
    """
    for name, source in experts.items():
        shutil.copytree(source, folder / "experts" / name)
    shutil.copytree(stacker, folder / "stacker")
    shutil.copyfile(catalog, folder / "catalog.json")
    shutil.copyfile(feature_registry, folder / "features.json")
    stack = pl.scan_parquet(predictions).filter(pl.col("expert") == "stack").collect()
    stack.write_parquet(folder / PREDICTIONS_FILE, compression="zstd")
    about = {
        "schema": json.loads(feature_registry.read_text(encoding="utf-8")).get("schema", ""),
        "experts": sorted(experts),
        "period": stack["period"][0],
        "horizon": stack["horizon"][0],
        "target": stack["target"][0],
        "inputs": dict(read_stamp(predictions).inputs),
        "code_version": code,
        "config": dict(config),
    }
    write_manifest(folder, about)
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
