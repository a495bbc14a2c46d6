"""The training pipeline: from a panel of prices to a judged, registered model and its report.

The graph is built from a configuration: one task a stage, one task an expert. The same definition runs
through `kfp.local` and compiles to IR for a cluster.
"""

from collections.abc import Callable
from pathlib import Path

from kfp import dsl

from components.experts.leaves import Leaf
from components.report.component import close_run
from pipelines.config import Config
from pipelines.graphs.stages import arranger, source_to_factors, to_judged_model, to_labels, to_training_set


def training_pipeline(
    config: Config, *, source: str, leaves: list[Leaf], folder: str, retries: int = 0
) -> Callable:
    """The `training` pipeline of one configuration.

    Parameters
    ----------
    source : content hashes of the market data and, after a dash, of the slow tables; with it in the arguments
        a changed file is never answered from the cache. Empty where the data is out of sight (a cluster's
        volume): then the ingest task is never cached.
    leaves : the experts, already resolved with their overrides
    folder : absolute folder for feature store, registry, work files and report, seen by every task
    retries : how often a failed task is tried again
    """
    arrange = arranger(config, retries)

    @dsl.pipeline(
        name=f"alphaloop-training-{config.run.name}",
        description="Market data to a judged and registered model.",
    )
    def training():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="training"):
            data = source_to_factors(config, arrange, source, folder)
            to_labels(config, arrange, data)
            to_training_set(config, arrange, data, folder)
            to_judged_model(config, arrange, data, leaves, folder)

    return training


def resolve_folder(config: Config) -> str:
    """The absolute run folder: below the mounted volume on a cluster, else where this process stands."""
    base = Path(config.cluster.mount_path) if config.cluster.volume_claim else Path.cwd()
    return str(base / config.run.folder)
