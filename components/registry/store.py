"""Reads and writes the MLflow registry.

Every judged model becomes an MLflow run, approved or not, so that the number of trials on a test window stays
known. An approved one becomes a version with the alias `challenger`, and `champion` when it takes the place.
MLflow keeps no history of aliases (mlflow issue 2169), so each change is a tag of the registered model,
`champion.<moment>.<random>`; older registries hold `champion.0001` and onwards.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import AlphaloopError, BundleError, atomic_write_text, verify_bundle
from components.contracts.bundle import MANIFEST
from components.registry.bundle import PREDICTIONS_FILE, REFERENCE
from components.registry.config import Settings
from components.registry.newest import score_newest, trained_until

CHAMPION, CHALLENGER = "champion", "challenger"
_HISTORY = "champion."
_MANIFEST_TAG = "manifest_sha256"
_LONGEST_REASON = 2000
_LOOKS = 5


class RegistryError(AlphaloopError):
    """The registry can't be reached or does not hold what was asked for."""


def open_registry(settings: Settings, folder: Path):
    """An MLflow client on the configured server, or on SQLite and a folder inside `folder`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(tracking_uri=settings.tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")
    except (MlflowException, SQLAlchemyError) as error:
        place = (
            "The database of registry.tracking_uri" if settings.tracking_uri else f"{folder / 'mlflow.db'}"
        )
        raise RegistryError(
            f"{place} can't be opened as a registry ({type(error).__name__}: {_short(error)}). Bring it back"
            " from a copy, or correct registry.tracking_uri."
        ) from error


def open_existing(settings: Settings, folder: Path):
    """As `open_registry`, for those who only read or promote: refuses a run folder in which nothing was ever
    registered.
    """
    if not settings.tracking_uri and not (folder / "mlflow.db").is_file():
        raise RegistryError(
            f"There is no registry in {folder} (mlflow.db is missing). Run `alphaloop run` first, or set"
            " registry.tracking_uri to your MLflow server."
        )
    # Somebody waits for the answer: MLflow would try a server that is gone for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return open_registry(settings, folder)


def read_champion(
    settings: Settings,
    name: str,
    folder: Path,
    target: Path,
    *,
    rows: pl.DataFrame | None = None,
    schema: str = "",
) -> dict[str, Any]:
    """Write the present champion's `champion.json`, out-of-sample predictions and drift `reference/` into
    `target`; returns the first.

    Parameters
    ----------
    rows : TRAINING_SET table; its bars after the champion's training are scored with the bundle and join the
        predictions
    schema : feature schema of `rows`

    Returns
    -------
    `{"version": null}` where there is no champion yet, else its stamps, `known_until` (the newest moment that
    it has learned from), `train_window`, `history` of champions and `newest` (see `score_newest`; None
    without `rows`).
    """
    about: dict[str, Any] = {"version": None}
    if settings.tracking_uri or (folder / "mlflow.db").exists():
        client = open_registry(settings, folder)
        version = _champion(client, name)
        if version is not None:
            bundle = Path(_download(client, version))
            manifest = _verified(bundle, name, version)
            about = {
                "version": int(version.version),
                "run_id": version.run_id,
                "bundle_sha256": manifest["sha256"],
                "inputs": manifest["inputs"],
                "horizon": manifest["horizon"],
            }
            about |= {
                "known_until": trained_until(bundle),
                "train_window": manifest.get("train_window", ""),
                "history": champion_history(client, name),
                "newest": None,
            }
            predictions = pl.read_parquet(bundle / PREDICTIONS_FILE)
            if rows is not None:
                predictions, about["newest"] = score_newest(bundle, manifest, predictions, rows, schema)
            target.mkdir(parents=True, exist_ok=True)
            predictions.write_parquet(target / "predictions.parquet", compression="zstd")
            if (bundle / REFERENCE).is_dir():
                shutil.copytree(bundle / REFERENCE, target / REFERENCE, dirs_exist_ok=True)
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
    JSON-able: `status` (registered, unchanged, rejected), `version`, `aliases`, `run_id`, `bundle_sha256`,
    `trials`, `champion_before`, `champion_after`, `reason`, `history`.
    """
    client = open_registry(settings, folder)
    manifest = verify_bundle(bundle)
    sha256 = manifest["sha256"]
    experiment = _experiment(client, settings, name, folder)
    before = _champion(client, name)
    run_id = _run_of(client, experiment, sha256)
    if run_id is None:
        run_id = _log_run(
            client,
            experiment,
            bundle,
            verdict,
            metrics,
            {**trial, "bundle_sha256": sha256, "verdict": "approved" if verdict["approved"] else "rejected"},
        )
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
            elif verdict["beats_champion"] and int(version.version) in _rolled_back(client, name):
                reason = (
                    f"{reason}; version {version.version} was rolled back before, so it takes the place only"
                    f" by `alphaloop promote {version.version} --reason ...`"
                )
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
        "tracking_uri": without_secrets(settings.tracking_uri) or f"sqlite:///{folder / 'mlflow.db'}",
    }


