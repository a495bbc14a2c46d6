"""The retraining pipeline: what was served is held against the champion's reference; where that calls for it,
the training tasks follow, and their model has to beat the champion on bars that are newer than the champion's
training data.
"""

from collections.abc import Callable

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.contracts import AlphaloopError
from components.drift.component import detect_drift
from components.experts.leaves import Leaf
from components.registry.component import read_champion
from components.retraining.component import collect_served, conclude, decide
from pipelines.code_version import code_version
from pipelines.config import Config, section_json
from pipelines.graphs.arrange import Arrange, Pods, arranger, closing_task
from pipelines.graphs.data import Market, Source, source_to_factors, to_labels, to_training_set
from pipelines.graphs.judging import to_judged_model
from pipelines.lasting import lasting_folder


class RetrainingError(AlphaloopError):
    """The configuration does not allow a retraining, or one that was decided did not take place."""


def retraining_config(config: Config) -> Config:
    """The configuration that a retraining trains with: windows that grow with the data, folds of
    `retraining.fold_bars`, and no cross-validation, which no gate asks for.

    Raises
    ------
    RetrainingError
        If the test window or the backtest ends on a fixed day: new bars would never be learned from nor
        judged.
    """
    ends = {
        "timeline.test.end": config.timeline.test.end,
        "timeline.backtest.end": config.timeline.backtest.end,
    }
    for name, end in ends.items():
        if end is not None:
            raise RetrainingError(
                f"{name}={end} ends on a fixed day, so a retraining would see no bar after it. Leave {name}"
                " out: the window then grows with the data."
            )
    timeline, fold_bars = config.timeline.walking(), config.retraining.fold_bars
    if fold_bars is not None:
        timeline = timeline.model_copy(update={"fold_bars": fold_bars})
    return config.model_copy(update={"timeline": timeline})


def retraining_pipeline(
    config: Config, *, source: Source | None, leaves: list[Leaf], folder: str, pods: Pods | None = None
) -> Callable:
    """The `retraining` pipeline of one configuration; parameters as in `training_pipeline`.

    Raises
    ------
    RetrainingError
        If a window of the configuration ends on a fixed day.
    """
    config = retraining_config(config)
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-retraining-{config.run.name}",
        description="Drift of what was served, the decision on it, and the retraining that follows.",
    )
    def retraining():
        closing = closing_task(config, arrange, folder, "decide")
        with dsl.ExitHandler(closing, name="retraining"):
            factors = source_to_factors(config, arrange, source, folder)
            labels = to_labels(config, arrange, factors.market)
            decided = to_decision(config, arrange, factors.market, labels, folder)
            # On a bool: a condition on text that can't be evaluated would skip the branch and still count as
            # success.
            with dsl.If(decided.outputs["Output"] == True, name="retrain"):  # noqa: E712
                data = to_training_set(config, arrange, factors, labels, folder)
                registered = to_judged_model(config, arrange, factors, data, leaves, folder, newest_only=True)
                arrange(
                    conclude(
                        decision=decided.outputs["decision"],
                        registration=registered.outputs["registration"],
                        folder=lasting_folder(config, folder),
                    ),
                    "conclude",
                    cached=False,
                )

    return retraining


def to_decision(
    config: Config,
    arrange: Arrange,
    market: Market,
    labels: PipelineChannel,
    folder: str,
    *,
    trains: bool = True,
) -> dsl.PipelineTask:
    """Tasks from what was served to the decision on it; returns the task that decides.

    `trains`: whether a retraining follows in this pipeline where that is decided.
    """
    champion = arrange(
        read_champion(
            settings=section_json(config.registry), name=config.run.name, folder=f"{folder}/registry"
        ),
        "champion in service",
        cached=False,
    )
    served = arrange(
        collect_served(
            champion=champion.outputs["champion"],
            window_bars=config.drift.window_bars,
            folder=lasting_folder(config, folder),
            code=code_version(collect_served),
        ),
        "served",
        cached=False,
    )
    drift = arrange(
        detect_drift(
            current=served.outputs["current"],
            labels=labels,
            champion=champion.outputs["champion"],
            settings=section_json(config.drift),
            code=code_version(detect_drift),
        ),
        "drift",
        cached=False,
    )
    return arrange(
        decide(
            drift=drift.outputs["drift"],
            current=served.outputs["current"],
            panel=market.panel,
            champion=champion.outputs["champion"],
            settings=section_json(config.retraining),
            source=market.source.market,
            folder=lasting_folder(config, folder),
            trains=trains,
        ),
        "decide",
        cached=False,
    )
