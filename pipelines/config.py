"""The whole configuration of a run: every stage's section, and the checks that need more than one of them."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from components.audit.config import Settings as AuditSettings
from components.backtest.config import Settings as BacktestSettings
from components.contracts import AlphaloopError
from components.contracts.targets import NO_STAKE
from components.credentials import find_credential, texts
from components.drift.config import Settings as DriftSettings
from components.experts.leaves import list_leaves
from components.feature_store.config import Settings as FeatureStoreSettings
from components.features.config import Settings as FeaturesSettings
from components.fusion.config import Settings as FusionSettings
from components.gates.config import Settings as GatesSettings
from components.gates.tick_config import Settings as TickGatesSettings
from components.labels.config import Settings as LabelsSettings
from components.lasting.file_systems import path_of
from components.lasting.folder import is_address
from components.market.config import Settings as MarketSettings
from components.mining.config import Settings as MiningSettings
from components.registry.config import Settings as RegistrySettings
from components.replay.config import Settings as ReplaySettings
from components.retraining.config import Settings as RetrainingSettings
from components.selection.config import Settings as SelectionSettings
from components.settings import Section, load_settings
from components.stacking.config import Settings as StackingSettings
from components.tick_features.config import Settings as TickFeaturesSettings
from components.tick_labels.config import Settings as TickLabelsSettings
from components.tick_replay.config import Settings as TickReplaySettings
from components.ticks.config import Settings as TicksSettings
from components.timeline import Settings as TimelineSettings
from components.timeline.periods import PERIODS, Period, is_coarser
from components.timeline.splits import check_gaps
from components.validation.config import Settings as ValidationSettings
from pipelines.cluster_config import ClusterSettings
from pipelines.compute_config import ComputeSettings
from pipelines.tick_config import (
    reach,
    refuse_other_costs,
    refuse_other_distance,
    refuse_other_size,
    refuse_samples_by_event,
    refuse_unknown_models,
    refuse_unreplayed,
    with_sample_ms,
)
from serving.config import Settings as ServingSettings

# Where a password goes that may not stand in a config.
REMEDY = "Give it by an environment variable, on a cluster by cluster.secrets"
REMEDIES = {
    "registry.tracking_uri": (
        "Put user and password into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, that of a"
        " PostgreSQL address into PGPASSWORD; on a cluster by cluster.secrets"
    ),
    "compute.search_storage": "Put the password into PGPASSWORD",
}
LEAVES = Path(__file__).parent / "configs" / "experts"


class RunSettings(Section):
    """Where a run writes and what makes it repeatable."""

    name: str = Field(
        "demo",
        # A pipeline's name holds it, and Kubeflow Pipelines takes 128 characters.
        max_length=100,
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="name of the pipeline run and of the registered model",
    )
    folder: str = Field("runs/demo", description="outputs: artifacts, feature store, registry, report")
    store: str = Field(
        "",
        description=(
            "where feature store, served answers, audit trail and report lie where no folder is shared:"
            " s3://bucket/prefix (server and keys by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY), file:///folder or a path; empty: run.folder"
        ),
    )
    seed: int = Field(7, ge=0, description="seed of everything random")


class ExpertsSettings(Section):
    """Which experts are trained, one leaf `<expert>/<period>/<modality>` each, of the market's period or a
    coarser one.
    """

    leaves: list[str] = Field(
        ["median/1d/base", "elasticnet/1d/base", "xgboost/1d/base", "lightgbm/1d/base", "patchtst/1d/base"],
        min_length=2,
        max_length=64,
        description="the experts that are trained",
    )
    folder: str = Field(
        "",
        description=(
            "folder of your own leaves, looked in before Alphaloop's; a leaf there names the module of its"
            " expert"
        ),
    )
    overrides: dict[str, dict[str, Any]] = Field(
        {},
        description=(
            "by expert: settings of it, and target, horizon, threads, ensemble, regimes, also and more of its"
            " leaf; they stand over the leaf's. Where base and rich of an expert are trained, EXPERT means"
            " both and EXPERT_rich, which stands over it, the rich one; of several periods, EXPERT_1d that of"
            " days"
        ),
    )
    gpu: list[str] = Field(
        ["patchtst", "tft", "adaptive_tft"],
        description="experts whose task asks a cluster for a GPU, one for each process of their leaf",
    )
    gpu_resource: str = Field("nvidia.com/gpu", description="name of the GPU resource on the cluster")

    @property
    def names(self) -> dict[str, str]:
        """What each of `leaves` is called in the run, in files, predictions and weights: its expert, with its
        period behind it where leaves of a finer one are trained too, and `_rich` behind that where the base
        leaf of the same expert and period is.
        """
        parts = {leaf: leaf.split("/") for leaf in self.leaves}
        base = {tuple(found[:2]) for found in parts.values() if found[2:] == ["base"]}
        return {
            leaf: "_".join(
                (
                    found[0],
                    *(name for name in found[1:2] if name in self.coarser),
                    *(name for name in found[2:] if name == "rich" and tuple(found[:2]) in base),
                )
            )
            for leaf, found in parts.items()
        }

    @property
    def periods(self) -> tuple[Period, ...]:
        """Those of `leaves`, the finer first."""
        named = {part for leaf in self.leaves for part in leaf.split("/")[1:2]}
        return tuple(period for period in reversed(PERIODS) if period in named)

    @property
    def coarser(self) -> tuple[Period, ...]:
        """Periods of `leaves` that are coarser than the finest of them."""
        return self.periods[1:]

    @model_validator(mode="after")
    def _names_fit(self):
        twice = sorted({leaf for leaf in self.leaves if self.leaves.count(leaf) > 1})
        if twice:
            raise ValueError(f"leaves names {twice[0]!r} more than once; name each leaf once")
        # What is no leaf at all is refused by its own words, where the leaves are looked for.
        parts = {leaf: leaf.split("/") for leaf in self.leaves}
        there = [leaf for leaf, found in parts.items() if len(found) == 3 and found[1] in PERIODS]
        named = {leaf: name for leaf, name in self.names.items() if leaf in there}
        called = list(named.values())
        same = [leaf for leaf, name in named.items() if called.count(name) > 1]
        if same:
            raise ValueError(
                f"leaves names {same[0]!r} and {same[1]!r}, which would both be called"
                f" {self.names[same[0]]!r}; give one of the two experts another name"
            )
        own = {leaf.split("/")[0] for leaf in self.leaves}
        known = sorted({*own, *self.names.values(), *(leaf.split("/")[0] for leaf in list_leaves(LEAVES))})
        unknown = sorted(set(self.overrides) - set(known))
        if unknown:
            raise ValueError(
                f"overrides are for {unknown[0]!r}, which is no expert; {_advice(unknown[0], known)}"
            )
        return self


class Config(Section):
    """One run. Every section has defaults that work on the simulator. A config with the section `ticks` is of
    a run on order books, in which `market`, `features`, `labels` and what else speaks of bars has no part.
    """

    run: RunSettings = RunSettings()
    ticks: TicksSettings | None = None
    tick_features: TickFeaturesSettings = TickFeaturesSettings()
    tick_labels: TickLabelsSettings = TickLabelsSettings()
    tick_replay: TickReplaySettings = TickReplaySettings()
    tick_gates: TickGatesSettings = TickGatesSettings()
    market: MarketSettings = MarketSettings()
    validation: ValidationSettings = ValidationSettings()
    timeline: TimelineSettings = TimelineSettings()
    fusion: FusionSettings = FusionSettings()
    features: FeaturesSettings = FeaturesSettings()
    labels: LabelsSettings = LabelsSettings()
    audit: AuditSettings = AuditSettings()
    feature_store: FeatureStoreSettings = FeatureStoreSettings()
    selection: SelectionSettings = SelectionSettings()
    experts: ExpertsSettings = ExpertsSettings()
    stacking: StackingSettings = StackingSettings()
    backtest: BacktestSettings = BacktestSettings()
    gates: GatesSettings = GatesSettings()
    mining: MiningSettings = MiningSettings()
    registry: RegistrySettings = RegistrySettings()
    serving: ServingSettings = ServingSettings()
    drift: DriftSettings = DriftSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    replay: ReplaySettings = ReplaySettings()
    compute: ComputeSettings = ComputeSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="before")
    @classmethod
    def _labels_of_ticks_are_of_their_samples(cls, values: Any) -> Any:
        return with_sample_ms(values)

    @model_validator(mode="after")
    def _one_distance_of_samples(self):
        if self.ticks:
            refuse_samples_by_event(self.tick_features)
        refuse_other_distance(self.tick_features, self.tick_labels)
        return self

    @model_validator(mode="after")
    def _models_of_ticks_are_known(self):
        if self.ticks:
            refuse_unknown_models(self.tick_gates, list(self.experts.names.values()))
        return self

    @model_validator(mode="after")
    def _ticks_are_traded_as_they_are_labelled(self):
        if self.ticks:
            refuse_other_costs(self.tick_labels, self.tick_replay)
            refuse_other_size(self.tick_labels, self.tick_replay)
            refuse_unreplayed(self.tick_gates, self.tick_replay)
        return self

    @model_validator(mode="after")
    def _purge_covers_labels(self):
        try:
            check_gaps(self.timeline, reach(self.tick_labels) if self.ticks else max(self.labels.horizons))
        except AlphaloopError as error:
            raise ValueError(str(error).removesuffix(".")) from None
        return self

    @model_validator(mode="after")
    def _store_is_an_address_or_a_path(self):
        if "://" in self.run.store:
            try:
                path_of(self.run.store)
            except AlphaloopError as error:
                raise ValueError(f"run.store: {str(error).removesuffix('.')}") from None
        return self

    @model_validator(mode="after")
    def _online_values_are_no_file_elsewhere(self):
        if self.ticks is None and is_address(self.run.store) and self.feature_store.online == "sqlite":
            raise ValueError(
                f"run.store={self.run.store} but feature_store.online=sqlite, a file that can't lie there;"
                " set feature_store.online to redis"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_credential(self):
        """The whole of a config goes into compiled pipelines, manifests of bundles and reports."""
        for place, text in texts(self.model_dump(mode="json")):
            if found := find_credential(text):
                raise ValueError(
                    f"{'.'.join(place)} holds {found}, and a config is kept with every model, report and"
                    f" compiled pipeline. {REMEDIES.get('.'.join(place), REMEDY)}"
                )
        return self

    @model_validator(mode="after")
    def _slow_columns_fit_the_features(self):
        try:
            features_json(self)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    @model_validator(mode="after")
    def _coarser_periods_are_coarser(self):
        wrong = [one for one in self.features.coarser if not is_coarser(one, self.market.period)]
        if wrong:
            raise ValueError(
                f"features.coarser names {wrong[0]}, which is not coarser than market.period="
                f"{self.market.period}; take it out"
            )
        return self

    @model_validator(mode="after")
    def _stakes_can_be_told(self):
        if self.backtest.sizing == "kelly" and self.labels.target in NO_STAKE:
            raise ValueError(
                f"backtest.sizing=kelly but labels.target={self.labels.target}: Kelly's share is told from an"
                " expected return or the chances of a class; choose another sizing or target"
            )
        return self

    @model_validator(mode="after")
    def _entries_agree(self):
        if self.labels.entry != self.backtest.entry:
            raise ValueError(
                f"labels.entry={self.labels.entry} but backtest.entry={self.backtest.entry}: the experts"
                " would learn another trade than the one that is judged; set both to the same price"
            )
        return self

    @model_validator(mode="after")
    def _judged_models_are_known(self):
        """The names in the section gates are looked for at the end of a run, hours later."""
        from components.stacking.combine import STACK, public_name
        from components.stacking.combiners import BEST, EQUAL, PERFORMANCE

        combined = [public_name(method) for method in (EQUAL, PERFORMANCE, BEST, *self.stacking.combiners)]
        models = [STACK, *self.experts.names.values(), *combined]
        if self.gates.candidate not in models:
            raise ValueError(
                f"gates.candidate={self.gates.candidate} is none of the models of this run;"
                f" {_advice(self.gates.candidate, models)}"
            )
        # An expert that is not trained here may stay a baseline: its gate then says so.
        known = [*models, *sorted({leaf.split("/")[0] for leaf in list_leaves(LEAVES)} - set(models))]
        unknown = sorted(set(self.gates.baselines) - set(known))
        if unknown:
            raise ValueError(
                f"gates.baselines names {unknown[0]!r}, which is no model; {_advice(unknown[0], known)}"
            )
        return self


def learning_config(config: Config) -> Config:
    """What experts are trained by: the config itself, and of a run on order books one in which samples stand
    for bars, and the labels of ticks for those of bars.
    """
    if config.ticks is None:
        return config
    labels = config.tick_labels
    told = {"horizons": labels.horizons, "primary_horizon": labels.primary_horizon, "target": labels.target}
    return config.model_copy(
        update={
            "market": config.market.model_copy(update={"period": config.tick_features.sample}),
            "labels": config.labels.model_copy(update=told),
            "selection": config.selection.model_copy(update={"mode": "off"}),
            "fusion": FusionSettings(),
        }
    )


def _advice(name: str, known: Sequence[str]) -> str:
    """What to write instead of an unknown name."""
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}? Else choose" if close else "choose"
    return f"{advice} from {', '.join(known)}"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run's configuration; see `components.settings.load_settings` for the errors."""
    return load_settings(Config, path, overrides)