def promote(client, name: str, version: str | int, *, why: str, who: str, rollback: bool = False) -> None:
    """Make a version champion and write down who did it, when and why; the old champion loses the alias.

    The entry in the history is made before the alias moves. Of two promotions at the same time both are in
    the history, and the alias ends on the later one.

    Raises
    ------
    RegistryError
        If the version does not exist or is champion already, or the reason is empty.
    BundleError
        If the version's bundle is missing, incomplete or was changed.
    """
    why = _reason(why)
    found = _existing_version(client, name, version)
    previous = _champion(client, name)
    if previous is not None and str(previous.version) == str(found.version):
        raise RegistryError(
            f"Version {found.version} of {name} is champion already. Nothing was changed; `alphaloop"
            " champions` shows since when and why."
        )
    _check_bundle(client, name, found)
    moment = datetime.now(UTC)
    entry = {
        "version": int(found.version),
        "previous": int(previous.version) if previous else None,
        "when": moment.isoformat(timespec="seconds"),
        "who": who,
        "why": why[:_LONGEST_REASON],
        "kind": "rollback" if rollback else "promotion",
    }
    client.set_registered_model_tag(
        name, f"{_HISTORY}{moment:%Y%m%dT%H%M%S%f}Z.{secrets.token_hex(4)}", json.dumps(entry)
    )
    _follow_history(client, name)
    challenger = _alias(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == str(found.version):
        client.delete_registered_model_alias(name, CHALLENGER)


def rollback(client, name: str, *, why: str, who: str) -> int:
    """Make the version champion again that was champion before the present one; returns its number.

    Rolling back twice goes back two promotions, not forward again.

    Raises
    ------
    RegistryError
        If there is no champion, or none before it, or the reason is empty.
    BundleError
        If the earlier version's bundle is missing, incomplete or was changed.
    """
    present = _champion(client, name)
    if present is None:
        raise RegistryError(
            f"{name} has no champion, so there is nothing to roll back. `alphaloop champions` shows the"
            " history."
        )
    version = _before(champion_history(client, name), int(present.version))
    if version is None:
        raise RegistryError(
            f"No version was champion of {name} before version {present.version}, so there is nothing to roll"
            " back to. Promote another one with `alphaloop promote VERSION --reason ...`."
        )
    promote(client, name, version, why=why, who=who, rollback=True)
    return version


def champion_history(client, name: str) -> list[dict[str, Any]]:
    """Every change of champion, oldest first: version, previous, when (UTC), who, why, and kind (promotion,
    rollback; not in old entries).
    """
    model = _or_none(lambda: client.get_registered_model(name))
    tags = model.tags if model else {}
    entries = [(key, json.loads(value)) for key, value in tags.items() if key.startswith(_HISTORY)]
    return [
        entry
        for key, entry in sorted(entries, key=lambda item: (datetime.fromisoformat(item[1]["when"]), item[0]))
    ]


def present_champion(client, name: str) -> dict[str, Any] | None:
    """Who is champion by the registry, None where nobody is: name, version, run_id, bundle_sha256, schema,
    since, who, why.

    `since`, `who` and `why` are None where the alias was moved by other means than `promote`.
    """
    version = _champion(client, name)
    if version is None:
        return None
    last = next(iter(reversed(champion_history(client, name))), None)
    written = last if last and str(last["version"]) == str(version.version) else {}
    return {
        "name": name,
        "version": int(version.version),
        "run_id": version.run_id,
        "bundle_sha256": version.tags.get("bundle_sha256"),
        "schema": version.tags.get("schema"),
        "since": written.get("when"),
        "who": written.get("who"),
        "why": written.get("why"),
    }


def fetch_bundle(client, name: str, version: int, target: Path) -> dict[str, Any]:
    """Copy a version's bundle to the new folder `target` and return its manifest after every file was checked
    against what was registered.
    """
    found = _existing_version(client, name, version)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        bundle = Path(_download(client, found, Path(scratch)))
        manifest = _verified(bundle, name, found)
        os.replace(bundle, target)
    return manifest


def read_verdict(client, run_id: str) -> dict[str, Any] | None:
    """What the gates said of the model of a run; None where the run holds no readable verdict."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            value = json.loads(
                Path(client.download_artifacts(run_id, "verdict.json", scratch)).read_text(encoding="utf-8")
            )
        except (MlflowException, OSError, ValueError):
            return None
    return value if isinstance(value, dict) else None


def _reason(why: str) -> str:
    if not why.strip():
        raise RegistryError(
            "The reason is empty. Say in a few words why, for example --reason 'drift in volatility, reviewed"
            " by hand'; it is kept with the model."
        )
    return why.strip()


def _existing_version(client, name: str, version: str | int):
    found = _or_none(lambda: client.get_model_version(name, str(version)))
    if found is None:
        known = sorted(
            int(v.version) for v in _or_none(lambda: client.search_model_versions(f"name = '{name}'")) or []
        )
        there = f"versions {', '.join(map(str, known))}" if known else "no version at all"
        raise RegistryError(
            f"{name} has no version {version} in the registry; it has {there}. Give one of these, or register"
            " a model with `alphaloop run`."
        )
    return found


def _check_bundle(client, name: str, version) -> None:
    """Refuse a version whose bundle can't be fetched whole."""
    with tempfile.TemporaryDirectory(prefix="alphaloop-bundle-") as scratch:
        _verified(Path(_download(client, version, Path(scratch))), name, version)


def _verified(bundle: Path, name: str, version) -> dict[str, Any]:
    manifest = verify_bundle(bundle)
    if manifest["sha256"] != version.tags.get("bundle_sha256"):
        raise BundleError(
            f"{name} version {version.version}: its bundle is not the one that was registered (SHA-256"
            " differs). Register the model again."
        )
    # The bundle's SHA-256 covers its files; schema, period and the book's settings stand in the manifest
    # itself. Versions of before this tag have none.
    if version.tags.get(_MANIFEST_TAG, _manifest_sha256(manifest)) != _manifest_sha256(manifest):
        raise BundleError(
            f"{name} version {version.version}: manifest.json was changed after the model was registered"
            " (SHA-256 differs). Register the model again."
        )
    return manifest


def verify_registered(client, name: str, version: int | str, bundle: Path) -> None:
    """Refuse a copy of a version's bundle that is not, file by file and manifest included, what was
    registered; see `BundleError`.
    """
    _verified(bundle, name, client.get_model_version(name, str(version)))


def _rolled_back(client, name: str) -> set[int]:
    """Versions that someone took out of the champion's place: training the same model again must not bring
    them back.
    """
    return {entry["previous"] for entry in champion_history(client, name) if entry.get("kind") == "rollback"}


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(manifest), sort_keys=True).encode()).hexdigest()


