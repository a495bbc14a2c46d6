"""Judged models as MLflow runs: every one is recorded, approved or not, so that the number of trials on a
test window stays known.
"""

import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import ContractError
from components.contracts.documents.evaluation import Evaluation
from components.contracts.documents.trials import Scored
from components.contracts.documents.verdict import Verdict
from components.credentials import without_secrets
from components.registry.client import every_page, log
from components.registry.config import Settings
from components.registry.local import ARTIFACTS, BUNDLE, move_addresses, own_artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERDICT = "verdict.json"
JUDGED = "bundle_sha256"  # the tag of a run that holds a judged model
_FINISHED = "FINISHED"
PAGE_RUNS = 1000  # the most that MLflow gives at once


@dataclass(frozen=True)
class Trial:
    """What was scored; models of the same period whose test windows overlap are trials of one another."""

    period: str
    target: str
    test_start: str  # ISO, UTC
    test_end: str

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Trial":
        window = evaluation.windows.test
        return cls(evaluation.period, evaluation.target, window.start, window.end)


def experiment_of(client: "MlflowClient", settings: Settings, name: str, folder: Path) -> str:
    """Identifier of the experiment that holds the model's trials; made where there is none yet."""
    found = client.get_experiment_by_name(name)
    location = None if settings.tracking_uri else (folder / ARTIFACTS).as_uri()
    if found is None:
        return client.create_experiment(name, artifact_location=location)
    if location is not None and found.artifact_location != location:
        move_addresses(folder, found.artifact_location)
    return found.experiment_id


def log_trial(
    client: "MlflowClient", experiment: str, bundle: Path, sha256: str, verdict: Verdict, trial: Trial
) -> str:
    """Record a judged model with its bundle, its verdict and the gates' numbers; returns the run's id.

    A record that was cut short is completed.
    """
    word = "approved" if verdict.approved else "rejected"
    tags = {**asdict(trial), JUDGED: sha256, "verdict": word}
    run_id = run_of(client, experiment, sha256, status="RUNNING")
    if run_id is None:
        run_id = client.create_run(experiment, tags=tags, run_name=f"{word}-{sha256[:8]}").info.run_id
    for gate in verdict.gates:
        if gate.value is not None:
            client.log_metric(run_id, gate.name, gate.value)
    client.log_artifacts(run_id, str(bundle), BUNDLE)
    client.log_dict(run_id, verdict.model_dump(mode="json"), VERDICT)
    client.set_terminated(run_id)
    return run_id


def run_of(client: "MlflowClient", experiment: str, sha256: str, *, status: str = _FINISHED) -> str | None:
    """A run with this very bundle: a finished one holds it whole, one that still runs was cut short."""
    runs = client.search_runs(
        [experiment],
        filter_string=f"tags.{JUDGED} = '{sha256}' and attributes.status = '{status}'",
        max_results=1,
    )
    return runs[0].info.run_id if runs else None


def count_trials(client: "MlflowClient", experiment: str, trial: Trial) -> int:
    """Judged models, this one included, of the same period whose test windows overlap with this one's."""
    condition = f"tags.period = '{trial.period}' and attributes.status = '{_FINISHED}'"
    runs = every_page(
        lambda token: client.search_runs(
            [experiment], filter_string=condition, max_results=PAGE_RUNS, page_token=token
        )
    )
    return sum(JUDGED in run.data.tags and overlaps(run.data.tags, trial) for run in runs)


def read_verdict(client: "MlflowClient", run_id: str) -> dict[str, Any] | None:
    """What the gates said of the model of a run, as JSON; None where the run holds no readable verdict, which
    is logged.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            own = own_artifacts(client, run_id, client.get_run(run_id).info.artifact_uri)
            path = own / VERDICT if own else client.download_artifacts(run_id, VERDICT, scratch)
            return Verdict.read(path).model_dump(mode="json")
        except (MlflowException, OSError, ContractError) as error:
            trace = "".join(traceback.format_exception(error))
            log.warning(f"run {run_id} holds no readable verdict: {without_secrets(trace)}")
            return None


def overlaps(tags: Mapping[str, str], window: Trial | Scored) -> bool:
    """Whether the test window that a run's tags tell has a moment in common with another."""
    return tags["test_start"] <= window.test_end and window.test_start <= tags["test_end"]


def finished(run: "Run") -> bool:
    """Whether a run was recorded whole."""
    return run.info.status == _FINISHED
