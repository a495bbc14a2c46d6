"""Builds a pipeline by name from a configuration, for running here, compiling and submitting alike."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.experts.leaves import Leaf, load_leaf
from components.fusion.source_hash import source_sha256 as slow_sha256
from components.market.source_hash import source_sha256
from components.settings import ConfigError
from pipelines.commands.one_expert import expert_pipeline
from pipelines.config import LEAVES, Config, data_folder
from pipelines.graphs.materialisation import materialisation_pipeline
from pipelines.graphs.research import mining_pipeline, selection_pipeline
from pipelines.graphs.retraining import retraining_pipeline
from pipelines.graphs.training import training_pipeline

PIPELINES = ("training", "materialisation", "retraining", "selection", "mining")


def build_pipeline(
    name: str, config: Config, *, folder: str, local: bool = True, options: Mapping[str, Any] | None = None
) -> Callable:
    """The pipeline `name`. `local` tells whether the market data can be seen, and hashed, from here."""
    source = source_sha256(config.market, data_folder(), config.run.seed) if local else ""
    if source and config.fusion.tables:
        source = f"{source}-{slow_sha256(config.fusion, data_folder())}"
    retries = 0 if local else config.cluster.retries
    if name == "materialisation":
        return materialisation_pipeline(config, source=source, folder=folder, retries=retries)
    if name == "expert":
        return expert_pipeline(config, source=source, folder=folder, **(options or {}))
    leaves = [resolve_leaf(leaf, config) for leaf in config.experts.leaves]
    makers = {
        "training": training_pipeline,
        "retraining": retraining_pipeline,
        "selection": selection_pipeline,
        "mining": mining_pipeline,
    }
    return makers[name](config, source=source, leaves=leaves, folder=folder, retries=retries)


def resolve_leaf(name: str, config: Config) -> Leaf:
    """An expert's leaf, from `experts.folder` if it stands there, with the run's overrides applied."""
    own = Path(config.experts.folder).absolute() / f"{name}.yaml"
    path = own if config.experts.folder and own.exists() else LEAVES / f"{name}.yaml"
    leaf = load_leaf(path, config.experts.overrides.get(name.split("/")[0], {}))
    found = f"{leaf.expert}/{leaf.period}/{leaf.modality}"
    if found != name:
        raise ConfigError(
            f"{path} stands at {name} but says that it is {found}. Mend its expert, period or modality, or"
            " move it."
        )
    for task in leaf.also:
        if task.horizon not in config.labels.horizons:
            raise ConfigError(
                f"{path}: `also` names horizon {task.horizon}, which is not made. Add it to labels.horizons"
                f" ({', '.join(map(str, config.labels.horizons))}), or take one of those."
            )
    return leaf
