"""The materialisation pipeline: the newest bars to the online store, without training anything."""

from collections.abc import Callable

from kfp import dsl

from components.report.component import close_run
from pipelines.config import Config
from pipelines.graphs.arrange import Pods, arranger
from pipelines.graphs.data import publish, source_to_factors
from pipelines.lasting import lasting_folder


def materialisation_pipeline(
    config: Config, *, source: str, folder: str, pods: Pods | None = None
) -> Callable:
    """Ingest, validate, build factors, publish and materialise; parameters as in `training_pipeline`."""
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-materialisation-{config.run.name}", description="Newest bars to the online store."
    )
    def materialisation():
        closing = arrange(close_run(folder=lasting_folder(config, folder)), "close", cached=False)
        with dsl.ExitHandler(closing, name="materialisation"):
            publish(
                config, arrange, source_to_factors(config, arrange, source, folder, trained=False), folder
            )

    return materialisation
