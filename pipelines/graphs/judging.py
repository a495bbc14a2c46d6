"""Tasks from the predictions to the judged, registered model and its report."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.backtest.component import backtest
from components.drift.component import make_reference
from components.experts.leaves import Leaf
from components.gates.component import judge
from components.registry.component import gather_trials, read_champion, register
from components.report.component import write_report
from pipelines.code_version import code_version
from pipelines.config import Config, run_json, section_json, walk_json
from pipelines.graphs.arrange import Arrange, side_by_side
from pipelines.graphs.data import FactorData, TrainingData
from pipelines.graphs.experts import Predictions, to_predictions
from pipelines.lasting import lasting_folder


@dataclass(frozen=True)
class Candidate:
    """A stack with all that it is judged by."""

    data: TrainingData
    predictions: Predictions
    reference: PipelineChannel
    tested: dsl.PipelineTask

    @property
    def scores(self) -> PipelineChannel:
        """The table of all predictions, the stack's among them."""
        return self.predictions.stack["all_predictions"]


def to_judged_model(
    config: Config,
    arrange: Arrange,
    factors: FactorData,
    data: TrainingData,
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
    candidate = _to_candidate(config, arrange, factors, data, leaves, folder)
    trials = _gather_trials(config, arrange, candidate, folder)
    verdict = _judge(config, arrange, candidate, trials, folder, newest_only=newest_only)
    registered = _register(config, arrange, candidate, {"trials": trials, "verdict": verdict}, folder)
    said = {"verdict": verdict, "registration": registered.outputs["registration"]}
    _write_report(config, arrange, factors, candidate, said, folder)
    return registered


def _to_candidate(
    config: Config,
    arrange: Arrange,
    factors: FactorData,
    data: TrainingData,
    leaves: list[Leaf],
    folder: str,
) -> Candidate:
    predictions = to_predictions(config, arrange, data, leaves, folder)
    scores = predictions.stack["all_predictions"]
    reference = arrange(
        make_reference(
            training_set=data.training_set,
            labels=data.labels,
            predictions=scores,
            catalog=data.catalog,
            settings=section_json(config.drift),
            timeline=walk_json(config),
            horizon=config.labels.primary_horizon,
            target=config.labels.target,
            code=code_version(make_reference),
        ),
        "drift reference",
    )
    tested = arrange(
        backtest(
            panel=factors.market.panel,
            universe=data.universe,
            labels=data.labels,
            training_set=data.training_set,
            predictions=scores,
            settings=section_json(config.backtest),
            timeline=walk_json(config),
            target=config.labels.target,
            horizon=config.labels.primary_horizon,
            code=code_version(backtest),
            **({"crossed": predictions.crossed} if predictions.crossed else {}),
        ),
        "backtest",
    )
    return Candidate(data, predictions, reference=reference.outputs["reference"], tested=tested)


def _gather_trials(config: Config, arrange: Arrange, candidate: Candidate, folder: str) -> PipelineChannel:
    """Never from the cache: others may have tried the same window since."""
    return arrange(
        gather_trials(
            evaluation=candidate.tested.outputs["evaluation"],
            returns=candidate.tested.outputs["returns"],
            settings=section_json(config.registry),
            name=config.run.name,
            folder=f"{folder}/registry",
        ),
        "trials",
        cached=False,
    ).outputs["trials"]


def _judge(
    config: Config,
    arrange: Arrange,
    candidate: Candidate,
    trials: PipelineChannel,
    folder: str,
    *,
    newest_only: bool,
) -> PipelineChannel:
    champion = arrange(
        read_champion(
            settings=section_json(config.registry),
            name=config.run.name,
            folder=f"{folder}/registry",
            training_set=candidate.data.training_set,
            feature_registry=candidate.data.feature_registry,
        ),
        "champion",
        cached=False,
    ).after(
        candidate.tested
    )  # late as can be: a person may promote another one while this one is in training
    return arrange(
        judge(
            evaluation=candidate.tested.outputs["evaluation"],
            predictions=candidate.scores,
            labels=candidate.data.labels,
            universe=candidate.data.universe,
            returns=candidate.tested.outputs["returns"],
            champion=champion.outputs["champion"],
            trials=trials,
            settings=section_json(config.gates),
            code=code_version(judge),
            newest_only=newest_only,
        ),
        "gates",
        cached=False,
    ).outputs["verdict"]


def _register(
    config: Config,
    arrange: Arrange,
    candidate: Candidate,
    judged: Mapping[str, PipelineChannel],
    folder: str,
) -> dsl.PipelineTask:
    return arrange(
        register(
            **judged,
            evaluation=candidate.tested.outputs["evaluation"],
            predictions=candidate.scores,
            stacker=candidate.predictions.stack["model"],
            catalog=candidate.data.catalog,
            feature_registry=candidate.data.feature_registry,
            config=run_json(config),
            settings=section_json(config.registry),
            name=config.run.name,
            folder=f"{folder}/registry",
            code=code_version(register),
            reference=candidate.reference,
            experts=candidate.predictions.experts,
        ),
        "register",
        cached=False,
    )


def _write_report(
    config: Config,
    arrange: Arrange,
    factors: FactorData,
    candidate: Candidate,
    said: Mapping[str, PipelineChannel],
    folder: str,
) -> None:
    arrange(
        write_report(
            truth=factors.market.truth,
            panel=factors.market.panel,
            quarantine=factors.market.quarantine,
            health=factors.market.health,
            data_docs=factors.market.data_docs,
            factors=factors.factors,
            catalog=factors.catalog,
            labels=candidate.data.labels,
            audit=candidate.data.audit,
            oof_audit=candidate.predictions.oof["audit"],
            comparison=candidate.predictions.stack["comparison"],
            predictions=candidate.scores,
            evaluation=candidate.tested.outputs["evaluation"],
            returns=candidate.tested.outputs["returns"],
            config=run_json(config),
            folder=lasting_folder(config, folder),
            experts=candidate.predictions.experts,
            pages=side_by_side(arrange, "pages", candidate.predictions.pages),
            **said,
        ),
        "report",
        cached=False,
    )
