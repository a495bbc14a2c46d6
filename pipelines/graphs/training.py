"""The training pipeline: from a panel of prices to a judged, registered model and its report.

The graph is built from a configuration: one task a stage, one task an expert. The same definition runs
through `kfp.local` and compiles to IR for a cluster.
"""

from collections.abc import Callable

from kfp import dsl

from components.experts.leaves import Leaf
from pipelines.config import Config
from pipelines.graphs.arrange import Pods, arranger, closing_task
from pipelines.graphs.data import Source, source_to_factors, to_labels, to_training_set
from pipelines.graphs.judging import to_judged_model


def training_pipeline(
    config: Config, *, source: Source | None, leaves: list[Leaf], folder: str, pods: Pods | None = None
) -> Callable:
    """The `training` pipeline of one configuration.

    Parameters
    ----------
    source : content hashes of the data, where they are seen from here; none: the first tasks find them
    leaves : the experts, already resolved with their overrides
    folder : absolute folder for feature store, registry, work files and report, seen by every task
    pods : what tasks in pods of their own are given
    """
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-training-{config.run.name}",
        description="Market data to a judged and registered model.",
    )
    def training():
        closing = closing_task(config, arrange, folder, "report")
        with dsl.ExitHandler(closing, name="training"):
            factors = source_to_factors(config, arrange, source, folder)
            labels = to_labels(config, arrange, factors.market)
            data = to_training_set(config, arrange, factors, labels, folder)
            to_judged_model(config, arrange, factors, data, leaves, folder)

    return training
