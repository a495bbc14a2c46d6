"""What the doors of the registry call: one fetches the champion, one gathers all trials of a test window, one
records the judged model.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.contracts import TRAINING_SET, map_table, read_gathered, require_json
from components.contracts.documents.champion import ChampionRecord, Registration
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.trials import Trials
from components.contracts.documents.verdict import Verdict
from components.progress import report, stage, warn
from components.registry.champion import fetch_champion
from components.registry.client import answered
from components.registry.config import Settings
from components.registry.gathered import gather_trials
from components.registry.record import JudgedModel, record
from components.registry.scored import scored_models


@dataclass(frozen=True)
class RegistryPlace:
    """Which registry: the model's name in it, `settings` as JSON of the section, and the folder where it lies
    unless the settings name another.
    """

    settings: str
    name: str
    folder: str


@dataclass(frozen=True)
class ChampionInputs:
    """A TRAINING_SET table, and the registry of the features that it was made with."""

    training_set: str
    feature_registry: str


@dataclass(frozen=True)
class CandidateInputs:
    """The artifacts of a run that make a model: documents, tables and folders by path.

    `experts` holds the experts' gathered artifact folders.
    """

    verdict: str
    evaluation: str
    trials: str
    predictions: str
    stacker: str
    catalog: str
    feature_registry: str
    reference: str
    experts: str


def run_read_champion(
    place: RegistryPlace, champion: str, inputs: ChampionInputs | None = None
) -> ChampionRecord | None:
    """Fetch the champion's record, out-of-sample predictions and drift reference into the folder `champion`;
    with a training set it also scores the bars after its own training.
    """
    with stage("champion"):
        rows, schema = None, ""
        if inputs is not None:
            rows = map_table(inputs.training_set, TRAINING_SET)
            schema = require_json(inputs.feature_registry)["schema"]
        with answered():
            record = fetch_champion(
                Settings.model_validate_json(place.settings),
                place.name,
                Path(place.folder),
                Path(champion),
                rows=rows,
                schema=schema,
            )
        _tell(record)
    return record


def run_gather_trials(place: RegistryPlace, evaluation: str, returns: str, trials: str) -> Trials:
    """Write the Trials of the evaluation's test window: its own models, and those of the registry.

    `returns` are those that the backtest made with the evaluation.
    """
    with stage("trials"):
        own = scored_models(Evaluation.read(evaluation), pl.read_parquet(returns))
        with answered():
            found = gather_trials(
                Settings.model_validate_json(place.settings), place.name, Path(place.folder), own
            )
        found.write(trials)
        earlier = len(found.models) - len(own.models)
        unseen = f", {found.unseen} whose returns nobody kept" if found.unseen else ""
        report("trials", f"{len(own.models)} models on this test window, {earlier} before them{unseen}")
    return found


def run_register(
    place: RegistryPlace, inputs: CandidateInputs, registration: str, *, config: str, code: str
) -> Registration:
    """Record the judged model; register and promote it if it was approved. Writes a Registration.

    `config` is JSON of the whole configuration.
    """
    with stage("register"):
        candidate = JudgedModel(
            verdict=Verdict.read(inputs.verdict),
            evaluation=Evaluation.read(inputs.evaluation),
            scored=Trials.read(inputs.trials).own,
            expert_folders=list(read_gathered(inputs.experts).values()),
            predictions=Path(inputs.predictions),
            stacker=Path(inputs.stacker),
            catalog=Path(inputs.catalog),
            feature_registry=Path(inputs.feature_registry),
            config=json.loads(config),
            code=code,
            reference=Path(inputs.reference),
        )
        settings = Settings.model_validate_json(place.settings)
        with answered():
            outcome = record(settings, place.name, Path(place.folder), candidate)
        outcome.write(registration)
        version = f", version {outcome.version} {outcome.aliases}" if outcome.version else ""
        report("register", f"{outcome.status}{version}")
    return outcome


def _tell(record: ChampionRecord | None) -> None:
    if record is None:
        report("champion", "none yet")
        return
    newest = record.newest
    if newest and newest.not_scored:
        stored = f"version {record.version} is compared by its stored predictions only"
        warn("champion", f"{stored}: {newest.not_scored}")
    bars = f", scored on {newest.bars} bars after its training" if newest and newest.bars else ""
    report("champion", f"version {record.version}{bars}")
