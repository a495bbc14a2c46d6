"""The drift pipeline: what was served is held against the champion's reference, and the decision on it is
kept; nothing is trained.
"""

from collections.abc import Callable

from kfp import dsl

from pipelines.config import Config
from pipelines.graphs.arrange import Pods, arranger, closing_task
from pipelines.graphs.data import Source, source_to_market, to_labels
from pipelines.graphs.retraining import to_decision


def drift_pipeline(
    config: Config, *, source: Source | None, folder: str, pods: Pods | None = None
) -> Callable:
    """The `drift` pipeline of one configuration; parameters as in `training_pipeline`."""
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-drift-{config.run.name}",
        description="Drift of what was served, and what a retraining check would decide on it.",
    )
    def drift():
        closing = closing_task(config, arrange, folder, "decide")
        with dsl.ExitHandler(closing, name="drift"):
            market = source_to_market(config, arrange, source)
            labels = to_labels(config, arrange, market)
            to_decision(config, arrange, market, labels, folder, trains=False)

    return drift
