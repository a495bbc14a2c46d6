"""Trains one expert on a run's data: the training pipeline cut off after the expert, with the same cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from components.contracts import AlphaloopError
from pipelines.config import Config


def run_expert(name: str, config: Config, *, mode: str, start: Path | None = None) -> str:
    """Train, resume or warm-start the expert `name`; returns what to tell the user.

    Raises
    ------
    AlphaloopError
        If the expert is none of `experts.leaves`, or `start` holds no model.
    """
    from pipelines.local_run import run_locally

    leaf = find_leaf(name, config)
    expert = leaf.split("/")[0]
    if mode == "warm" and not (start and (start / "manifest.json").exists()):
        raise AlphaloopError(f"--from {start} holds no fitted model (no manifest.json there). Give the model folder of a bundle, or the final/model folder of an earlier training.")
    folder = Path(config.run.folder).absolute()
    if mode != "resume":
        shutil.rmtree(folder / "work" / expert, ignore_errors=True)
    options = {"leaf": leaf, "warm_from": str(start.absolute()) if start else "", "cached": mode == "resume"}
    run_locally("expert", config, options=options)
    status = json.loads((folder / "work" / expert / "status.json").read_text(encoding="utf-8"))
    return f"{expert}: {json.dumps(status, indent=1)}"


def find_leaf(name: str, config: Config) -> str:
    """The leaf of `experts.leaves` that `name` means: the leaf itself or its expert."""
    found = [leaf for leaf in config.experts.leaves if name in (leaf, leaf.split("/")[0])]
    if not found:
        raise AlphaloopError(f"{name!r} is none of this config's experts: {', '.join(config.experts.leaves)}. Add its leaf to experts.leaves.")
    return found[0]


def expert_pipeline(config: Config, *, source: str, leaf: str, folder: str, warm_from: str, cached: bool) -> Callable:
    """Everything up to the training set, then one expert."""
    from kfp import dsl

    from components.report.component import close_run
    from pipelines.build import resolve_leaf
    from pipelines.stages import arranger, expert_task, source_to_factors, to_training_set

    arrange = arranger(config, retries=0)

    @dsl.pipeline(name=f"alphaloop-expert-{config.run.name}")
    def expert():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="expert"):
            data = source_to_factors(config, arrange, source)
            to_training_set(config, arrange, data, folder)
            expert_task(config, arrange, data, resolve_leaf(leaf, config), folder, warm_from=warm_from, cached=cached)

    return expert
