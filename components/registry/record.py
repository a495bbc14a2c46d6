"""From the artifacts of a run to the registry: builds the bundle, then records the judged model."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contracts.documents.champion import Registration
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.experts import STATUS, TrainedExpert, read_status
from components.contracts.documents.trials import Scored
from components.contracts.documents.verdict import Verdict
from components.registry.bundle import build_bundle
from components.registry.config import Settings
from components.registry.register import register_model
from components.registry.trials import Trial

NOT_OF_THE_MODEL = ("run", "registry", "cluster")


@dataclass(frozen=True)
class JudgedModel:
    """A judged model and what it is made of.

    scored : every model that was scored with it on its test window
    expert_folders : artifact folders of the experts, each with `status.json` and, where it was trained,
        `model/`
    predictions : ALL_PREDICTIONS file of the run
    config : the whole configuration; what says of the model goes into the manifest
    code : code version
    reference : folder with the drift reference of the training window
    """

    verdict: Verdict
    evaluation: Evaluation
    scored: Scored
    expert_folders: Sequence[Path]
    predictions: Path
    stacker: Path
    catalog: Path
    feature_registry: Path
    config: Mapping[str, Any]
    code: str
    reference: Path | None = None


def record(settings: Settings, name: str, folder: Path, candidate: JudgedModel) -> Registration:
    """Bundle the fitted experts with the stacker and record the model under `name` in the registry.

    The registry lies in `folder` unless `settings` name another.
    """
    config = {key: value for key, value in candidate.config.items() if key not in NOT_OF_THE_MODEL}
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        bundle.mkdir()
        build_bundle(
            bundle,
            experts=_trained(candidate.expert_folders),
            stacker=candidate.stacker,
            catalog=candidate.catalog,
            feature_registry=candidate.feature_registry,
            predictions=candidate.predictions,
            task=(candidate.evaluation.target, candidate.evaluation.horizon),
            config=config,
            code=candidate.code,
            reference=candidate.reference,
        )
        trial = Trial.of(candidate.evaluation)
        return register_model(
            settings,
            name,
            folder,
            bundle=bundle,
            verdict=candidate.verdict,
            trial=trial,
            scored=candidate.scored,
        )


def _trained(folders: Sequence[Path]) -> dict[str, Path]:
    statuses = {folder: read_status(folder / STATUS) for folder in folders}
    return {
        status.expert: folder / "model"
        for folder, status in statuses.items()
        if isinstance(status, TrainedExpert)
    }
