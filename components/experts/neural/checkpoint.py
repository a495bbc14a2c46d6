"""Checkpoints of a training: one folder each with tensors as safetensors, everything else as JSON, and a
SHA-256 of every file. No pickle.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.contracts import (
    BundleError,
    ContractError,
    atomic_path,
    require_json,
    verify_bundle,
    write_manifest,
)
from components.progress import warn

LAST = "last"
BEST = "best-"
TENSORS = "tensors.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
REFERENCE = "tensor:"


def write(folder: Path, names: Iterable[str], state: Mapping[str, Any], *, key: str, step: int) -> None:
    """Write `state`, a tree of dictionaries, lists, numbers, strings and tensors, as checkpoints `names`
    below `folder`; each appears as a whole.

    Raises
    ------
    OutputError
        If the folder can't be written or the disk is full.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_without_tensors(state, tensors))
    for name in names:
        with atomic_path(folder / name) as temporary:
            temporary.mkdir()
            save_file(tensors, temporary / TENSORS)
            (temporary / STATE).write_text(text, encoding="utf-8")
            write_manifest(temporary, {"key": key, "step": step})


def newest(folder: Path, key: str) -> str | None:
    """Name of the checkpoint with the most steps of those of this `key` that are whole; None where there is
    none. A damaged one is left out with a warning.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name != LAST and not path.name.startswith(BEST):
            continue
        try:
            about = require_json(path / MANIFEST)
            if about["key"] == key:
                found.append((int(about["step"]), path.name))
        except (ContractError, ValueError, KeyError, TypeError) as error:
            _warn_of(path, f"{type(error).__name__}: {error}")
    for _, name in sorted(found, reverse=True):
        try:
            verify_bundle(folder / name)
        except BundleError as error:
            _warn_of(folder / name, str(error))
            continue
        return name
    return None


def read(folder: Path, name: str) -> dict[str, Any]:
    """The state of a checkpoint that `newest` found, its tensors on the CPU.

    They are copied into memory of torch's own: those of the file lie as it suits the file, and where a tensor
    lies decides about the last bits of some of MKL's results (the eigenvectors that Shampoo needs).
    """
    from safetensors.torch import load_file

    tensors = {key: tensor.clone() for key, tensor in load_file(folder / name / TENSORS).items()}
    return _with_tensors(require_json(folder / name / STATE), tensors)


def keep_only(folder: Path, best: Iterable[str]) -> None:
    """Remove all checkpoints of epochs but `best`, and what a killed writer left behind."""
    kept = {LAST, *best}
    for path in folder.iterdir():
        unfinished = path.name.startswith((f".{LAST}.", f".{BEST}"))
        if unfinished or (path.name.startswith(BEST) and path.name not in kept):
            shutil.rmtree(path, ignore_errors=True)


def best_name(epoch: int) -> str:
    """Name of the checkpoint at the end of an epoch, counted from 1."""
    return f"{BEST}{epoch:04d}"


def _warn_of(path: Path, reason: str) -> None:
    warn(
        "checkpoints",
        f"The checkpoint {path} is damaged and not used; training goes on from an older one or from the"
        f" start, with the same result. {reason}",
    )


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree with a reference in place of each tensor, which goes to `tensors`.

    Number keys are marked, since JSON has only text.
    """
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return REFERENCE + name
    if isinstance(value, Mapping):
        return {
            ("#" + str(key) if isinstance(key, int) else key): _without_tensors(part, tensors)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_tensors(part, tensors) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint can't hold {type(value).__name__}")


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(REFERENCE):
        return tensors[value.removeprefix(REFERENCE)]
    if isinstance(value, dict):
        return {
            (int(key[1:]) if key.startswith("#") else key): _with_tensors(part, tensors)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_with_tensors(part, tensors) for part in value]
    return value
