"""Schedules on a Kubeflow Pipelines cluster: pipelines that it runs again and again. One schedule a pipeline
and run.name: setting it once more replaces it.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipelines.config import Config
from pipelines.lasting import require_lasting
from pipelines.runners.cluster import RUNS, find_experiment, named, run_settings, upload
from pipelines.runners.cron import cron_schedule
from pipelines.runners.ir import ClusterError
from pipelines.runners.kubeflow_api import NOT_FOUND, Kubeflow, Refused, connect

SCHEDULES = "RecurringRunServiceApi"
# So many of an experiment's newest runs are looked at for those that schedules began.
LOOKED_AT = 500
# Runs that a schedule has begun are its children, which would be deleted with it.
KEEP_RUNS = "ORPHAN"


@dataclass(frozen=True)
class Schedule:
    """A schedule that is set, and its newest run, None where it had none yet; both kfp's own objects."""

    set: Any
    newest: Any | None


def set_schedule(
    name: str, config: Config, cron: str, *, host: str | None = None, image: str | None = None
) -> str:
    """Have the cluster run pipeline `name` at the times of `cron`, in place of the schedule that it had;
    returns what to tell the user.

    The new one is made first and the old ones go then, so that a failure in between leaves one too many and
    never none. Its runs never overlap, and those that were missed are not made up for.

    Parameters
    ----------
    cron : minute, hour, day of month, month, day of week; or six fields with the second in front, as Kubeflow
        Pipelines writes them

    Raises
    ------
    ClusterError
        If the schedule is no such expression, no host is known, or the server refuses or does not answer.
    WouldVanish
        If what a run makes would not last.
    """
    import kfp_server_api

    schedule = cron_schedule(cron)
    require_lasting(config)
    server = connect(config.cluster, host)
    uploaded = upload(server, name, config, image)
    title = schedule_title(name, config)
    before = _in_experiment(server, uploaded.experiment_id, title)
    made = kfp_server_api.V2beta1RecurringRun(
        display_name=title,
        pipeline_version_reference=uploaded.reference,
        trigger=kfp_server_api.V2beta1Trigger(
            cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=schedule)
        ),
        max_concurrency="1",
        no_catchup=True,
        mode=kfp_server_api.RecurringRunMode.ENABLE,
        **run_settings(uploaded, config),
    )
    set_one = server.call(SCHEDULES, "recurring_run_service_create_recurring_run", made)
    for old in before:
        _delete(server, old)
    replaced = f", in place of {_and(before)}" if before else ""
    return (
        f"{title!r} recurs at {schedule!r} (second, minute, hour, day of month, month, day of week; UTC"
        f" unless the cluster says otherwise) from version {uploaded.version}{replaced}:"
        f" {server.address}/#/recurringrun/details/{set_one.recurring_run_id}"
    )


def remove_schedule(name: str, config: Config, *, host: str | None = None) -> str:
    """Have the cluster run pipeline `name` no more by schedule; a run that has begun goes on.

    Raises
    ------
    ClusterError
        If there is no such schedule, or the server refuses or does not answer.
    """
    server = connect(config.cluster, host)
    title = schedule_title(name, config)
    experiment = find_experiment(server, config.cluster.experiment)
    found = _in_experiment(server, experiment, title) if experiment else []
    if not found:
        raise ClusterError(
            f"{server.address} has no schedule {title!r} in experiment {config.cluster.experiment!r}. See"
            " what there is with: alphaloop schedules list"
        )
    for one in found:
        _delete(server, one)
    return f"Removed {title!r} ({_and(found)})."


def list_schedules(config: Config, *, host: str | None = None) -> list[Schedule]:
    """The schedules of `cluster.experiment` in the order of their names, each with its newest run."""
    server = connect(config.cluster, host)
    experiment = find_experiment(server, config.cluster.experiment)
    if experiment is None:
        return []
    newest: dict[str, Any] = {}
    runs = server.listed(
        RUNS, "run_service_list_runs", "runs", experiment_id=experiment, sort_by="created_at desc"
    )
    for run in islice(runs, LOOKED_AT):
        newest.setdefault(run.recurring_run_id, run)
    schedules = [
        Schedule(one, newest.get(one.recurring_run_id)) for one in _in_experiment(server, experiment)
    ]
    return sorted(schedules, key=lambda one: (one.set.display_name, one.set.recurring_run_id))


def schedule_title(name: str, config: Config) -> str:
    """The name under which the schedule of a pipeline is kept."""
    return f"{config.run.name} {name}"


def _in_experiment(server: Kubeflow, experiment: str, title: str | None = None) -> list[Any]:
    """The schedules of an experiment, or those of one name."""
    listed = server.listed(
        SCHEDULES,
        "recurring_run_service_list_recurring_runs",
        "recurring_runs",
        experiment_id=experiment,
        **({"filter": named(title)} if title else {}),
    )
    return [one for one in listed if title in (None, one.display_name)]


def _delete(server: Kubeflow, one: Any) -> None:
    try:
        server.call(
            SCHEDULES,
            "recurring_run_service_delete_recurring_run",
            one.recurring_run_id,
            propagation_policy=KEEP_RUNS,
        )
    except Refused as refused:
        if refused.status != NOT_FOUND:  # somebody else was quicker
            raise


def _and(schedules: list[Any]) -> str:
    return " and ".join(one.recurring_run_id for one in schedules)
