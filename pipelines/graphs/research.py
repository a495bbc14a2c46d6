"""Pipelines for looking at factors without judging a model: which inputs are chosen, and which formulas the
stack's residual yields.
"""

from collections.abc import Callable

from kfp import dsl

from components.contracts import AlphaloopError
from components.experts.leaves import Leaf
from components.mining.component import mine
from components.report.component import keep_evidence
from pipelines.code_version import code_version
from pipelines.config import Config, section_json, walk_json
from pipelines.graphs.arrange import Pods, arranger, closing_task, side_by_side
from pipelines.graphs.data import Source, source_to_factors, to_labels, to_training_set
from pipelines.graphs.experts import require_trained, to_expert_inputs, to_predictions
from pipelines.lasting import lasting_folder


class ResearchError(AlphaloopError):
    """The configuration asks for nothing that could be looked at."""


def selection_pipeline(
    config: Config, *, source: Source | None, leaves: list[Leaf], folder: str, pods: Pods | None = None
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
    arrange = arranger(config, pods)

    @dsl.pipeline(name=f"alphaloop-selection-{config.run.name}", description="Market data to chosen inputs.")
    def selection():
        closing = closing_task(config, arrange, folder, "evidence")
        with dsl.ExitHandler(closing, name="selection"):
            factors = source_to_factors(config, arrange, source, folder)
            labels = to_labels(config, arrange, factors.market)
            data = to_training_set(config, arrange, factors, labels, folder)
            inputs = to_expert_inputs(config, arrange, data, leaves)
            pages = side_by_side(arrange, "pages", inputs.pages)
            arrange(
                keep_evidence(folder=lasting_folder(config, folder), pages=pages), "evidence", cached=False
            )

    return selection


def mining_pipeline(
    config: Config, *, source: Source | None, leaves: list[Leaf], folder: str, pods: Pods | None = None
) -> Callable:
    """Market data to formulas that explain what the stack does not; parameters as in `training_pipeline`,
    whose cache it shares.

    Raises
    ------
    ConfigError
        If `mining.experts` names one that is not trained.
    """
    require_trained("mining.experts", config.mining.experts, config)
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-mining-{config.run.name}",
        description="Formulas from what the stack leaves unexplained.",
    )
    def mining():
        closing = closing_task(config, arrange, folder, "evidence")
        with dsl.ExitHandler(closing, name="mining"):
            factors = source_to_factors(config, arrange, source, folder)
            labels = to_labels(config, arrange, factors.market)
            data = to_training_set(config, arrange, factors, labels, folder)
            predicted = to_predictions(config, arrange, data, leaves, folder)
            found = arrange(
                mine(
                    training_set=data.training_set,
                    labels=data.labels,
                    catalog=data.catalog,
                    predictions=predicted.stack["all_predictions"],
                    settings=section_json(config.mining),
                    timeline=walk_json(config),
                    horizon=config.labels.primary_horizon,
                    target=config.labels.target,
                    seed=config.run.seed,
                    code=code_version(mine),
                ),
                "mine",
            ).outputs
            files = {**predicted.pages, "mining.html": found["page"], "formulas.yaml": found["formulas"]}
            pages = side_by_side(arrange, "pages", files)
            arrange(
                keep_evidence(folder=lasting_folder(config, folder), pages=pages), "evidence", cached=False
            )

    return mining
