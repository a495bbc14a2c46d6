"""Pipelines for looking at factors without judging a model: which inputs are chosen, and which formulas the
stack's residual yields.
"""

from collections.abc import Callable
from pathlib import Path

from kfp import dsl

from components.contracts import AlphaloopError
from components.experts.leaves import Leaf
from components.mining.component import mine
from components.report.component import close_run, keep_evidence
from pipelines.code_version import code_version
from pipelines.config import Config, section_json
from pipelines.graphs.stages import (
    arranger,
    gather_artifacts,
    require_trained,
    source_to_factors,
    to_expert_inputs,
    to_labels,
    to_predictions,
    to_training_set,
)


class ResearchError(AlphaloopError):
    """The configuration asks for nothing that could be looked at."""


def selection_pipeline(
    config: Config, *, source: str, leaves: list[Leaf], folder: str, retries: int = 0
) -> Callable:
    """Market data to the inputs chosen in each fold; parameters as in `training_pipeline`, whose cache it
    shares.

    Raises
    ------
    ResearchError
        If selection is off.
    """
    if config.selection.mode == "off":
        raise ResearchError(
            "selection.mode is off, so nothing would be chosen. Give --mode quick or --mode full, or set"
            " selection.mode in the config."
        )
    arrange = arranger(config, retries)

    @dsl.pipeline(name=f"alphaloop-selection-{config.run.name}", description="Market data to chosen inputs.")
    def selection():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="selection"):
            data = source_to_factors(config, arrange, source, folder)
            to_labels(config, arrange, data)
            to_training_set(config, arrange, data, folder)
            to_expert_inputs(config, arrange, data, leaves)
            pages = gather_artifacts(arrange, "pages", data.pages)
            arrange(keep_evidence(folder=folder, pages=pages), "evidence", cached=False)

    return selection


def mining_pipeline(
    config: Config, *, source: str, leaves: list[Leaf], folder: str, retries: int = 0
) -> Callable:
    """Market data to formulas that explain what the stack does not; parameters as in `training_pipeline`,
    whose cache it shares.

    Raises
    ------
    ConfigError
        If `mining.experts` names one that is not trained.
    """
    require_trained("mining.experts", config.mining.experts, config, leaves)
    arrange = arranger(config, retries)

    @dsl.pipeline(
        name=f"alphaloop-mining-{config.run.name}",
        description="Formulas from what the stack leaves unexplained.",
    )
    def mining():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="mining"):
            data = source_to_factors(config, arrange, source, folder)
            to_labels(config, arrange, data)
            to_training_set(config, arrange, data, folder)
            _, _, stacked = to_predictions(config, arrange, data, leaves, folder)
            found = arrange(
                mine(
                    training_set=data.training_set,
                    labels=data.labels,
                    catalog=data.catalog,
                    predictions=stacked.outputs["all_predictions"],
                    settings=section_json(config.mining),
                    timeline=section_json(config.timeline),
                    horizon=config.labels.primary_horizon,
                    target=config.labels.target,
                    seed=config.run.seed,
                    code=code_version("mining"),
                ),
                "mine",
            ).outputs
            files = {**data.pages, "mining.html": found["page"], "formulas.yaml": found["formulas"]}
            pages = gather_artifacts(arrange, "pages", files)
            arrange(keep_evidence(folder=folder, pages=pages), "evidence", cached=False)

    return mining


def run_research(pipeline: str, config: Config) -> Path:
    """Run `selection` or `mining` here; returns the folder with its pages."""
    from pipelines.runners.local_run import run_locally

    return run_locally(pipeline, config) / "evidence"
