"""Builds a pipeline by name from a configuration, for running here, compiling and submitting alike."""

from collections.abc import Callable, Mapping
from typing import Any

from components.fusion.source_hash import slow_tables_sha256
from components.market.source_hash import market_sha256
from components.progress import warn
from components.settings import ConfigError
from components.ticks.source_hash import ticks_sha256
from pipelines.config import Config, data_folder
from pipelines.graphs.arrange import Pods
from pipelines.graphs.data import Source
from pipelines.graphs.drift import drift_pipeline
from pipelines.graphs.materialisation import materialisation_pipeline
from pipelines.graphs.one_expert import expert_pipeline
from pipelines.graphs.replay import replay_pipeline
from pipelines.graphs.research import mining_pipeline, selection_pipeline
from pipelines.graphs.retraining import retraining_pipeline
from pipelines.graphs.ticks import ticks_pipeline
from pipelines.graphs.training import training_pipeline
from pipelines.leaves import resolve_leaves, unused_overrides

PIPELINES = ("training", "materialisation", "retraining", "drift", "replay", "selection", "mining")
# The one pipeline of configs with a section `ticks`, which have none of the others.
OF_TICKS = "ticks"


def build_pipeline(
    name: str,
    config: Config,
    *,
    folder: str,
    pods: Pods | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable:
    """The pipeline `name`.

    Parameters
    ----------
    pods : what tasks in pods of their own are given; none here, where tasks share this machine, so that the
        data can be hashed right away
    options : further arguments of the pipeline `expert`, see `expert_pipeline`
    """
    _require_fitting(name, config)
    source = None if pods else _source_here(config)
    untrained = {
        "materialisation": materialisation_pipeline,
        "drift": drift_pipeline,
        "replay": replay_pipeline,
    }
    if name in untrained:
        return untrained[name](config, source=source, folder=folder, pods=pods)
    if name == "expert":
        return expert_pipeline(config, source=source, folder=folder, **(options or {}))
    leaves = resolve_leaves(config)
    unused = unused_overrides(config)
    if unused:
        warn(
            "set-up",
            f"experts.overrides holds settings of {', '.join(unused)}, which no leaf of experts.leaves is of:"
            " they have no effect.",
        )
    makers = {
        "training": training_pipeline,
        "retraining": retraining_pipeline,
        "selection": selection_pipeline,
        "mining": mining_pipeline,
        OF_TICKS: ticks_pipeline,
    }
    return makers[name](config, source=source, leaves=leaves, folder=folder, pods=pods)


def _require_fitting(name: str, config: Config) -> None:
    """ConfigError where a pipeline of bars is asked for by a config of ticks, or the reverse."""
    if (name == OF_TICKS) != (config.ticks is not None):
        kind, other = ("has no section ticks", "training") if name == OF_TICKS else ("is of ticks", OF_TICKS)
        raise ConfigError(f"The config {kind}: it has no pipeline {name}. Run its pipeline {other}.")


def _source_here(config: Config) -> Source:
    if config.ticks is not None:
        return Source(ticks_sha256(config.ticks, data_folder(), config.run.seed), "")
    return Source(
        market_sha256(config.market, data_folder(), config.run.seed),
        slow_tables_sha256(config.fusion, data_folder()),
    )
