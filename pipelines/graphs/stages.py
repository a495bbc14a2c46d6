"""What the pipelines have in common: how a task is arranged for cache, cluster and retries, and the way from
source to factors.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from components.audit.component import audit_leaks
from components.backtest.component import backtest
from components.drift.component import make_reference
from components.experts.component import train_expert
from components.experts.leaves import Leaf
from components.feature_store.component import make_training_set, materialise
from components.features.component import build_features
from components.fusion.component import fuse, make_learnable
from components.gates.component import judge
from components.gather.component import gather
from components.labels.component import make_labels
from components.market.component import ingest
from components.registry.component import read_champion, register
from components.report.component import write_report
from components.selection.component import select_factors
from components.settings import ConfigError
from components.stacking.component import build_oof, stack
from components.validation.component import validate
from pipelines.code_version import code_version, module_version
from pipelines.config import Config, features_json, section_json

FACTOR_BUILDER = "components.features.build:build_factors"
LINEAR_EXPERTS = ("elasticnet",)
LABEL_BUILDER = "components.labels.build:build_labels"

Arrange = Callable[..., dsl.PipelineTask]


def arranger(config: Config, retries: int) -> Arrange:
    """A function that gives a task its title, cache switch, resource limits, volume and retries."""

    def arrange(task: dsl.PipelineTask, title: str, *, cached: bool = True) -> dsl.PipelineTask:
        task.set_display_name(title)
        task.set_caching_options(cached)
        task.set_memory_limit(config.cluster.memory_limit).set_cpu_limit(config.cluster.cpu_limit)
        if retries:
            task.set_retry(retries, backoff_duration="30s")
        if config.cluster.volume_claim:
            kubernetes.mount_pvc(
                task, pvc_name=config.cluster.volume_claim, mount_path=config.cluster.mount_path
            )
        return task

    return arrange


def gather_artifacts(arrange: Arrange, what: str, items: Mapping[str, PipelineChannel]) -> PipelineChannel:
    """The task that lays `items` side by side under their names; returns its folder."""
    slots = {f"item_{number}": item for number, item in enumerate(items.values(), start=1)}
    task = gather(what=what, names=list(items), code=code_version("gather"), **slots)
    return arrange(task, f"gather {what}").outputs["gathered"]


def source_to_factors(config: Config, arrange: Arrange, source: str, folder: str) -> SimpleNamespace:
    """Tasks from the market data to the factors.

    Returns `truth, panel, quarantine, health, data_docs, fused, factors, catalog` and `pages`.

    `source` is the content hash of the market data and of the slow tables: an argument of the task, so a
    changed file is never answered from the cache. Where it is empty (data out of sight, on a cluster's
    volume) the task is never cached.
    """
    market, _, slow = source.partition("-")
    raw = arrange(
        ingest(
            settings=section_json(config.market),
            seed=config.run.seed,
            source=market,
            code=code_version("market"),
        ),
        "ingest",
        cached=bool(source),
    ).outputs
    valid = arrange(
        validate(
            panel=raw["panel"], settings=section_json(config.validation), code=code_version("validation")
        ),
        "validation",
    ).outputs
    fused, pages = {}, {}
    if config.fusion.tables:
        joined = arrange(
            fuse(
                panel=valid["clean"],
                settings=section_json(config.fusion),
                source=slow,
                code=code_version("fusion"),
            ),
            "fusion",
            cached=bool(source),
        ).outputs
        fused, pages = {"fused": joined["fused"]}, {"fusion.html": joined["page"]}
    features = arrange(
        build_features(
            panel=valid["clean"],
            settings=features_json(config),
            period=config.market.period,
            code=code_version("features"),
            kept=f"{folder}/factors.parquet",
            **fused,
        ),
        "features",
    ).outputs
    return SimpleNamespace(
        truth=raw["truth"],
        panel=valid["clean"],
        quarantine=valid["quarantine"],
        health=valid["health"],
        data_docs=valid["data_docs"],
        fused=fused,
        pages=pages,
        factors=features["factors"],
        catalog=features["catalog"],
    )


def publish(config: Config, arrange: Arrange, data: SimpleNamespace, folder: str) -> dsl.PipelineTask:
    """The task that hands the factors to Feast.

    A cluster never answers it from its cache: whether the store on the volume still stands can't be seen from
    there.
    """
    return arrange(
        materialise(
            factors=data.factors,
            catalog=data.catalog,
            settings=section_json(config.feature_store),
            folder=f"{folder}/feature_store",
            period=config.market.period,
            code=store_code(),
        ),
        "materialise",
        cached=not config.cluster.volume_claim,
    )


def to_labels(config: Config, arrange: Arrange, data: SimpleNamespace) -> None:
    """The task that makes the labels; adds `labels` to `data`."""
    data.labels = arrange(
        make_labels(panel=data.panel, settings=section_json(config.labels), code=code_version("labels")),
        "labels",
    ).outputs["labels"]


def to_training_set(config: Config, arrange: Arrange, data: SimpleNamespace, folder: str) -> None:
    """Tasks from the factors and labels to the point-in-time training set; adds `audit, feature_registry,
    training_set` to `data`.
    """
    audited = arrange(
        audit_leaks(
            panel=data.panel,
            factors=data.factors,
            labels=data.labels,
            catalog=data.catalog,
            builder=FACTOR_BUILDER,
            builder_settings=features_json(config),
            label_builder=LABEL_BUILDER,
            label_settings=section_json(config.labels),
            settings=section_json(config.audit),
            code=code_version("audit", also=("components/features", "components/labels")),
            seed=config.run.seed,
            **data.fused,
        ),
        "audit",
    )
    data.audit, data.pages["audit.html"] = audited.outputs["audit"], audited.outputs["page"]
    data.feature_registry = publish(config, arrange, data, folder).after(audited).outputs["registry"]
    data.training_set = arrange(
        make_training_set(
            factors=data.factors,
            panel=data.panel,
            catalog=data.catalog,
            registry=data.feature_registry,
            settings=section_json(config.feature_store),
            folder=f"{folder}/feature_store",
            code=store_code(),
        ),
        "training set",
    ).outputs["training_set"]


def to_expert_inputs(config: Config, arrange: Arrange, data: SimpleNamespace, leaves: list[Leaf]) -> None:
    """Tasks that choose inputs for the experts and find the rows they may learn from; adds `selections` by
    family and modality, and `learnable` by modality.
    """
    if config.selection.mode != "off":
        require_trained("selection.experts", config.selection.experts, config, leaves)
    data.selections, data.learnable = {}, {}
    for family, modality in sorted(
        {(family_of(leaf), leaf.modality) for leaf in leaves if _selects(config, leaf)}
    ):
        chosen = arrange(
            select_factors(
                training_set=data.training_set,
                labels=data.labels,
                catalog=data.catalog,
                settings=section_json(config.selection),
                timeline=section_json(config.timeline),
                family=family,
                modality=modality,
                horizon=config.labels.primary_horizon,
                target=config.labels.target,
                seed=config.run.seed,
                code=code_version("selection"),
            ),
            f"select for {modality} {family} models",
        ).outputs
        data.selections[family, modality], data.pages[f"selection_{family}_{modality}.html"] = (
            chosen["selection"],
            chosen["page"],
        )
    for modality in sorted({leaf.modality for leaf in leaves}) if config.fusion.tables else ():
        data.learnable[modality] = arrange(
            make_learnable(
                training_set=data.training_set,
                catalog=data.catalog,
                settings=section_json(config.fusion),
                modality=modality,
                code=code_version("fusion"),
            ),
            f"rows for {modality} experts",
        ).outputs["learnable"]


def require_trained(setting: str, experts: tuple[str, ...], config: Config, leaves: list[Leaf]) -> None:
    """ConfigError where `setting` names an expert that this configuration does not train."""
    trained = sorted(
        {*(name.split("/")[0] for name in config.experts.leaves), *(leaf.expert for leaf in leaves)}
    )
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
    """Whether the expert sees chosen inputs only."""
    settings = config.selection
    return settings.mode != "off" and (
        leaf.expert in settings.experts if settings.experts else leaf.expert != "median"
    )


def expert_task(
    config: Config,
    arrange: Arrange,
    data: SimpleNamespace,
    leaf: Leaf,
    folder: str,
    *,
    warm_from: str = "",
    cached: bool = True,
) -> dsl.PipelineTask:
    """The task that trains one expert, after `to_expert_inputs`; it asks a cluster for a GPU where the config
    says so.
    """
    chosen = {"selection": data.selections[family_of(leaf), leaf.modality]} if _selects(config, leaf) else {}
    rows = {"learnable": data.learnable[leaf.modality]} if leaf.modality in data.learnable else {}
    task = arrange(
        train_expert(
            training_set=data.training_set,
            labels=data.labels,
            catalog=data.catalog,
            leaf=leaf.model_dump_json(),
            timeline=section_json(config.timeline),
            period=config.market.period,
            horizon=config.labels.primary_horizon,
            target=config.labels.target,
            seed=config.run.seed,
            work_folder=f"{folder}/experts/{leaf.expert}",
            warm_from=warm_from,
            code=code_version("experts") + module_version(leaf.module),
            **chosen,
            **rows,
        ),
        f"train {leaf.expert}",
        cached=cached,
    )
    if leaf.expert in config.experts.gpu:
        task.set_accelerator_type(config.experts.gpu_resource).set_accelerator_limit(leaf.processes)
    return task


def to_predictions(
    config: Config, arrange: Arrange, data: SimpleNamespace, leaves: list[Leaf], folder: str
) -> tuple[PipelineChannel, dsl.PipelineTask, dsl.PipelineTask]:
    """Tasks from the training set to the out-of-fold predictions; returns the gathered experts, and the tasks
    of the table and the stack.
    """
    to_expert_inputs(config, arrange, data, leaves)
    trained = {
        leaf.expert: expert_task(config, arrange, data, leaf, folder).outputs["expert"] for leaf in leaves
    }
    experts = gather_artifacts(arrange, "experts", trained)
    table = arrange(
        build_oof(
            labels=data.labels,
            training_set=data.training_set,
            settings=section_json(config.stacking),
            code=code_version("stacking"),
            experts=experts,
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
    return experts, table, stacked


def to_judged_model(
    config: Config,
    arrange: Arrange,
    data: SimpleNamespace,
    leaves: list[Leaf],
    folder: str,
    *,
    newest_only: bool = False,
) -> dsl.PipelineTask:
    """Tasks from the training set to the judged, registered model and its report; returns the task of the
    registry.

    `newest_only`: the candidate has to beat the champion on bars that are newer than the champion's training
    data.
    """
    experts, table, stacked = to_predictions(config, arrange, data, leaves, folder)
    predictions = stacked.outputs["all_predictions"]
    reference = arrange(
        make_reference(
            training_set=data.training_set,
            labels=data.labels,
            predictions=predictions,
            catalog=data.catalog,
            settings=section_json(config.drift),
            timeline=section_json(config.timeline),
            code=code_version("drift"),
        ),
        "drift reference",
    )
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
        read_champion(
            settings=section_json(config.registry),
            name=config.run.name,
            folder=f"{folder}/registry",
            training_set=data.training_set,
            feature_registry=data.feature_registry,
        ),
        "champion",
        cached=False,
    ).after(tested)  # as late as can be: a person may promote another one while this one is in training
    judged = arrange(
        judge(
            evaluation=tested.outputs["evaluation"],
            predictions=predictions,
            labels=data.labels,
            returns=tested.outputs["returns"],
            champion=champion.outputs["champion"],
            settings=section_json(config.gates),
            code=code_version("gates"),
            newest_only=newest_only,
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
            reference=reference.outputs["reference"],
            experts=experts,
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
            experts=experts,
            pages=gather_artifacts(arrange, "pages", data.pages),
        ),
        "report",
        cached=False,
    )
    return registered


def store_code() -> str:
    """Code version of everything that touches Feast."""
    return code_version("feature_store", also=("feature_repo",))
