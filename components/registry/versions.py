"""Versions of a registered model and their bundles: found, fetched, checked against what was registered."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import BundleError, require_json, verify_bundle
from components.contracts.bundle import MANIFEST
from components.registry.client import RegistryError, every_page, found_or_none
from components.registry.local import BUNDLE, own_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_MANIFEST_TAG = "manifest_sha256"


def existing_version(client: "MlflowClient", name: str, version: str | int) -> "ModelVersion":
    """The version, as MLflow describes it; RegistryError, which names those that there are, otherwise."""
    found = found_or_none(lambda: client.get_model_version(name, str(version)))
    if found is None:
        known = sorted(int(one.version) for one in _all_versions(client, name))
        there = f"versions {', '.join(map(str, known))}" if known else "no version at all"
        raise RegistryError(
            f"{name} has no version {version} in the registry; it has {there}. Give one of these, or register"
            " a model with `alphaloop run`."
        )
    return found


def version_of(client: "MlflowClient", name: str, sha256: str) -> "ModelVersion | None":
    """The version of this very bundle, where it was registered before."""
    same = (one for one in _all_versions(client, name) if one.tags.get("bundle_sha256") == sha256)
    return next(same, None)


def create_version(
    client: "MlflowClient", name: str, run_id: str, manifest: Mapping[str, Any]
) -> "ModelVersion":
    """Make the bundle that a run has logged a version of the model, which is made where there is none yet."""
    if found_or_none(lambda: client.get_registered_model(name)) is None:
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{BUNDLE}"
    # A run of the same files may have been recorded before, with another manifest: what is pinned is what
    # lies there.
    with tempfile.TemporaryDirectory() as scratch:
        logged = require_json(client.download_artifacts(run_id, f"{BUNDLE}/{MANIFEST}", scratch))
    tags = {
        "bundle_sha256": manifest["sha256"],
        "schema": manifest["schema"],
        "period": manifest["period"],
        "horizon": str(manifest["horizon"]),
        "target": manifest["target"],
    }
    tags[_MANIFEST_TAG] = _manifest_sha256(logged)
    return client.create_model_version(name, source=source, run_id=run_id, tags=tags)


def fetch_bundle(client: "MlflowClient", name: str, version: int, target: Path) -> dict[str, Any]:
    """Copy a version's bundle to the new folder `target` and return its manifest after every file was checked
    against what was registered.
    """
    found = existing_version(client, name, version)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        bundle = Path(download(client, found, Path(scratch)))
        manifest = verified(bundle, name, found)
        os.replace(bundle, target)
    return manifest


def verify_registered(client: "MlflowClient", name: str, version: int | str, bundle: Path) -> None:
    """Refuse a copy of a version's bundle that is not, file by file and manifest included, what was
    registered; see `BundleError`.
    """
    verified(bundle, name, client.get_model_version(name, str(version)))


def check_bundle(client: "MlflowClient", name: str, version: "ModelVersion") -> None:
    """Refuse a version whose bundle can't be fetched whole."""
    with tempfile.TemporaryDirectory(prefix="alphaloop-bundle-") as scratch:
        verified(Path(download(client, version, Path(scratch))), name, version)


def download(client: "MlflowClient", version: "ModelVersion", target: Path | None = None) -> str:
    """Local folder of a version's bundle: a copy below `target`, or without one the artifact itself where it
    is a local folder.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    own = own_artifacts(client, version.run_id, version.source)
    if own is not None:
        return _own_bundle(own / BUNDLE, version, target)
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


def _own_bundle(bundle: Path, version: "ModelVersion", target: Path | None) -> str:
    """The bundle that lies in the run folder itself, wherever that was when the version was registered."""
    try:
        if not bundle.is_dir():
            raise FileNotFoundError("the folder does not exist")
        return str(shutil.copytree(bundle, target / BUNDLE) if target else bundle)
    except OSError as error:
        raise RegistryError(
            f"{version.name} version {version.version}: its bundle can't be fetched from {bundle}"
            f" ({error}). Bring the files back from a copy of the run folder, or register the model again."
        ) from error


def verified(bundle: Path, name: str, version: "ModelVersion") -> dict[str, Any]:
    """The manifest of a version's bundle; BundleError if it is not what was registered."""
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


def _all_versions(client: "MlflowClient", name: str) -> "Iterator[ModelVersion]":
    return every_page(lambda token: client.search_model_versions(f"name = '{name}'", page_token=token))


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(manifest), sort_keys=True).encode()).hexdigest()