def _short(error: Exception) -> str:
    return without_secrets(str(error).strip().splitlines()[0])[:200]


def without_secrets(text: str) -> str:
    """The text without user and password of the addresses in it:

    MLflow quotes registry.tracking_uri in what it says.
    """
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def _follow_history(client, name: str) -> None:
    """Point the alias at the history's newest entry, and look again: somebody else may promote at this very
    moment.
    """
    for _ in range(_LOOKS):
        newest = str(champion_history(client, name)[-1]["version"])
        present = _champion(client, name)
        if present is not None and str(present.version) == newest:
            return
        client.set_registered_model_alias(name, CHAMPION, newest)


def _before(history: list[dict[str, Any]], present: int) -> int | None:
    """The champion before `present`: the one that its newest promotion replaced; a rollback's own entry does
    not count.
    """
    for entry in reversed(history):
        if entry["version"] == present and entry.get("kind", "promotion") == "promotion":
            return entry["previous"]
    earlier = [entry["version"] for entry in history if entry["version"] != present]
    return earlier[-1] if earlier else None


def _log_run(
    client,
    experiment: str,
    bundle: Path,
    verdict: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    run = client.create_run(
        experiment, tags=dict(tags), run_name=f"{tags['verdict']}-{tags['bundle_sha256'][:8]}"
    )
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
    # A run of the same files may have been recorded before, with another manifest: what is pinned is what
    # lies there.
    with tempfile.TemporaryDirectory() as scratch:
        logged = json.loads(
            Path(client.download_artifacts(run_id, f"bundle/{MANIFEST}", scratch)).read_text(encoding="utf-8")
        )
    tags = {
        "bundle_sha256": manifest["sha256"],
        "schema": manifest["schema"],
        "period": manifest["period"],
        "horizon": str(manifest["horizon"]),
        "target": manifest["target"],
    }
    tags[_MANIFEST_TAG] = _manifest_sha256(logged)
    return client.create_model_version(name, source=source, run_id=run_id, tags=tags)


def _run_of(client, experiment: str, sha256: str) -> str | None:
    """A finished run that logged this very bundle."""
    runs = client.search_runs(
        [experiment],
        filter_string=f"tags.bundle_sha256 = '{sha256}' and attributes.status = 'FINISHED'",
        max_results=1,
    )
    return runs[0].info.run_id if runs else None


def _version_of(client, name: str, sha256: str):
    found = [
        v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get("bundle_sha256") == sha256
    ]
    return found[0] if found else None


def _trials(client, experiment: str, trial: Mapping[str, str]) -> int:
    """Judged models, this one included, of the same period and target whose test windows overlap with this
    one's.
    """
    condition = f"tags.period = '{trial['period']}' and tags.target = '{trial['target']}'"
    found = [
        run.data.tags for run in client.search_runs([experiment], filter_string=condition, max_results=1000)
    ]
    return sum(
        tags["test_start"] <= trial["test_end"] and trial["test_start"] <= tags["test_end"] for tags in found
    )


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
    """The registry's answer, or None where it says that there is no such thing; every other failure is
    raised.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise RegistryError(
            f"The registry did not answer: {without_secrets(error.message)}. Check registry.tracking_uri and"
            " that the server runs."
        ) from error


def _download(client, version, target: Path | None = None) -> str:
    """Local folder of a version's bundle: a copy below `target`, or without one the artifact itself where it
    is a local folder.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return download_artifacts(
            artifact_uri=version.source,
            tracking_uri=client.tracking_uri,
            dst_path=str(target) if target else None,
        )
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"{version.name} version {version.version}: its bundle can't be fetched from {version.source}"
            f" ({error}). Register the model again, or bring the files back."
        ) from error
