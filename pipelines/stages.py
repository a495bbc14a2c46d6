"""What the pipelines have in common: how a task is arranged for cache, cluster and retries, and the way from source to factors."""

from collections.abc import Callable
from types import SimpleNamespace

from kfp import dsl, kubernetes

from components.audit.component import audit_leaks
from components.experts.component import train_expert
from components.experts.leaves import Leaf
from components.feature_store.component import make_training_set, materialise
from components.features.component import build_features
from components.labels.component import make_labels
from components.market.component import ingest
from components.validation.component import validate
from pipelines.code_version import code_version, module_version
from pipelines.config import Config, section_json

FACTOR_BUILDER = "components.features.build:build_factors"
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
            kubernetes.mount_pvc(task, pvc_name=config.cluster.volume_claim, mount_path=config.cluster.mount_path)
        return task

    return arrange


def source_to_factors(config: Config, arrange: Arrange, source: str) -> SimpleNamespace:
    """Tasks from the market data to the factors. Returns `truth, panel, quarantine, health, data_docs, factors, catalog`.

    `source` is the content hash of the market data: an argument of the task, so a changed file is never answered from
    the cache. Where it is empty (data out of sight, on a cluster's volume) the task is never cached.
    """
    raw = arrange(
        ingest(settings=section_json(config.market), seed=config.run.seed, source=source, code=code_version("market")),
        "ingest",
        cached=bool(source),
    ).outputs
    valid = arrange(
        validate(panel=raw["panel"], settings=section_json(config.validation), code=code_version("validation")),
        "validation",
    ).outputs
    features = arrange(
        build_features(panel=valid["clean"], settings=section_json(config.features), period=config.market.period, code=code_version("features")),
        "features",
    ).outputs
    return SimpleNamespace(
        truth=raw["truth"],
        panel=valid["clean"],
        quarantine=valid["quarantine"],
        health=valid["health"],
        data_docs=valid["data_docs"],
        factors=features["factors"],
        catalog=features["catalog"],
    )


def publish(config: Config, arrange: Arrange, data: SimpleNamespace, folder: str) -> dsl.PipelineTask:
    """The task that hands the factors to Feast. A cluster never answers it from its cache: whether the store on the volume still stands can't be seen from there."""
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


def to_training_set(config: Config, arrange: Arrange, data: SimpleNamespace, folder: str) -> None:
    """Tasks from the factors to the point-in-time training set; adds `labels, audit, feature_registry, training_set` to `data`."""
    data.labels = arrange(
        make_labels(panel=data.panel, settings=section_json(config.labels), code=code_version("labels")),
        "labels",
    ).outputs["labels"]
    audited = arrange(
        audit_leaks(
            panel=data.panel,
            factors=data.factors,
            labels=data.labels,
            catalog=data.catalog,
            builder=FACTOR_BUILDER,
            builder_settings=section_json(config.features),
            label_builder=LABEL_BUILDER,
            label_settings=section_json(config.labels),
            settings=section_json(config.audit),
            code=code_version("audit", also=("components/features", "components/labels")),
            seed=config.run.seed,
        ),
        "audit",
    )
    data.audit = audited.outputs["audit"]
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


def expert_task(config: Config, arrange: Arrange, data: SimpleNamespace, leaf: Leaf, folder: str, *, warm_from: str = "", cached: bool = True) -> dsl.PipelineTask:
    """The task that trains one expert; it asks a cluster for a GPU where the config says so."""
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
        ),
        f"train {leaf.expert}",
        cached=cached,
    )
    if leaf.expert in config.experts.gpu:
        task.set_accelerator_type(config.experts.gpu_resource).set_accelerator_limit(1)
    return task


def store_code() -> str:
    """Code version of everything that touches Feast."""
    return code_version("feature_store", also=("feature_repo",))
