"""The materialisation pipeline: the newest bars to the online store, without training anything."""

from collections.abc import Callable

from kfp import dsl

from pipelines.config import Config
from pipelines.graphs.arrange import Pods, arranger, closing_task
from pipelines.graphs.data import Source, publish, source_to_factors, to_universe


def materialisation_pipeline(
    config: Config, *, source: Source | None, folder: str, pods: Pods | None = None
) -> Callable:
    """Ingest, validate, build factors, publish and materialise; parameters as in `training_pipeline`."""
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-materialisation-{config.run.name}", description="Newest bars to the online store."
    )
    def materialisation():
        closing = closing_task(config, arrange, folder, "materialise")
        with dsl.ExitHandler(closing, name="materialisation"):
            data = source_to_factors(config, arrange, source, folder, trained=False)
            publish(config, arrange, data, to_universe(config, arrange, data.market), folder)

    return materialisation
