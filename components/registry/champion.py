"""Brings the champion out of the registry: its record, its out-of-sample predictions and its reference."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from components.contracts.documents.champion import ChampionRecord, NoChampion
from components.registry.aliases import champion_history, champion_of
from components.registry.bundle import PREDICTIONS_FILE, REFERENCE
from components.registry.client import open_registry
from components.registry.config import Settings
from components.registry.local import DATABASE
from components.registry.newest import score_newest, trained_until
from components.registry.versions import download, verified

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RECORD = "champion.json"


def fetch_champion(
    settings: Settings,
    name: str,
    folder: Path,
    target: Path,
    *,
    rows: pl.DataFrame | None = None,
    schema: str = "",
) -> ChampionRecord | None:
    """Write the present champion's `champion.json`, out-of-sample predictions and drift `reference/` into
    `target`; returns the first, None where there is no champion yet.

    Parameters
    ----------
    rows : TRAINING_SET table; its bars after the champion's training are scored with the bundle and join the
        predictions
    schema : feature schema of `rows`

    Raises
    ------
    RegistryError
        If the registry does not answer.
    BundleError
        If the champion's bundle is missing, incomplete or was changed.
    """
    if settings.tracking_uri or (folder / DATABASE).exists():
        client = open_registry(settings, folder)
        version = champion_of(client, name)
        if version is not None:
            record = _unpack(client, name, version, target, rows, schema)
            record.write(target / RECORD)
            return record
    NoChampion().write(target / RECORD)
    return None


def _unpack(
    client: "MlflowClient",
    name: str,
    version: "ModelVersion",
    target: Path,
    rows: pl.DataFrame | None,
    schema: str,
) -> ChampionRecord:
    bundle = Path(download(client, version))
    manifest = verified(bundle, name, version)
    predictions, newest = pl.read_parquet(bundle / PREDICTIONS_FILE), None
    if rows is not None:
        predictions, newest = score_newest(bundle, manifest, predictions, rows, schema)
    target.mkdir(parents=True, exist_ok=True)
    predictions.write_parquet(target / "predictions.parquet", compression="zstd")
    if (bundle / REFERENCE).is_dir():
        shutil.copytree(bundle / REFERENCE, target / REFERENCE, dirs_exist_ok=True)
    return ChampionRecord(
        version=int(version.version),
        run_id=version.run_id,
        bundle_sha256=manifest["sha256"],
        inputs=manifest["inputs"],
        horizon=manifest["horizon"],
        known_until=trained_until(bundle),
        train_window=manifest.get("train_window", ""),
        history=champion_history(client, name),
        newest=newest,
    )