def data_folder() -> Path:
    """Where relative market paths lie: the folder that ALPHALOOP_DATA names, or `data`."""
    return Path(os.environ.get("ALPHALOOP_DATA", "data"))


def section_json(section: Section) -> str:
    """A section as the JSON text that doors take as their `settings` argument: what differs from its
    defaults. It reads back as an equal section; see `pipelines.runners.arguments` for why it is short.
    """
    return section.model_dump_json(exclude_defaults=True)


def run_json(config: Config) -> str:
    """All of a configuration that models and reports are made from, as JSON: how a run used its machine says
    nothing of what came out.
    """
    return config.model_dump_json(exclude={"compute"})


def timeline_json(config: Config) -> str:
    """The timeline as `section_json` writes it, its embargo as a number."""
    return section_json(config.timeline.with_embargo(max(config.labels.horizons)))


def walk_json(config: Config) -> str:
    """What `timeline_json` says of the walk-forward alone: for stages that see nothing of a
    cross-validation.
    """
    return section_json(config.timeline.with_embargo(max(config.labels.horizons)).walking())


def features_json(config: Config) -> str:
    """The features section with the columns that fusion adds to the panel and the coarser periods of the
    experts, as `section_json` writes it.
    """
    from components.fusion.columns import slow_columns

    of_leaves = [period for period in config.experts.periods if is_coarser(period, config.market.period)]
    added = {
        "slow": slow_columns(config.fusion),
        "coarser": [*config.features.coarser, *of_leaves],
    }
    return section_json(type(config.features).model_validate({**config.features.model_dump(), **added}))
