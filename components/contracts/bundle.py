"""The model bundle: a folder of files that cannot execute code, with a manifest that holds the SHA-256 of
each.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from components.contracts.errors import AlphaloopError, ContractError
from components.contracts.files import atomic_write_text, require_json

MANIFEST = "manifest.json"
# What MLflow's own tools look for in a model's folder, and a note that they leave there when somebody loads
# the model by its name in the registry: that says nothing about the model, and nothing here reads it.
MLMODEL, MLFLOW_NOTE = "MLmodel", "registered_model_meta"
SUFFIXES = {".json", ".txt", ".ubj", ".onnx", ".safetensors", ".parquet"}


class BundleError(AlphaloopError):
    """A model bundle is incomplete, was changed, or holds a file of a kind that could execute code."""


def write_manifest(folder: str | os.PathLike, about: dict[str, Any]) -> str:
    """Write `manifest.json` over all files in `folder` and return the bundle's SHA-256, which covers the
    files only.

    Raises
    ------
    BundleError
        If a file is of a kind that is not allowed in a bundle.
    """
    folder = Path(folder)
    files = {name: file_sha256(folder / name) for name in sorted(_file_names(folder))}
    for name in files:
        _check_suffix(folder, name)
    sha256 = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    atomic_write_text(folder / MANIFEST, json.dumps({"sha256": sha256, "files": files, **about}, indent=1))
    return sha256


def verify_bundle(folder: str | os.PathLike) -> dict[str, Any]:
    """The manifest of a bundle after checking every file against it.

    Raises
    ------
    BundleError
        Naming the file that is missing, surplus, changed, or of a kind that is not allowed.
    """
    folder = Path(folder)
    remedy = "Fetch the bundle again from the registry."
    try:
        manifest = require_json(folder / MANIFEST, remedy=remedy)
        expected, sha256_of_all = dict(manifest["files"]), manifest["sha256"]
    except ContractError as error:
        raise BundleError(f"{folder} has no readable {MANIFEST}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} has no readable {MANIFEST} ({error}). {remedy}") from error
    found = _file_names(folder)
    for name in sorted(found - expected.keys()):
        raise BundleError(f"{folder}: {name} is not in the manifest. Remove it, or fetch the bundle again.")
    for name, sha256 in expected.items():
        _check_suffix(folder, name)
        if name not in found:
            raise BundleError(f"{folder}: {name} is missing. Fetch the bundle again from the registry.")
        if file_sha256(folder / name) != sha256:
            raise BundleError(
                f"{folder}: {name} was changed after the bundle was made (SHA-256 differs). Fetch it again"
                " from the registry."
            )
    if (
        hashlib.sha256(json.dumps(dict(sorted(expected.items())), sort_keys=True).encode()).hexdigest()
        != sha256_of_all
    ):
        raise BundleError(
            f"{folder}: the manifest was changed after the bundle was made. Fetch the bundle again from the"
            " registry."
        )
    return manifest


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _file_names(folder: Path) -> set[str]:
    """All files below `folder` but its own manifest and MLflow's note, as POSIX paths relative to it."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {MANIFEST, MLFLOW_NOTE}


def _check_suffix(folder: Path, name: str) -> None:
    if name != MLMODEL and Path(name).suffix not in SUFFIXES:
        raise BundleError(
            f"{folder}: {name} is not of a kind that a bundle may hold ({', '.join(sorted(SUFFIXES))})."
        )
