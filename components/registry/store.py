"""Reads and writes the MLflow registry.

Every judged model becomes an MLflow run, approved or not, so that the number of trials on a test window stays known.
An approved one becomes a version with the alias `challenger`, and `champion` when it takes the place. MLflow keeps no
history of aliases (mlflow issue 2169), so each change is a tag of the registered model, `champion.0001` and onwards.
"""

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, BundleError, atomic_write_text, verify_bundle
from components.registry.bundle import PREDICTIONS_FILE
from components.registry.config import Settings

CHAMPION, CHALLENGER = "champion", "challenger"


class RegistryError(AlphaloopError):
    """The registry can't be reached or does not hold what was asked for."""


def open_registry(settings: Settings, folder: Path):
    """An MLflow client on the configured server, or on SQLite and a folder inside `folder`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")


def read_champion(settings: Settings, name: str, folder: Path, target: Path) -> dict[str, Any]:
    """Write the present champion's `champion.json` and its out-of-sample predictions into `target`; returns the former.

    `{"version": null}` where there is no champion yet.
    """
    about: dict[str, Any] = {"version": None}
    if settings.tracking_uri or (folder / "mlflow.db").exists():
        client = open_registry(settings, folder)
        version = _champion(client, name)
        if version is not None:
            bundle = Path(_download(client, version))
            manifest = verify_bundle(bundle)
            if manifest["sha256"] != version.tags.get("bundle_sha256"):
                raise BundleError(f"Champion {name} version {version.version}: its bundle is not the one that was registered (SHA-256 differs). Register the model again.")
            about = {"version": int(version.version), "run_id": version.run_id, "bundle_sha256": manifest["sha256"], "inputs": manifest["inputs"], "horizon": manifest["horizon"]}
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / PREDICTIONS_FILE, target / "predictions.parquet")
    atomic_write_text(target / "champion.json", json.dumps(about, indent=1))
    return about


def register_model(
    settings: Settings,
    name: str,
    folder: Path,
    *,
    bundle: Path,
    verdict: Mapping[str, Any],
    metrics: Mapping[str, float],
    trial: Mapping[str, str],
) -> dict[str, Any]:
    """Record a judged model; an approved one becomes a version and, where the rules allow, champion.

    Parameters
    ----------
    bundle : folder with a manifest
    verdict : of the gates; `approved`, `beats_champion`, `reason`
    metrics : numbers for MLflow
    trial : tags that say what was scored: period, target, test_start, test_end (ISO, UTC)

    Returns
    -------
    JSON-able: `status` (registered, unchanged, rejected), `version`, `aliases`, `run_id`, `bundle_sha256`, `trials`,
    `champion_before`, `champion_after`, `reason`, `history`.
    """
    client = open_registry(settings, folder)
    manifest = verify_bundle(bundle)
    sha256 = manifest["sha256"]
    experiment = _experiment(client, settings, name, folder)
    before = _champion(client, name)
    run_id = _run_of(client, experiment, sha256)
    if run_id is None:
        run_id = _log_run(client, experiment, bundle, verdict, metrics, {**trial, "bundle_sha256": sha256, "verdict": "approved" if verdict["approved"] else "rejected"})
    version = _version_of(client, name, sha256)
    status = "unchanged" if version is not None else "rejected"
    reason = verdict["reason"]
    if verdict["approved"]:
        if version is None:
            version = _create_version(client, name, run_id, manifest)
            status = "registered"
        if before is None or before.version != version.version:
            client.set_registered_model_alias(name, CHALLENGER, version.version)
            if settings.promotion == "manual":
                reason = f"{reason}; registry.promotion is manual, so it waits as challenger"
            elif verdict["beats_champion"]:
                promote(client, name, version.version, why=reason, who="pipeline")
    after = _champion(client, name)
    aliases = list(client.get_model_version(name, version.version).aliases) if version else []
    return {
        "status": status,
        "name": name,
        "version": int(version.version) if version else None,
        "aliases": sorted(aliases),
        "run_id": run_id,
        "bundle_sha256": sha256,
        "trials": _trials(client, experiment, trial),
        "champion_before": int(before.version) if before else None,
        "champion_after": int(after.version) if after else None,
        "reason": reason,
        "history": champion_history(client, name),
        "tracking_uri": settings.tracking_uri or f"sqlite:///{folder / 'mlflow.db'}",
    }


def promote(client, name: str, version: str | int, *, why: str, who: str) -> None:
    """Make a version champion and write down who did it, when and why; the old champion loses the alias."""
    previous = _champion(client, name)
    entry = {
        "version": int(version),
        "previous": int(previous.version) if previous else None,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": who,
        "why": why[:2000],
    }
    client.set_registered_model_tag(name, f"champion.{len(champion_history(client, name)) + 1:04d}", json.dumps(entry))
    client.set_registered_model_alias(name, CHAMPION, str(version))
    challenger = _alias(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == str(version):
        client.delete_registered_model_alias(name, CHALLENGER)


def champion_history(client, name: str) -> list[dict[str, Any]]:
    """Every change of champion, oldest first: version, previous, when (UTC), who, why."""
    model = _or_none(lambda: client.get_registered_model(name))
    tags = model.tags if model else {}
    return [json.loads(tags[key]) for key in sorted(tags) if key.startswith("champion.")]


def _log_run(client, experiment: str, bundle: Path, verdict: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    run = client.create_run(experiment, tags=dict(tags), run_name=f"{tags['verdict']}-{tags['bundle_sha256'][:8]}")
    for key, value in metrics.items():
        client.log_metric(run.info.run_id, key, value)
    client.log_artifacts(run.info.run_id, str(bundle), "bundle")
    client.log_dict(run.info.run_id, dict(verdict), "verdict.json")
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def _create_version(client, name: str, run_id: str, manifest: Mapping[str, Any]):
    if _or_none(lambda: client.get_registered_model(name)) is None:
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/bundle"
    tags = {"bundle_sha256": manifest["sha256"], "schema": manifest["schema"], "period": manifest["period"], "horizon": str(manifest["horizon"]), "target": manifest["target"]}
    return client.create_model_version(name, source=source, run_id=run_id, tags=tags)


def _run_of(client, experiment: str, sha256: str) -> str | None:
    """A finished run that logged this very bundle."""
    runs = client.search_runs([experiment], filter_string=f"tags.bundle_sha256 = '{sha256}' and attributes.status = 'FINISHED'", max_results=1)
    return runs[0].info.run_id if runs else None


def _version_of(client, name: str, sha256: str):
    found = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get("bundle_sha256") == sha256]
    return found[0] if found else None


def _trials(client, experiment: str, trial: Mapping[str, str]) -> int:
    """Judged models, this one included, of the same period and target whose test windows overlap with this one's."""
    condition = f"tags.period = '{trial['period']}' and tags.target = '{trial['target']}'"
    found = [run.data.tags for run in client.search_runs([experiment], filter_string=condition, max_results=1000)]
    return sum(tags["test_start"] <= trial["test_end"] and trial["test_start"] <= tags["test_end"] for tags in found)


def _experiment(client, settings: Settings, name: str, folder: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    location = None if settings.tracking_uri else (folder / "artifacts").as_uri()
    return client.create_experiment(name, artifact_location=location)


def _champion(client, name: str):
    return _alias(client, name, CHAMPION)


def _alias(client, name: str, alias: str):
    return _or_none(lambda: client.get_model_version_by_alias(name, alias))


def _or_none(ask):
    """The registry's answer, or None where it says that there is no such thing; every other failure is raised."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise RegistryError(f"The registry did not answer: {error.message}. Check registry.tracking_uri and that the server runs.") from error


def _download(client, version) -> str:
    from mlflow.artifacts import download_artifacts

    return download_artifacts(artifact_uri=version.source, tracking_uri=client.tracking_uri)
