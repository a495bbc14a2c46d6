"""The ticks pipeline: from events of order books to experts, and to what a replay says that they could have
earned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.experts.leaves import Leaf
from components.gates.component import judge_ticks
from components.registry.component import register_ticks
from components.report.component import report_ticks
from components.stacking.component import build_oof
from components.tick_features.component import audit_tick_features, build_tick_features
from components.tick_labels.component import build_tick_labels, make_tick_training_set
from components.tick_replay.component import replay_ticks
from components.ticks.component import find_tick_source, ingest_ticks, validate_ticks
from pipelines.code_version import code_version
from pipelines.config import Config, learning_config, run_json, section_json
from pipelines.graphs.arrange import Arrange, Pods, arranger, closing_task, side_by_side
from pipelines.graphs.data import Source
from pipelines.graphs.experts import ExpertInputs, expert_tasks
from pipelines.lasting import lasting_folder


@dataclass(frozen=True)
class Events:
    """Outputs of the tasks from the source to validated ticks."""

    source: Source
    raw: PipelineChannel
    ticks: PipelineChannel
    delays: PipelineChannel
    page: PipelineChannel


@dataclass(frozen=True)
class Samples:
    """What experts learn from, as `TrainingData` of bars: features and labels of samples."""

    source: Source
    features: PipelineChannel
    training_set: PipelineChannel
    labels: PipelineChannel
    catalog: PipelineChannel
    audit_page: PipelineChannel


@dataclass(frozen=True)
class Learned:
    """The table of what all experts predicted, and the expert that is judged."""

    predictions: PipelineChannel
    judged: PipelineChannel


def ticks_pipeline(
    config: Config, *, source: Source | None, leaves: list[Leaf], folder: str, pods: Pods | None = None
) -> Callable:
    """The `ticks` pipeline of one configuration; parameters as in `training_pipeline`."""
    arrange = arranger(config, pods)

    @dsl.pipeline(
        name=f"alphaloop-ticks-{config.run.name}",
        description="Events of order books to models that are judged by a replay.",
    )
    def ticks():
        closing = closing_task(config, arrange, folder, "report")
        with dsl.ExitHandler(closing, name="ticks"):
            events = _events(config, arrange, source, folder)
            samples = _samples(config, arrange, events, folder)
            learned = _learned(config, arrange, samples, leaves, folder)
            predictions = learned.predictions
            replayed = _replay(config, arrange, events, samples, predictions, folder)
            verdict = _judge(config, arrange, samples, predictions, replayed)
            judged = {"verdict": verdict, "found": replayed["found"]}
            registration = _register(config, arrange, events, samples, learned, judged, folder)
            pages = {"events.html": events.page, "audit.html": samples.audit_page}
            _report(
                config,
                arrange,
                folder,
                raw=events.raw,
                ticks=events.ticks,
                predictions=predictions,
                labels=samples.labels,
                verdict=verdict,
                registration=registration,
                pages=side_by_side(arrange, "pages", pages),
                **replayed,
            )

    return ticks


def _events(config: Config, arrange: Arrange, source: Source | None, folder: str) -> Events:
    """Tasks from the source to events that can be relied on. `source` as in `source_to_market`."""
    settings = section_json(config.ticks)
    if source is None:
        found = find_tick_source(settings=settings, seed=config.run.seed)
        source = Source(arrange(found, "source", cached=False, reads_data=True).output, "")
    raw = arrange(
        ingest_ticks(
            settings=settings, seed=config.run.seed, source=source.market, code=code_version(ingest_ticks)
        ),
        "ingest ticks",
        reads_data=True,
    ).outputs
    valid = arrange(
        validate_ticks(
            raw=raw["raw"],
            settings=settings,
            work_folder=f"{folder}/pieces/ticks",
            code=code_version(validate_ticks),
        ),
        "validate ticks",
    ).outputs
    return Events(source, raw["raw"], valid["ticks"], valid["delays"], valid["page"])


def _samples(config: Config, arrange: Arrange, events: Events, folder: str) -> Samples:
    """Tasks from events to the features and labels of samples."""
    features = arrange(
        build_tick_features(
            ticks=events.ticks,
            settings=section_json(config.tick_features),
            work_folder=f"{folder}/pieces/tick_features",
            code=code_version(build_tick_features),
        ),
        "tick features",
    ).outputs
    audited = arrange(
        audit_tick_features(
            ticks=events.ticks,
            features=features["features"],
            settings=section_json(config.tick_features),
            code=code_version(audit_tick_features),
        ),
        "tick features audit",
    )
    labels = arrange(
        build_tick_labels(
            ticks=events.ticks,
            features=features["features"],
            delays=events.delays,
            settings=section_json(config.tick_labels),
            work_folder=f"{folder}/pieces/tick_labels",
            code=code_version(build_tick_labels),
        ),
        "tick labels",
    ).outputs["labels"]
    learned = arrange(
        make_tick_training_set(features=features["features"], code=code_version(make_tick_training_set)),
        "tick training set",
    )
    return Samples(
        events.source,
        features["features"],
        learned.after(audited).outputs["training_set"],
        labels,
        features["catalog"],
        audited.outputs["page"],
    )


def _learned(config: Config, arrange: Arrange, samples: Samples, leaves: list[Leaf], folder: str) -> Learned:
    """Tasks that train the experts and lay what they predict side by side."""
    learning = learning_config(config)
    tasks = expert_tasks(learning, arrange, ExpertInputs(samples, {}, {}, {}), leaves, folder)
    trained = {name: task.outputs["expert"] for name, task in tasks.items()}
    table = arrange(
        build_oof(
            labels=samples.labels,
            training_set=samples.training_set,
            target=learning.labels.target,
            horizon=learning.labels.primary_horizon,
            settings=section_json(config.stacking),
            code=code_version(build_oof),
            experts=side_by_side(arrange, "experts", trained),
        ),
        "out-of-fold table",
    )
    return Learned(table.outputs["predictions"], trained[config.tick_gates.candidate])


def _replay(
    config: Config,
    arrange: Arrange,
    events: Events,
    samples: Samples,
    predictions: PipelineChannel,
    folder: str,
) -> Mapping[str, PipelineChannel]:
    """The task that replays what the experts would have traded; returns its outputs."""
    learning = learning_config(config)
    return arrange(
        replay_ticks(
            ticks=events.ticks,
            predictions=predictions,
            labels=samples.labels,
            features=samples.features,
            delays=events.delays,
            settings=section_json(config.tick_replay),
            target=learning.labels.target,
            horizon=learning.labels.primary_horizon,
            seed=config.run.seed,
            work_folder=f"{folder}/pieces/tick_replay",
            code=code_version(replay_ticks),
        ),
        "tick replay",
    ).outputs


def _judge(
    config: Config,
    arrange: Arrange,
    samples: Samples,
    predictions: PipelineChannel,
    replayed: Mapping[str, PipelineChannel],
) -> PipelineChannel:
    """The task that asks the gates; returns the verdict."""
    return arrange(
        judge_ticks(
            found=replayed["found"],
            curve=replayed["curve"],
            predictions=predictions,
            labels=samples.labels,
            settings=section_json(config.tick_gates),
            code=code_version(judge_ticks),
        ),
        "gates",
    ).outputs["verdict"]


def _register(
    config: Config,
    arrange: Arrange,
    events: Events,
    samples: Samples,
    learned: Learned,
    judged: Mapping[str, PipelineChannel],
    folder: str,
) -> PipelineChannel:
    """The task that records the judged model; returns what became of it. Never from the cache: somebody may
    have promoted another one since.
    """
    return arrange(
        register_ticks(
            **judged,
            predictions=learned.predictions,
            ticks=events.ticks,
            delays=events.delays,
            catalog=samples.catalog,
            expert=learned.judged,
            config=run_json(config),
            settings=section_json(config.registry),
            name=config.run.name,
            folder=f"{folder}/registry",
            code=code_version(register_ticks),
        ),
        "register",
        cached=False,
    ).outputs["registration"]


def _report(config: Config, arrange: Arrange, folder: str, **made: PipelineChannel) -> None:
    """The task that writes the report; `made` are the artifacts that its door takes."""
    arrange(
        report_ticks(
            **made,
            name=config.run.name,
            settings=config.tick_gates.model_dump_json(),
            folder=lasting_folder(config, folder),
        ),
        "report",
        cached=False,
    )
