"""What every model earned on a test window: kept as an artifact of the MLflow run that scored it, and
gathered again before the next one is judged.
"""

import hashlib
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.contracts import ContractError
from components.contracts.documents.trials import Scored, ScoredModel, Trials
from components.credentials import without_secrets
from components.metrics import same_market
from components.registry.client import RegistryError, every_page, log, open_existing, open_registry
from components.registry.config import Settings
from components.registry.local import DATABASE, own_artifacts
from components.registry.trials import JUDGED, PAGE_RUNS, experiment_of, finished, overlaps

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEPT = "trials"  # among the artifacts of a run
_SCORED = "scored_sha256"  # the tag of a run that keeps models which were never judged


def gather_trials(settings: Settings, name: str, folder: Path, own: Scored) -> Trials:
    """The models of `own`, and all those of the registry whose test windows overlap with theirs: of any
    target and horizon, and whatever `run.name` they were registered under, for each was a try at the same
    market. Which market it was their prices say; where nobody kept these, the name.

    A judged model of this name of before returns were kept counts as one that nobody has seen. `folder` is
    where the registry lies unless `settings` name another.

    Raises
    ------
    RegistryError
        If the registry does not answer.
    """
    if not settings.tracking_uri and not (folder / DATABASE).exists():
        return Trials(scored=(own,), unseen=0)
    client = open_registry(settings, folder)
    named = client.get_experiment_by_name(name)
    seen = {model.key for model in own.models}
    scored, unseen = [own], 0
    for run in _runs(client, own):
        of_this_name = named is not None and run.info.experiment_id == named.experiment_id
        kept = list(_kept(client, run))
        unseen += of_this_name and not kept and finished(run) and JUDGED in run.data.tags
        for told in kept:
            same = same_market(told.market, own.market)
            if not (of_this_name if same is None else same):
                continue
            new = tuple(model for model in told.models if model.key not in seen)
            seen.update(model.key for model in new)
            if new:
                scored.append(_of_run(told, run.info.run_id, new))
    return Trials(scored=tuple(scored), unseen=unseen)


def newest_trials(settings: Settings, name: str, folder: Path) -> Trials:
    """All trials of the test window on which the newest judged model was scored, its run's first.

    Raises
    ------
    RegistryError
        If there is no registry, or no judged model in it keeps its returns.
    """
    client = open_existing(settings, folder)
    experiment = client.get_experiment_by_name(name)
    runs = _every_run(client, [experiment.experiment_id], "") if experiment else ()
    judged = (run for run in reversed(list(runs)) if JUDGED in run.data.tags)
    kept = (_of_run(told, run.info.run_id, told.models) for run in judged for told in _kept(client, run))
    newest = next(kept, None)
    if newest is None:
        raise RegistryError(
            f"No model of {name} in the registry keeps the returns that it was judged by. Judge one with:"
            " alphaloop run"
        )
    return gather_trials(settings, name, folder, newest)


def keep_trials(client: "MlflowClient", run_id: str, own: Scored) -> None:
    """Keep the models that were scored beside a run, each set of them once."""
    file = f"{_digest(own)}.json"
    if any(found.path == f"{KEPT}/{file}" for found in client.list_artifacts(run_id, KEPT)):
        return
    with tempfile.TemporaryDirectory() as scratch:
        Trials(scored=(own,), unseen=0).write(Path(scratch) / file)
        client.log_artifact(run_id, str(Path(scratch) / file), KEPT)


def keep_variants(settings: Settings, name: str, folder: Path, own: Scored, what: str) -> None:
    """Keep models that were scored on a test window without being judged, as a run of their own; once.

    `what` says what was done, such as the name of an ablation.
    """
    client = open_registry(settings, folder)
    experiment, digest = experiment_of(client, settings, name, folder), _digest(own)
    if client.search_runs([experiment], filter_string=f"tags.{_SCORED} = '{digest}'", max_results=1):
        return
    tags = {"period": own.period, "test_start": own.test_start, "test_end": own.test_end}
    run_id = client.create_run(experiment, tags=tags, run_name=what).info.run_id
    keep_trials(client, run_id, own)
    client.set_tag(run_id, _SCORED, digest)
    client.set_terminated(run_id)


def _runs(client: "MlflowClient", own: Scored) -> "Iterator[Run]":
    """Those of every name whose test windows overlap, oldest first; one that was cut short has scored its
    models too.
    """
    every = every_page(lambda token: client.search_experiments(max_results=PAGE_RUNS, page_token=token))
    # What others keep on the same server may have a period too, but no test window.
    condition = f"tags.period = '{own.period}' and tags.test_start LIKE '%' and tags.test_end LIKE '%'"
    found = _every_run(client, [one.experiment_id for one in every], condition)
    return (run for run in found if overlaps(run.data.tags, own))


def _every_run(client: "MlflowClient", experiments: list[str], condition: str) -> "Iterator[Run]":
    """Oldest first."""
    return every_page(
        lambda token: client.search_runs(
            experiments,
            filter_string=condition,
            order_by=["attributes.start_time ASC"],
            max_results=PAGE_RUNS,
            page_token=token,
        )
    )


def _kept(client: "MlflowClient", run: "Run") -> Iterator[Scored]:
    """What a run keeps; what can't be read is logged, and the run's model counts as unseen."""

    run_id = run.info.run_id
    with tempfile.TemporaryDirectory() as scratch:
        own = own_artifacts(client, run_id, run.info.artifact_uri)
        if own is not None:
            folder = own / KEPT
        elif client.list_artifacts(run_id, KEPT):
            folder = Path(client.download_artifacts(run_id, KEPT, scratch))
        else:
            return
        for path in sorted(folder.glob("*.json")):
            try:
                yield from Trials.read(path).scored
            except ContractError as error:
                trace = "".join(traceback.format_exception(error))
                log.warning(f"run {run_id} keeps no readable trials: {without_secrets(trace)}")


def _digest(own: Scored) -> str:
    return hashlib.sha256("".join(model.key for model in own.models).encode()).hexdigest()[:16]


def _of_run(told: Scored, run_id: str, models: tuple[ScoredModel, ...]) -> Scored:
    return told.model_copy(update={"run": run_id, "models": models})
