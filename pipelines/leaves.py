"""The leaves of a run: finds them, and the files beside them, in a folder of the user's own or among
Alphaloop's, and refuses those that can't be trained together.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

from components.contracts import LABELS, AlphaloopError
from components.experts.leaves import Leaf, is_neural, list_leaves, load_leaf
from components.features.catalog import catalog
from components.features.config import Settings as FeaturesSettings
from components.processes.sources import FLOORS
from components.settings import ConfigError
from components.timeline.periods import PERIODS, TICK_LENGTHS, is_coarser, is_of_ticks
from pipelines.config import LEAVES, Config, features_json, learning_config

# In an expert's work folder: where the tables that it learns from lie.
INPUTS = "inputs.json"
MODALITIES = ("base", "rich")
# Pipelines that train none of the experts that the config names.
WITHOUT_LEAVES = ("materialisation", "drift", "replay", "expert")


def find_leaf(name: str, config: Config) -> str:
    """The leaf of `experts.leaves` that `name` means: the leaf itself or its name in the run."""
    found = [leaf for leaf, called in config.experts.names.items() if name in (leaf, called)]
    if not found:
        raise AlphaloopError(
            f"{name!r} is none of this config's experts: {', '.join(config.experts.leaves)}. Add its leaf to"
            " experts.leaves."
        )
    return found[0]


def resolve_leaves(config: Config) -> list[Leaf]:
    """All leaves of a run, each with the run's overrides.

    Raises
    ------
    ConfigError
        If one does not exist, is broken, learns from a finer period than the market's, from windows of a
        coarser one, or from rich inputs where there are none; or if none learns the task of the run.
    """
    leaves = [resolve_leaf(name, config) for name in config.experts.leaves]
    config = learning_config(config)
    judged = (config.labels.target, config.labels.primary_horizon)
    if not any(judged in tasks_of(leaf, config) for leaf in leaves):
        raise ConfigError(
            f"no expert of experts.leaves learns {judged[0]} over {judged[1]} bars, by which the run is"
            " judged. Take `target` and `horizon` out of one of them, or set labels.target and"
            " labels.primary_horizon to what they learn."
        )
    return leaves


def users_modules(pipeline: str, config: Config) -> list[str]:
    """Modules of the user's own that leaves name as their experts, none for a pipeline that takes no leaves
    from the config; errors as of `resolve_leaves`.
    """
    leaves = [] if pipeline in WITHOUT_LEAVES else resolve_leaves(config)
    return [leaf.module for leaf in leaves if leaf.module and leaf.module.partition(".")[0] not in FLOORS]


def resolve_leaf(name: str, config: Config) -> Leaf:
    """An expert's leaf, from `experts.folder` if it stands there, with the run's overrides applied; errors as
    of `resolve_leaves`.
    """
    config = learning_config(config)
    _refuse_name(name, config)
    path = _leaf_path(name, config)
    expert, overrides = name.split("/")[0], config.experts.overrides
    meant = dict.fromkeys((expert, config.experts.names.get(name, expert)))
    leaf = load_leaf(path, {one: overrides[one] for one in meant if one in overrides})
    if "transform" not in leaf.model_fields_set:
        leaf = leaf.model_copy(update={"transform": config.labels.transform})
    found = f"{leaf.expert}/{leaf.period}/{leaf.modality}"
    if found != name:
        raise ConfigError(
            f"{path} stands at {name} but says that it is {found}. Mend its expert, period or modality, or"
            " move it."
        )
    if leaf.period != config.market.period and is_neural(leaf):
        raise ConfigError(
            f"experts.leaves names {name}, but market.period is {config.market.period}: {expert} reads"
            f" windows of bars, and there are no windows of {leaf.period} in such a run. Write"
            f" {expert}/{config.market.period}/{leaf.modality}, or name a tree or linear expert of"
            f" {leaf.period}, such as lightgbm/{leaf.period}/base."
        )
    if leaf.modality == "rich" and not _has_rich_inputs(config):
        raise ConfigError(
            f"experts.leaves names {name}, but no input is rich: it would learn from the same inputs as"
            f" {expert}/{leaf.period}/base. Write that, or name a table with modality: rich in fusion.tables."
        )
    places = dict.fromkeys(("target", "horizon", "also"), str(path))
    places |= {
        key: f"{path}, experts.overrides.{one}"
        for one in meant
        for key in overrides.get(one, {})
        if key in places
    }
    _refuse_tasks(leaf, places, config)
    return leaf


def learned(leaf: Leaf, config: Config) -> tuple[str, int]:
    """The target and horizon that a leaf learns: its own, else the run's."""
    return leaf.target or config.labels.target, leaf.horizon or config.labels.primary_horizon


def tasks_of(leaf: Leaf, config: Config) -> tuple[tuple[str, int], ...]:
    """The (target, horizon) that a leaf learns, its own first."""
    return (learned(leaf, config), *((task.target, task.horizon) for task in leaf.also))


def run_name(leaf: Leaf, config: Config) -> str:
    """What a leaf is called in the run; its expert where the run does not train it."""
    return config.experts.names.get(f"{leaf.expert}/{leaf.period}/{leaf.modality}", leaf.expert)


def unused_overrides(config: Config) -> list[str]:
    """Experts that `experts.overrides` names but no leaf of the run is of."""
    used = {*config.experts.names.values(), *(leaf.split("/")[0] for leaf in config.experts.leaves)}
    return [name for name in config.experts.overrides if name not in used]


