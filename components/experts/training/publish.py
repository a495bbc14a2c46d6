"""From stamped tables to an expert's artifact folder:

`status.json` and, unless it failed, `predictions.parquet` and `model/`.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.contracts import (
    LABELS,
    LEARNABLE,
    PREDICTIONS,
    TRAINING_SET,
    ContractError,
    OutputError,
    atomic_path,
    atomic_write_text,
    file_sha256,
    read_catalog,
    read_chosen,
    read_stamp,
    read_table,
    write_table,
)
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf
from components.experts.neural.distributed import train_in_processes, world
from components.experts.training.train import Trained, failed, train_expert, train_guarded
from components.settings import config_hash
from components.timeline import Settings as TimelineSettings


@contextmanager
def only_training(work_folder: Path) -> Iterator[None]:
    """Hold the work folder's lock, so that what a killed command left behind never writes into the folds of
    the next one.

    Raises
    ------
    OutputError
        If another training holds it.
    """
    work_folder.parent.mkdir(parents=True, exist_ok=True)
    with (work_folder.parent / f".{work_folder.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"Another training is writing to {work_folder}, perhaps one whose command was killed. Wait"
                " for it to end, or end it."
            ) from None
        yield


def train_on_tables(
    training_set: str | Path,
    labels: str | Path,
    catalog: str | Path,
    *,
    leaf: Leaf,
    timeline: TimelineSettings,
    period: str,
    horizon: int,
    target: str,
    seed: int,
    work_folder: Path,
    warm_from: Path | None,
    code: str,
    chosen: str | Path | None = None,
    learnable: str | Path | None = None,
) -> tuple[Trained | None, dict[str, Any], dict[str, str]]:
    """Read and verify the tables and train on them; see `train_guarded` for result and status.

    The third value is the content hash of each input.

    Where the leaf asks for several processes, they fit the folds first, and what is left to do here is to
    take the finished ones.

    Raises
    ------
    ContractError
        If inputs were chosen, or rows found learnable, on another training set.
    """
    if leaf.processes > 1 and world().size == 1:
        paths = {
            "training_set": training_set,
            "labels": labels,
            "catalog": catalog,
            "work_folder": work_folder,
            "warm_from": warm_from,
            "chosen": chosen,
            "learnable": learnable,
        }
        about = {
            "leaf": leaf.model_dump(mode="json"),
            "timeline": timeline.model_dump(mode="json"),
            "period": period,
            "horizon": horizon,
            "target": target,
            "seed": seed,
            "code": code,
        }
        try:
            train_in_processes(
                {**about, **{name: str(path) if path else None for name, path in paths.items()}},
                leaf.processes,
            )
        except ExpertError as error:
            trained, status = failed(error, expert=leaf.expert, work_folder=work_folder)
            return trained, status, {}
    stamp = read_stamp(training_set)
    origins = {
        **stamp.inputs,
        "training_set": stamp.content_sha256,
        "labels": read_stamp(labels).content_sha256,
    }
    inputs = read_chosen(chosen) if chosen else None
    _require_same(chosen, inputs and inputs.training_set, stamp.content_sha256)
    rows = read_table(learnable, LEARNABLE) if learnable else None
    _require_same(
        learnable, learnable and read_stamp(learnable).inputs.get("training_set", ""), stamp.content_sha256
    )
    trained, status = train_guarded(
        lambda: train_expert(
            read_table(training_set, TRAINING_SET),
            read_table(labels, LABELS),
            read_catalog(catalog),
            leaf=leaf,
            timeline=timeline,
            period=period,
            horizon=horizon,
            target=target,
            seed=seed,
            work_folder=work_folder,
            warm_from=warm_from,
            code=code,
            data_key=(
                f"{origins['training_set']} {origins['labels']} {file_sha256(catalog)}"
                f" {read_stamp(learnable).content_sha256 if learnable else ''}"
            ),
            chosen=inputs,
            learnable=rows,
        ),
        expert=leaf.expert,
        work_folder=work_folder,
    )
    return trained, status, origins


def _require_same(path: str | Path | None, found: str | None, training_set: str) -> None:
    if path and found != training_set:
        raise ContractError(
            f"{path} was made from training set {(found or '(unknown)')[:12]}, this run's is"
            f" {training_set[:12]}. Run its stage again."
        )


def publish_expert(
    folder: Path,
    trained: Trained | None,
    status: dict[str, Any],
    leaf: Leaf,
    origins: dict[str, str],
    *,
    code: str,
    work_folder: Path,
) -> None:
    """Write the artifact folder as a whole, and the status beside the folds.

    A failed expert gets no predictions, so that it can't be mistaken for a trained one.
    """
    text = json.dumps(status, indent=1)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / "status.json").write_text(text, encoding="utf-8")
        if trained is not None:
            about = {
                "code_version": code,
                "config_hash": config_hash(leaf),
                "inputs": origins,
                "train_window": status["train_window"],
            }
            write_table(trained.predictions, temporary / "predictions.parquet", PREDICTIONS, **about)
            shutil.copytree(trained.model_folder, temporary / "model")
    atomic_write_text(work_folder / "status.json", text)
