"""Tasks from the source to the training set: panel, slow tables, factors, labels, the feature store."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.audit.component import audit_leaks
from components.feature_store.component import make_training_set, materialise
from components.features.component import build_features
from components.fusion.component import draw_fusion, find_slow_source, fuse
from components.labels.component import make_labels
from components.lasting.folder import below
from components.market.component import find_source, ingest, make_universe
from components.validation.component import check_plan, draw_validation, validate
from pipelines.code_version import code_version
from pipelines.config import Config, features_json, section_json
from pipelines.demands import demands_json, origin
from pipelines.graphs.arrange import Arrange
from pipelines.lasting import lasting_folder

FACTOR_BUILDER = "components.features.build:build_factors"
LABEL_BUILDER = "components.labels.build:build_labels"


@dataclass(frozen=True)
class Source:
    """Content hashes of the market data and of the slow tables, empty where the config names none: known, or
    what the tasks that find them where the data lie hand over.
    """

    market: str | PipelineChannel
    slow: str | PipelineChannel


@dataclass(frozen=True)
class Fused:
    """What the slow tables add: columns to the panel, and a page. Empty where the config names no table."""

    columns: Mapping[str, PipelineChannel]
    pages: Mapping[str, PipelineChannel]


@dataclass(frozen=True)
class Market:
    """Outputs of the tasks from the source to the validated panel."""

    source: Source
    truth: PipelineChannel
    panel: PipelineChannel
    quarantine: PipelineChannel
    health: PipelineChannel
    data_docs: PipelineChannel


@dataclass(frozen=True)
class FactorData:
    """The market, and outputs of the tasks from there to the factors."""

    market: Market
    fused: Fused
    factors: PipelineChannel
    catalog: PipelineChannel


@dataclass(frozen=True)
class TrainingData:
    """Outputs of the tasks from factors and labels to the point-in-time training set; pages by file name."""

    source: Source
    universe: PipelineChannel
    labels: PipelineChannel
    catalog: PipelineChannel
    audit: PipelineChannel
    feature_registry: PipelineChannel
    training_set: PipelineChannel
    pages: Mapping[str, PipelineChannel]


def source_to_market(config: Config, arrange: Arrange, source: Source | None) -> Market:
    """Tasks from the market data to the validated panel.

    `source` holds the content hashes of the data, where they could be seen when the graph was built. Else the
    first tasks find them, never cached. As arguments of the tasks that read the data they keep a changed file
    from being answered from the cache, and let an unchanged one be.
    """
    source = source or _find_source(config, arrange)
    raw = arrange(
        ingest(
            settings=section_json(config.market.bars_only),
            seed=config.run.seed,
            source=source.market,
            code=code_version(ingest),
        ),
        "ingest",
        reads_data=True,
    ).outputs
    valid = _validate(config, arrange, raw["panel"])
    return Market(
        source=source,
        truth=raw["truth"],
        panel=valid["clean"],
        quarantine=valid["quarantine"],
        health=valid["health"],
        data_docs=valid["data_docs"],
    )


def source_to_factors(
    config: Config, arrange: Arrange, source: Source | None, folder: str, *, trained: bool = True
) -> FactorData:
    """Tasks from the market data to the factors; where models are `trained` on them, the panel is held
    against what that needs first. `source` as in `source_to_market`.
    """
    market = source_to_market(config, arrange, source)
    enough = [_plan(config, arrange, market.panel)] if trained else []
    fused = _fuse(config, arrange, market)
    built = arrange(
        build_features(
            panel=market.panel,
            settings=features_json(config),
            period=config.market.period,
            code=code_version(build_features),
            kept=f"{folder}/factors.parquet",
            **fused.columns,
        ),
        "features",
    )
    features = built.after(*enough).outputs
    return FactorData(market, fused, features["factors"], features["catalog"])


def _find_source(config: Config, arrange: Arrange) -> Source:
    """The tasks that hash the data where they lie."""
    market = arrange(
        find_source(settings=section_json(config.market.bars_only), seed=config.run.seed),
        "source",
        cached=False,
        reads_data=True,
    )
    if not config.fusion.tables:
        return Source(market.output, "")
    slow = arrange(
        find_slow_source(settings=section_json(config.fusion)),
        "source of slow tables",
        cached=False,
        reads_data=True,
    )
    return Source(market.output, slow.output)


def _validate(config: Config, arrange: Arrange, raw: PipelineChannel) -> dict[str, PipelineChannel]:
    """The tasks that judge the raw panel and draw the page on that; returns the outputs of both."""
    checked = arrange(
        validate(
            panel=raw,
            settings=section_json(config.validation),
            origin=origin(config),
            code=code_version(validate),
        ),
        "validation",
    ).outputs
    drawn = arrange(
        draw_validation(
            health=checked["health"], judgements=checked["judgements"], code=code_version(draw_validation)
        ),
        "data docs",
    )
    return {**checked, **drawn.outputs}


def _plan(config: Config, arrange: Arrange, panel: PipelineChannel) -> dsl.PipelineTask:
    """The task that stops a run for which the panel is not enough."""
    return arrange(
        check_plan(panel=panel, demands=demands_json(config), code=code_version(check_plan)), "plan"
    )


def _fuse(config: Config, arrange: Arrange, market: Market) -> Fused:
    """The tasks that join the slow tables and draw the page on that."""
    if not config.fusion.tables:
        return Fused({}, {})
    joined = arrange(
        fuse(
            panel=market.panel,
            settings=section_json(config.fusion),
            source=market.source.slow,
            code=code_version(fuse),
        ),
        "fusion",
        reads_data=True,
    ).outputs
    drawn = arrange(draw_fusion(report=joined["report"], code=code_version(draw_fusion)), "fusion page")
    return Fused({"fused": joined["fused"]}, {"fusion.html": drawn.outputs["page"]})


def to_universe(config: Config, arrange: Arrange, market: Market) -> PipelineChannel:
    """The task that finds which rows can be traded; returns their table."""
    task = make_universe(
        panel=market.panel,
        settings=section_json(config.market.universe),
        code=code_version(make_universe),
    )
    return arrange(task, "universe").outputs["universe"]


def publish(
    config: Config, arrange: Arrange, data: FactorData, universe: PipelineChannel, folder: str
) -> dsl.PipelineTask:
    """The task that hands the factors to Feast, and beside them the universe.

    Never answered from the cache where the store lies on a cluster's volume or at an address: whether it
    still stands can't be seen from there.
    """
    return arrange(
        materialise(
            factors=data.factors,
            catalog=data.catalog,
            panel=data.market.panel,
            universe=universe,
            settings=section_json(config.feature_store),
            folder=below(lasting_folder(config, folder), "feature_store"),
            period=config.market.period,
            code=code_version(materialise),
        ),
        "materialise",
        cached=not (config.cluster.volume_claim or config.run.store),
    )


def to_labels(config: Config, arrange: Arrange, market: Market) -> PipelineChannel:
    """The task that makes the labels; returns their table."""
    task = make_labels(
        panel=market.panel, settings=section_json(config.labels), code=code_version(make_labels)
    )
    return arrange(task, "labels").outputs["labels"]


def to_training_set(
    config: Config, arrange: Arrange, data: FactorData, labels: PipelineChannel, folder: str
) -> TrainingData:
    """Tasks from the factors and labels to the point-in-time training set."""
    builders = [builder.partition(":")[0] for builder in (FACTOR_BUILDER, LABEL_BUILDER)]
    # Where the whole history does not fit at once the audit has it from these, beside the builders.
    in_pieces = [f"{builder.rpartition('.')[0]}.in_pieces" for builder in builders]
    audited = arrange(
        audit_leaks(
            panel=data.market.panel,
            factors=data.factors,
            labels=labels,
            catalog=data.catalog,
            builder=FACTOR_BUILDER,
            builder_settings=features_json(config),
            label_builder=LABEL_BUILDER,
            label_settings=section_json(config.labels),
            settings=section_json(config.audit),
            code=code_version(audit_leaks, *builders, *in_pieces),
            seed=config.run.seed,
            **data.fused.columns,
        ),
        "audit",
    )
    universe = to_universe(config, arrange, data.market)
    published = publish(config, arrange, data, universe, folder).after(audited).outputs
    made = arrange(
        make_training_set(
            factors=data.factors,
            panel=data.market.panel,
            catalog=data.catalog,
            publication=published["Output"],
            period=config.market.period,
            settings=section_json(config.feature_store),
            folder=below(lasting_folder(config, folder), "feature_store"),
            code=code_version(make_training_set),
        ),
        "training set",
    )
    return TrainingData(
        source=data.market.source,
        universe=universe,
        labels=labels,
        catalog=data.catalog,
        audit=audited.outputs["audit"],
        feature_registry=published["registry"],
        training_set=made.outputs["training_set"],
        pages={**data.fused.pages, "audit.html": audited.outputs["page"]},
    )
