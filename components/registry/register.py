"""Records a judged model; an approved one becomes a version with the alias `challenger`, and `champion` when
it takes the place.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts import verify_bundle
from components.contracts.documents.champion import Registration
from components.contracts.documents.trials import Scored
from components.contracts.documents.verdict import Verdict
from components.credentials import without_secrets
from components.registry.aliases import CHALLENGER, champion_history, champion_of, promote, rolled_back
from components.registry.client import open_registry
from components.registry.config import Settings
from components.registry.gathered import keep_trials
from components.registry.local import DATABASE
from components.registry.trials import Trial, count_trials, experiment_of, log_trial, run_of
from components.registry.versions import create_version, version_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def register_model(
    settings: Settings,
    name: str,
    folder: Path,
    *,
    bundle: Path,
    verdict: Verdict,
    trial: Trial,
    scored: Scored | None = None,
    compared: bool = True,
) -> Registration:
    """Record a judged model; an approved one becomes a version and, where the rules allow, champion.

    Parameters
    ----------
    folder : where the registry lies unless `settings` name another
    bundle : folder with a manifest
    scored : every model that was scored with it on its test window; None where none is kept
    compared : whether the verdict holds it against the champion; else it takes nobody's place by itself
    """
    client = open_registry(settings, folder)
    manifest = verify_bundle(bundle)
    sha256 = manifest["sha256"]
    experiment = experiment_of(client, settings, name, folder)
    before = champion_of(client, name)
    run_id = run_of(client, experiment, sha256)
    if run_id is None:
        run_id = log_trial(client, experiment, bundle, sha256, verdict, trial)
    if scored is not None:
        keep_trials(client, run_id, scored)
    version = version_of(client, name, sha256)
    status, reason = "unchanged" if version is not None else "rejected", verdict.reason
    if verdict.approved:
        if version is None:
            version = create_version(client, name, run_id, manifest)
            status = "registered"
        if before is None or before.version != version.version:
            reason = _challenge(client, settings, name, version, verdict, None if compared else before)
    after = champion_of(client, name)
    aliases = list(client.get_model_version(name, version.version).aliases) if version else []
    return Registration(
        status=status,
        name=name,
        version=int(version.version) if version else None,
        aliases=sorted(aliases),
        run_id=run_id,
        bundle_sha256=sha256,
        trials=count_trials(client, experiment, trial),
        champion_before=int(before.version) if before else None,
        champion_after=int(after.version) if after else None,
        reason=reason,
        history=champion_history(client, name),
        tracking_uri=without_secrets(settings.tracking_uri) or f"sqlite:///{folder / DATABASE}",
    )


def _challenge(
    client: "MlflowClient",
    settings: Settings,
    name: str,
    version: "ModelVersion",
    verdict: Verdict,
    unmeasured: "ModelVersion | None",
) -> str:
    """Make an approved version challenger, and champion where it beat the present one and nothing speaks
    against it; returns the reason of the outcome. `unmeasured` is a champion that it was not held against.
    """
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    if settings.promotion == "manual":
        return f"{verdict.reason}; registry.promotion is manual, so it waits as challenger"
    if verdict.beats_champion and int(version.version) in rolled_back(client, name):
        return (
            f"{verdict.reason}; version {version.version} was rolled back before, so it takes the place only"
            f" by `alphaloop promote {version.version} --reason ...`"
        )
    if unmeasured is not None:
        return (
            f"{verdict.reason}; no gate has held it against version {unmeasured.version}, the champion, so it"
            f" waits: alphaloop promote {version.version} --reason ..."
        )
    if verdict.beats_champion:
        promote(client, name, version.version, why=verdict.reason, who="pipeline")
    return verdict.reason
