"""Tasks of the experts: the inputs chosen for them, one training each, and the stack of their predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.contracts.documents.experts import SHARED_CODE_END
from components.experts.component import find_trained, train_expert
from components.experts.leaves import FAMILIES, Leaf
from components.experts.trained import give_tokens
from components.fusion.component import make_learnable
from components.lasting.folder import below
from components.selection.component import draw_selection, select_factors
from components.settings import ConfigError
from components.stacking.component import build_oof, stack, stack_splits
from pipelines.code_version import code_version
from pipelines.config import Config, section_json, timeline_json, walk_json
from pipelines.graphs.arrange import Arrange, side_by_side
from pipelines.graphs.data import Source, TrainingData
from pipelines.graphs.lineage import lineage
from pipelines.lasting import lasting_folder
from pipelines.leaves import learned, run_name

# Tokens that one task `find_trained` gives: KFP knows no open number of outputs.
TOKENS_AT_ONCE = 8
LINEAR_EXPERTS = ("elasticnet", "median_regression")


@dataclass(frozen=True)
class ExpertInputs:
    """What experts learn from: the training data, the chosen inputs by family and modality, the rows that may
    be learned from by modality; pages by file name.
    """

    data: TrainingData
    selections: Mapping[tuple[str, str], PipelineChannel]
    learnable: Mapping[str, PipelineChannel]
    pages: Mapping[str, PipelineChannel]


@dataclass(frozen=True)
class Predictions:
    """The trained experts, gathered; their out-of-fold table; the stack; all pages so far; and the
    predictions of the cross-validation, None where there is none.
    """

    experts: PipelineChannel
    oof: Mapping[str, PipelineChannel]
    stack: Mapping[str, PipelineChannel]
    pages: Mapping[str, PipelineChannel]
    crossed: PipelineChannel | None


def to_expert_inputs(
    config: Config, arrange: Arrange, data: TrainingData, leaves: list[Leaf]
) -> ExpertInputs:
    """Tasks that choose inputs for the experts and find the rows they may learn from."""
    if config.selection.mode != "off":
        require_trained("selection.experts", config.selection.experts, config)
        _refuse_to_choose_for_coarser(config, leaves)
    selections, pages = {}, dict(data.pages)
    for family, modality in sorted(
        {(family_of(leaf), leaf.modality) for leaf in leaves if _selects(config, leaf)}
    ):
        found = _select(config, arrange, data, family, modality)
        selections[family, modality] = found["selection"]
        pages[f"selection_{family}_{modality}.html"] = found["page"]
    modalities = sorted({leaf.modality for leaf in leaves}) if config.fusion.tables else ()
    learnable = {modality: _learnable(config, arrange, data, modality) for modality in modalities}
    return ExpertInputs(data, selections, learnable, pages)


def _select(
    config: Config, arrange: Arrange, data: TrainingData, family: str, modality: str
) -> dict[str, PipelineChannel]:
    """The tasks that choose inputs and draw the page on that; returns the outputs of both."""
    chosen = arrange(
        select_factors(
            training_set=data.training_set,
            labels=data.labels,
            catalog=data.catalog,
            settings=section_json(config.selection),
            timeline=timeline_json(config),
            family=family,
            modality=modality,
            horizon=config.labels.primary_horizon,
            target=config.labels.target,
            seed=config.run.seed,
            transform=config.labels.transform,
            code=code_version(select_factors),
        ),
        f"select for {modality} {family} models",
    ).outputs
    drawn = arrange(
        draw_selection(
            overview=chosen["overview"], evidence=chosen["evidence"], code=code_version(draw_selection)
        ),
        f"selection page for {modality} {family} models",
    )
    return {**chosen, **drawn.outputs}


def _learnable(config: Config, arrange: Arrange, data: TrainingData, modality: str) -> PipelineChannel:
    return arrange(
        make_learnable(
            training_set=data.training_set,
            catalog=data.catalog,
            settings=section_json(config.fusion),
            modality=modality,
            code=code_version(make_learnable),
        ),
        f"rows for {modality} experts",
    ).outputs["learnable"]


def require_trained(setting: str, experts: tuple[str, ...], config: Config) -> None:
    """ConfigError where `setting` names an expert that this configuration does not train."""
    trained = sorted(config.experts.names.values())
    unknown = [name for name in experts if name not in trained]
    if unknown:
        raise ConfigError(
            f"{setting} names the expert {unknown[0]!r}, which is not trained. Choose from"
            f" {', '.join(trained)}, or add its leaf to experts.leaves."
        )


def family_of(leaf: Leaf) -> str:
    """Whether inputs for this expert are chosen by linear models or by trees."""
    return "linear" if leaf.expert in LINEAR_EXPERTS else "tree"


def _selects(config: Config, leaf: Leaf) -> bool:
    """Whether the expert sees chosen inputs only: never one of a coarser period, whose inputs are not chosen
    from.
    """
    settings = config.selection
    if settings.mode == "off" or leaf.period != config.market.period:
        return False
    return _is_named(leaf, settings.experts, config) if settings.experts else leaf.expert != "median"


def _refuse_to_choose_for_coarser(config: Config, leaves: Sequence[Leaf]) -> None:
    """ConfigError where inputs shall be chosen for an expert of a coarser period by its name in the run."""
    coarser = [run_name(leaf, config) for leaf in leaves if leaf.period != config.market.period]
    named = [name for name in config.selection.experts if name in coarser]
    if named:
        raise ConfigError(
            f"selection.experts names {named[0]!r}, which learns from bars longer than market.period="
            f"{config.market.period}: inputs are chosen among those of {config.market.period} only. Take it"
            " out; it sees all inputs of its period."
        )


def _is_named(leaf: Leaf, experts: Sequence[str], config: Config) -> bool:
    """Whether a setting that lists experts means this leaf: by its expert, or by its name in the run."""
    return leaf.expert in experts or run_name(leaf, config) in experts


def expert_tasks(
    config: Config,
    arrange: Arrange,
    inputs: ExpertInputs,
    leaves: Sequence[Leaf],
    folder: str,
    *,
    warm_from: str = "",
    cached: bool = True,
) -> dict[str, dsl.PipelineTask]:
    """The tasks that train each a leaf, by its name in the run; one asks a cluster for a GPU where the config
    says so.
    """
    names = {run_name(leaf, config): leaf for leaf in leaves}
    given = {
        name: _arguments(config, inputs, leaf, f"{folder}/experts/{name}", warm_from)
        for name, leaf in names.items()
    }
    kept = below(lasting_folder(config, folder), "trained")
    tokens = _tokens(arrange, inputs.data.source, given, kept)
    tasks = {}
    for name, leaf in names.items():
        task = train_expert(**given[name], token=tokens[name], trained_folder=kept)
        gpus = leaf.processes if _is_named(leaf, config.experts.gpu, config) else 0
        tasks[name] = arrange(task, f"train {name}", cached=cached, gpus=gpus)
    return tasks


def _arguments(
    config: Config, inputs: ExpertInputs, leaf: Leaf, work_folder: str, warm_from: str
) -> dict[str, Any]:
    """Arguments of the task that trains a leaf, but for what tells one training from the next."""
    target, horizon = learned(leaf, config)
    chosen = (
        {"selection": inputs.selections[family_of(leaf), leaf.modality]} if _selects(config, leaf) else {}
    )
    rows = {"learnable": inputs.learnable[leaf.modality]} if leaf.modality in inputs.learnable else {}
    return dict(
        training_set=inputs.data.training_set,
        labels=inputs.data.labels,
        catalog=inputs.data.catalog,
        leaf=section_json(leaf.named(run_name(leaf, config))),
        timeline=timeline_json(config),
        period=config.market.period,
        horizon=horizon,
        target=target,
        seed=config.run.seed,
        work_folder=work_folder,
        warm_from=warm_from,
        code=expert_code(leaf),
        **chosen,
        **rows,
    )


def _tokens(
    arrange: Arrange, source: Source, given: Mapping[str, Mapping[str, Any]], kept: str
) -> Mapping[str, str | PipelineChannel]:
    """The token of each training, see `components.experts.trained`: looked up right away where the data are
    seen from here, else by a task.
    """
    lineages = {name: lineage(train_expert.name, arguments) for name, arguments in given.items()}
    if isinstance(source.market, str):
        return give_tokens(lineages, (source.market, str(source.slow)), kept)
    names, tokens = list(lineages), {}
    for begin in range(0, len(names), TOKENS_AT_ONCE):
        some = names[begin : begin + TOKENS_AT_ONCE]
        found = arrange(
            find_trained(
                lineages=[lineages[name] for name in some],
                source=source.market,
                slow=source.slow,
                trained_folder=kept,
            ),
            "earlier trainings",
            cached=False,
        )
        tokens |= {name: found.outputs[f"expert_{number}"] for number, name in enumerate(some, start=1)}
    return tokens


def expert_code(leaf: Leaf) -> str:
    """The version of the code that trains a leaf: that of the door, which all experts of a run share, and
    that of the door with the leaf's own family and no other.
    """
    own = code_version(train_expert, leaf.module or f"{FAMILIES}.{leaf.expert}")
    return f"{code_version(train_expert)}{SHARED_CODE_END}{own}"


def to_predictions(
    config: Config, arrange: Arrange, data: TrainingData, leaves: list[Leaf], folder: str
) -> Predictions:
    """Tasks from the training set to the out-of-fold predictions and their stack."""
    inputs = to_expert_inputs(config, arrange, data, leaves)
    tasks = expert_tasks(config, arrange, inputs, leaves, folder)
    trained = {name: task.outputs["expert"] for name, task in tasks.items()}
    experts = side_by_side(arrange, "experts", trained)
    table = arrange(
        build_oof(
            labels=data.labels,
            training_set=data.training_set,
            target=config.labels.target,
            horizon=config.labels.primary_horizon,
            settings=section_json(config.stacking),
            code=code_version(build_oof),
            experts=experts,
        ),
        "out-of-fold table",
    )
    stacked = arrange(
        stack(
            oof=table.outputs["oof"],
            predictions=table.outputs["predictions"],
            training_set=data.training_set,
            target=config.labels.target,
            horizon=config.labels.primary_horizon,
            settings=section_json(config.stacking),
            timeline=walk_json(config),
            seed=config.run.seed,
            code=code_version(stack),
        ),
        "stack",
    )
    return Predictions(
        experts,
        oof=table.outputs,
        stack=stacked.outputs,
        pages=inputs.pages,
        crossed=_crossed(config, arrange, data, experts),
    )


def _crossed(
    config: Config, arrange: Arrange, data: TrainingData, experts: PipelineChannel
) -> PipelineChannel | None:
    """The task that combines what the experts predicted in a cross-validation, where the timeline asks for
    one; returns the table.
    """
    if config.timeline.scheme == "walk_forward":
        return None
    return arrange(
        stack_splits(
            labels=data.labels,
            training_set=data.training_set,
            experts=experts,
            target=config.labels.target,
            horizon=config.labels.primary_horizon,
            settings=section_json(config.stacking),
            timeline=timeline_json(config),
            seed=config.run.seed,
            code=code_version(stack_splits),
        ),
        "stack of the cross-validation",
    ).outputs["predictions"]
