"""Schedules on a cluster as a table: `alphaloop schedules list`."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.config import Config
from pipelines.runners.schedules import Schedule, list_schedules

UNFINISHED = ("PENDING", "RUNNING", "CANCELING", "PAUSED")
# A run that lasts longer than this is marked: as long as it lasts its schedule begins no other.
LONG = timedelta(hours=24)


def schedules_table(config: Config, host: str | None = None) -> Any:
    """For Rich: each schedule of the experiment, when it runs, and what its newest run does."""
    from rich.markup import escape
    from rich.table import Table

    schedules = list_schedules(config, host=host)
    if not schedules:
        return (
            f"No schedule in experiment {escape(repr(config.cluster.experiment))}. Set one with: alphaloop"
            " schedules set --pipeline retraining --cron '0 6 * * 1-5'"
        )
    table = Table(box=None, pad_edge=False)
    for column in ("schedule", "when", "", "newest run", "id"):
        table.add_column(column, overflow="fold")
    for one in schedules:
        state = "on" if one.set.status == "ENABLED" else (one.set.status or "unknown").lower()
        told = escape(newest_run(one, datetime.now(UTC)))
        table.add_row(
            escape(one.set.display_name), escape(_when(one.set)), state, told, one.set.recurring_run_id
        )
    return table


def newest_run(schedule: Schedule, now: datetime) -> str:
    """The state of a schedule's newest run and when it began; of one that lasts long, what that means."""
    run = schedule.newest
    if run is None:
        return "none yet"
    began = f"{run.state or 'unknown'} since {run.created_at:%Y-%m-%d %H:%M} UTC"
    if run.state in UNFINISHED and now - run.created_at > LONG:
        return f"{began}: none of this schedule begins before it ends. Look at it, or end it: {run.run_id}"
    return began


def _when(one: Any) -> str:
    trigger = one.trigger
    if trigger and trigger.cron_schedule:
        return trigger.cron_schedule.cron
    if trigger and trigger.periodic_schedule:
        return f"every {trigger.periodic_schedule.interval_second} s"
    return "unknown"