def beside_leaves(name: str, expert: str, config: Config) -> Path:
    """The file `name` of an expert: that in `experts.folder` if it stands there, else Alphaloop's own, which
    may be missing.
    """
    own = Path(config.experts.folder).absolute() / expert / name
    return own if config.experts.folder and own.exists() else LEAVES / expert / name


def _leaf_path(name: str, config: Config) -> Path:
    own = Path(config.experts.folder).absolute() / f"{name}.yaml"
    return own if config.experts.folder and own.exists() else LEAVES / f"{name}.yaml"


def _refuse_name(name: str, config: Config) -> None:
    """ConfigError where the name alone tells that a leaf can't be trained."""
    period, parts = config.market.period, name.split("/")
    where = f"experts.leaves names {name!r}"
    if len(parts) != 3:
        raise ConfigError(
            f"{where}, which is no leaf. Write expert/period/modality, such as"
            f" {parts[0] or 'lightgbm'}/{period}/base."
        )
    expert, of, modality = parts
    there = _known_leaves(config)
    experts = sorted({leaf.split("/")[0] for leaf in there})
    if expert not in experts:
        close = difflib.get_close_matches(expert.lower(), experts, n=1)
        advice = f"Did you mean {close[0]}/{period}/base? " if close else ""
        raise ConfigError(
            f"{where}, but there is no expert {expert!r}. {advice}There are {', '.join(experts)}."
        )
    if modality not in MODALITIES:
        raise ConfigError(f"{where}, but a modality is base or rich. Write {expert}/{period}/base.")
    if is_of_ticks(period) or is_of_ticks(of):
        _refuse_other_samples(where, name, period, config)
        return
    if of not in PERIODS:
        coarser = [one for one in PERIODS if is_coarser(one, period)]
        others = f", or one of a coarser period ({', '.join(coarser)})" if coarser else ""
        raise ConfigError(
            f"{where}, but market.period is {period}, and {of!r} is no period. Write"
            f" {expert}/{period}/{modality}{others}."
        )
    if is_coarser(period, of):
        raise ConfigError(
            f"{where}, but market.period is {period}: bars of {of} can't be made from longer ones. Write"
            f" {expert}/{period}/{modality}, or set market.period to the period of the bars."
        )
    _refuse_missing(where, name, config)


def _refuse_other_samples(where: str, name: str, period: str, config: Config) -> None:
    """ConfigError where a leaf of bars is to learn from samples of order books, or the reverse, or a leaf of
    other samples.
    """
    expert, of, modality = name.split("/")
    if of != period:
        kind = f"samples of {period}" if is_of_ticks(period) else f"bars of {period}"
        raise ConfigError(
            f"{where}, but this run is on {kind}, and none can be made from the other. Write"
            f" {expert}/{period}/{modality}"
            + (f", or set tick_features.sample: {of}." if {of, period} <= set(TICK_LENGTHS) else ".")
        )
    _refuse_missing(where, name, config)


def _refuse_missing(where: str, name: str, config: Config) -> None:
    """ConfigError where there is no leaf of this name."""
    expert, of, _ = name.split("/")
    there = _known_leaves(config)
    if name not in there:
        own = [leaf for leaf in there if leaf.startswith(f"{expert}/{of}/")]
        advice = f"Write {own[0]}" if own else f"Write a leaf {name}.yaml into experts.folder"
        raise ConfigError(f"{where}, but there is no such leaf. {advice}.")


def _known_leaves(config: Config) -> set[str]:
    own = config.experts.folder
    return {*list_leaves(LEAVES), *(list_leaves(own) if own else ())}


def _has_rich_inputs(config: Config) -> bool:
    settings = FeaturesSettings.model_validate_json(features_json(config))
    return any(entry.modality == "rich" for entry in catalog(settings, config.market.period))


def _refuse_tasks(leaf: Leaf, places: Mapping[str, str], config: Config) -> None:
    """ConfigError where a leaf names a label that is not made, or one task twice; `places` say where its keys
    stand.
    """
    for key, name, bars in (
        ("target", leaf.target, None),
        ("horizon", None, leaf.horizon),
        *(("also", task.target, task.horizon) for task in leaf.also),
    ):
        _refuse_label(f"{places[key]}: `{key}`", name, bars, config)
    told = tasks_of(leaf, config)
    for number, (target, horizon) in enumerate(told):
        if (target, horizon) in told[:number]:
            raise ConfigError(
                f"{places['also']}: `also` names {target} over {horizon} bars, which the leaf learns already."
                " Take it out."
            )


def _refuse_label(where: str, target: str | None, horizon: int | None, config: Config) -> None:
    """ConfigError where a label is not made; `where` begins the message."""
    made = config.labels.horizons
    if horizon is not None and horizon not in made:
        raise ConfigError(
            f"{where} names horizon {horizon}, which is not made. Add it to labels.horizons"
            f" ({', '.join(map(str, made))}), or take one of those."
        )
    kinds = {**LABELS.columns, **LABELS.optional}
    labels = [name for name, kind in kinds.items() if kind.is_numeric() and name not in LABELS.key]
    if target is not None and target not in labels:
        close = difflib.get_close_matches(target, labels, n=1)
        advice = f"Did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{where} names the target {target!r}, which is no label. {advice}Take one of"
            f" {', '.join(labels)}."
        )
