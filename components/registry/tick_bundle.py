"""Puts the bundle of a model of order books together: the fitted expert, what makes its inputs, the policy
that it was judged with, and what it predicted out of sample.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from components.contracts import atomic_write_text, of_task, read_stamp, require_json, write_manifest
from components.contracts.documents.champion import Registration
from components.contracts.documents.experts import STATUS, TrainedExpert, read_status
from components.contracts.documents.tick_replay import TickReplay
from components.contracts.documents.verdict import Verdict
from components.contracts.tick_days import INSTRUMENTS
from components.credentials import require_no_credential
from components.progress import report, stage
from components.registry.bundle import PREDICTIONS_FILE
from components.registry.client import answered
from components.registry.config import Settings
from components.registry.errors import RegistryError
from components.registry.record import NOT_OF_THE_MODEL
from components.registry.register import register_model
from components.registry.run import RegistryPlace
from components.registry.trials import Trial
from components.scoring.form import SERVED_FORMAT
from components.scoring.model import TICKS
from components.scoring.tick_model import CATALOG, DELAYS_FILE, EXPERTS, LANE_FILE
from components.settings import values_hash

# Sections of the config that say how samples are made and what a forecast is of, and how it is traded.
SECTIONS = ("tick_features", "tick_labels", "tick_replay", "tick_gates")
SCHEMA_DIGITS = 12


@dataclass(frozen=True)
class CandidateInputs:
    """The artifacts of a run on ticks that make a model: the Verdict and the TickReplay, ALL_PREDICTIONS, the
    folder of validated ticks, their DELAYS, the catalog of features, and the judged expert's folder.
    """

    verdict: str
    found: str
    predictions: str
    ticks: str
    delays: str
    catalog: str
    expert: str


def run_register_ticks(
    place: RegistryPlace, inputs: CandidateInputs, registration: str, *, config: str, code: str
) -> Registration:
    """Record the judged model of ticks; register it if it was approved. Writes a Registration.

    `config` is JSON of the whole configuration.

    Raises
    ------
    RegistryError
        If the judged expert was not trained, or is not the one that the verdict is about.
    """
    with stage("register"):
        verdict, found = Verdict.read(inputs.verdict), TickReplay.read(inputs.found)
        told = {key: value for key, value in json.loads(config).items() if key not in NOT_OF_THE_MODEL}
        own = _own_predictions(inputs.predictions, verdict.candidate, found)
        with tempfile.TemporaryDirectory() as scratch, answered():
            bundle = Path(scratch) / "bundle"
            bundle.mkdir()
            build_tick_bundle(bundle, inputs, verdict.candidate, found, own, config=told, code=code)
            outcome = register_model(
                Settings.model_validate_json(place.settings),
                place.name,
                Path(place.folder),
                bundle=bundle,
                verdict=verdict,
                trial=_trial(own, found),
                compared=False,
            )
        outcome.write(registration)
        version = f", version {outcome.version} {outcome.aliases}" if outcome.version else ""
        report("register", f"{outcome.status}{version}")
    return outcome


def build_tick_bundle(
    folder: Path,
    inputs: CandidateInputs,
    candidate: str,
    found: TickReplay,
    own: pl.DataFrame,
    *,
    config: Mapping[str, Any],
    code: str,
) -> None:
    """Fill `folder` with the bundle of the expert `candidate`; `own` are its rows of the judged task."""
    status = read_status(Path(inputs.expert) / STATUS)
    if not isinstance(status, TrainedExpert) or status.expert != candidate:
        raise RegistryError(
            f"{inputs.expert} holds no fitted {candidate} ({status.expert}: {status.status}), which the"
            " verdict is about. Run the stages from the experts on again."
        )
    lane = {name: config[name] for name in SECTIONS}
    shutil.copytree(Path(inputs.expert) / "model", folder / EXPERTS / candidate)
    shutil.copyfile(Path(inputs.ticks) / INSTRUMENTS, folder / INSTRUMENTS)
    shutil.copyfile(inputs.delays, folder / DELAYS_FILE)
    shutil.copyfile(inputs.catalog, folder / CATALOG)
    own.write_parquet(folder / PREDICTIONS_FILE, compression="zstd")
    atomic_write_text(folder / LANE_FILE, json.dumps({"expert": candidate, **lane}, indent=1))
    columns = require_json(folder / CATALOG, list)
    about = {
        "lane": TICKS,
        "schema": values_hash({"catalog": columns, "settings": lane["tick_features"]})[:SCHEMA_DIGITS],
        "served_format": SERVED_FORMAT,
        "train_window": status.train_window,
        "experts": [candidate],
        "period": status.period,
        "horizon": found.horizon,
        "target": found.target,
        "inputs": dict(read_stamp(inputs.predictions).inputs),
        "code_version": code,
        "config": dict(config),
    }
    require_no_credential(about, "The manifest of the bundle")
    write_manifest(folder, about)


def _own_predictions(path: str, candidate: str, found: TickReplay) -> pl.DataFrame:
    said = pl.scan_parquet(path).filter(pl.col("expert") == candidate).collect()
    return of_task(said, found.target, found.horizon, source=path)


def _trial(own: pl.DataFrame, found: TickReplay) -> Trial:
    first, last = (
        f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (own["timestamp"].min(), own["timestamp"].max())
    )
    return Trial(own["period"][0], found.target, first, last)
