"""One expert on a run's data: the training pipeline cut off after the expert, or before it, with the same
cache.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from components.contracts import AlphaloopError, atomic_path, verify_bundle
from components.contracts.documents.experts import (
    STATUS,
    ExpertStatus,
    FailedExpert,
    InputPaths,
    read_status,
)
from pipelines.config import Config
from pipelines.leaves import INPUTS, find_leaf, learned, resolve_leaf, run_name
from pipelines.runners.local_run import run_locally

if TYPE_CHECKING:
    from components.experts.leaves import Leaf
    from components.experts.studies.judging import StudyInputs

# What stands in an expert's work folder and outlives a training from scratch.
SEARCH, ABLATIONS = "search", "ablations"


def run_expert(name: str, config: Config, *, mode: str, start: Path | None = None) -> Table:
    """Train, resume or warm-start the expert `name`; returns the table to show.

    Raises
    ------
    AlphaloopError
        If the expert is none of `experts.leaves`, or `start` holds no model.
    """
    leaf = find_leaf(name, config)
    expert = config.experts.names[leaf]
    # Everything that can be seen to be wrong is refused before an earlier training is cleared away.
    resolve_leaf(leaf, config)
    if mode == "warm":
        _require_model(start, expert)
    folder = Path(config.run.folder).absolute()
    kept = _keep(start, folder / "warm" / expert) if start else None
    if mode != "resume":
        _clear(folder / "experts" / expert)
    run_locally(
        "expert", config, options={"leaf": leaf, "warm_from": str(kept or ""), "cached": mode == "resume"}
    )
    return fold_table(
        read_status(folder / "experts" / expert / STATUS),
        folder / "experts" / expert,
    )


def _require_model(start: Path | None, expert: str) -> None:
    if not (start and (start / "manifest.json").exists()):
        raise AlphaloopError(
            f"--from {start} holds no fitted model (no manifest.json there). Give the model folder of a"
            " bundle, or the final/model folder of an earlier training."
        )
    found = verify_bundle(start).get("expert")
    if found != expert:
        raise AlphaloopError(
            f"--from {start} holds a model of {found!r}, which {expert} can't go on from. Give a model of the"
            " same expert."
        )


def fold_table(status: ExpertStatus, work: Path) -> Table:
    """What a training made, a row a fit; the reason alone where the expert failed."""
    if isinstance(status, FailedExpert):
        raise AlphaloopError(
            f"{status.expert} failed: {status.reason.rstrip('.')}. The trace is in {status.trace_file}."
        )
    table = Table(
        title=(
            f"{status.expert}: {status.rows:,} predictions of {status.target} over"
            f" {status.horizon} bars, {work}"
        ),
        title_justify="left",
    )
    for name in ("fit", "trained on", "rows", "predicted", "seconds", ""):
        table.add_column(name, justify="right" if name in ("rows", "predicted", "seconds") else "left")
    for fit in status.folds:
        note = "kept from before" if fit.resumed else "warm start" if fit.warm else ""
        table.add_row(
            fit.fold,
            fit.train_window,
            f"{fit.train_rows:,}",
            f"{fit.predicted_rows:,}",
            f"{fit.seconds:.1f}",
            note,
        )
    return table


def expert_inputs(name: str, config: Config) -> "tuple[Leaf, StudyInputs, Path]":
    """Bring a run's data up to what the expert `name` learns from, out of the cache where it is there.

    Returns
    -------
    The leaf with the run's overrides, the tables, and the expert's work folder.

    Raises
    ------
    AlphaloopError
        If the expert is none of `experts.leaves`, or a stage before it failed.
    """
    from components.experts.studies.judging import StudyInputs
    from pipelines.graphs.experts import expert_code

    leaf = resolve_leaf(find_leaf(name, config), config)
    work = Path(config.run.folder).absolute() / "experts" / run_name(leaf, config)
    run_locally("expert", config, options={"leaf": find_leaf(name, config), "train": False})
    target, horizon = learned(leaf, config)
    paths = InputPaths.read(work / INPUTS).model_dump(exclude={"format"})
    inputs = StudyInputs(
        **paths,
        timeline=config.timeline,
        period=config.market.period,
        horizon=horizon,
        target=target,
        seed=config.run.seed,
        code=expert_code(leaf),
    )
    return leaf, inputs, work


def _clear(work: Path) -> None:
    for path in work.iterdir() if work.exists() else ():
        if path.name not in (SEARCH, ABLATIONS, INPUTS):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _keep(start: Path, place: Path) -> Path:
    """A copy of the model to start from, since a training clears its work folder, in which it may lie."""
    with atomic_path(place) as temporary:
        shutil.copytree(start, temporary)
    return place
