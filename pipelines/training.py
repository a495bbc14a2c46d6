"""The training pipeline: from a panel of prices to a judged, registered model and its report.

The graph is built from a configuration: one task a stage, one task an expert. The same definition runs through
`kfp.local` and compiles to IR for a cluster.
"""

from collections.abc import Callable
from pathlib import Path

from kfp import dsl

from components.backtest.component import backtest
from components.experts.leaves import Leaf
from components.gates.component import judge
from components.registry.component import read_champion, register
from components.report.component import close_run, write_report
from components.stacking.component import build_oof, stack
from pipelines.code_version import code_version
from pipelines.config import Config, section_json
from pipelines.stages import arranger, expert_task, source_to_factors, to_training_set


def training_pipeline(config: Config, *, source: str, leaves: list[Leaf], folder: str, retries: int = 0) -> Callable:
    """The `training` pipeline of one configuration.

    Parameters
    ----------
    source : content hash of the market data; with it in the arguments a changed file is never answered from the cache.
        Empty where the data is out of sight (a cluster's volume): then the ingest task is never cached.
    leaves : the experts, already resolved with their overrides
    folder : absolute folder for feature store, registry, work files and report, seen by every task
    retries : how often a failed task is tried again
    """
    arrange = arranger(config, retries)

    @dsl.pipeline(name=f"alphaloop-training-{config.run.name}", description="Market data to a judged and registered model.")
    def training():
        closing = arrange(close_run(folder=folder), "close", cached=False)
        with dsl.ExitHandler(closing, name="training"):
            data = source_to_factors(config, arrange, source)
            to_training_set(config, arrange, data, folder)
            experts = {f"expert_{number}": expert_task(config, arrange, data, leaf, folder).outputs["expert"] for number, leaf in enumerate(leaves, start=1)}
            table = arrange(
                build_oof(
                    labels=data.labels,
                    training_set=data.training_set,
                    settings=section_json(config.stacking),
                    code=code_version("stacking"),
                    **experts,
                ),
                "out-of-fold table",
            )
            stacked = arrange(
                stack(
                    oof=table.outputs["oof"],
                    predictions=table.outputs["predictions"],
                    training_set=data.training_set,
                    settings=section_json(config.stacking),
                    timeline=section_json(config.timeline),
                    seed=config.run.seed,
                    code=code_version("stacking"),
                ),
                "stack",
            )
            predictions = stacked.outputs["all_predictions"]
            tested = arrange(
                backtest(
                    panel=data.panel,
                    labels=data.labels,
                    training_set=data.training_set,
                    predictions=predictions,
                    settings=section_json(config.backtest),
                    timeline=section_json(config.timeline),
                    horizon=config.labels.primary_horizon,
                    seed=config.run.seed,
                    code=code_version("backtest"),
                ),
                "backtest",
            )
            champion = arrange(
                read_champion(settings=section_json(config.registry), name=config.run.name, folder=f"{folder}/registry"),
                "champion",
                cached=False,
            )
            judged = arrange(
                judge(
                    evaluation=tested.outputs["evaluation"],
                    predictions=predictions,
                    labels=data.labels,
                    returns=tested.outputs["returns"],
                    champion=champion.outputs["champion"],
                    settings=section_json(config.gates),
                    code=code_version("gates"),
                ),
                "gates",
                cached=False,
            )
            registered = arrange(
                register(
                    verdict=judged.outputs["verdict"],
                    evaluation=tested.outputs["evaluation"],
                    predictions=predictions,
                    stacker=stacked.outputs["model"],
                    catalog=data.catalog,
                    feature_registry=data.feature_registry,
                    config=config.model_dump_json(),
                    settings=section_json(config.registry),
                    name=config.run.name,
                    folder=f"{folder}/registry",
                    code=code_version("registry"),
                    **experts,
                ),
                "register",
                cached=False,
            )
            arrange(
                write_report(
                    truth=data.truth,
                    panel=data.panel,
                    quarantine=data.quarantine,
                    health=data.health,
                    data_docs=data.data_docs,
                    factors=data.factors,
                    catalog=data.catalog,
                    labels=data.labels,
                    audit=data.audit,
                    oof_audit=table.outputs["audit"],
                    comparison=stacked.outputs["comparison"],
                    predictions=predictions,
                    evaluation=tested.outputs["evaluation"],
                    returns=tested.outputs["returns"],
                    verdict=judged.outputs["verdict"],
                    registration=registered.outputs["registration"],
                    config=config.model_dump_json(),
                    folder=folder,
                    **experts,
                ),
                "report",
                cached=False,
            )

    return training


def resolve_folder(config: Config) -> str:
    """The absolute run folder: below the mounted volume on a cluster, else where this process stands."""
    base = Path(config.cluster.mount_path) if config.cluster.volume_claim else Path.cwd()
    return str(base / config.run.folder)
