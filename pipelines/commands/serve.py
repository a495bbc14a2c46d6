"""From a run's configuration to its service: the plan that `alphaloop serve` starts from, and the replay of
the store's history.
"""

from datetime import date
from pathlib import Path

from components.contracts import AlphaloopError
from components.lasting.folder import below, fetched
from components.processes.sources import task_sources
from pipelines.config import Config
from pipelines.lasting import lasting_here
from serving.processes.plan import ServingPlan


class DayError(AlphaloopError):
    """A day on the command line is none."""


def serving_plan(config: Config) -> ServingPlan:
    """What the service of this run serves, and how."""
    return ServingPlan(
        folder=Path(config.run.folder).absolute(),
        store=lasting_here(config) if config.run.store else "",
        name=config.run.name,
        serving=config.serving,
        feature_store=config.feature_store,
        registry=config.registry,
        code_version=task_sources(),
        drift_bars=config.drift.window_bars,
    )


def replay_store(config: Config, url: str, first: str | None, last: str | None) -> str:
    """Send the store's bars of these days through the service at `url` with a progress bar; returns what was
    sent and answered.
    """
    from rich.progress import Progress

    from components.feature_store.publication import CURRENT
    from serving.replay import current_publication, replay

    keys = config.serving.api_keys()
    store = below(lasting_here(config), "feature_store")
    with fetched(store, [CURRENT]) as folder:
        current = current_publication(folder).relative_to(folder).as_posix()
    with (
        fetched(store, lambda name: name.startswith(f"{current}/")) as folder,
        Progress(transient=True) as progress,
    ):
        task = progress.add_task("replay", total=None)
        sent = replay(
            folder / current,
            url,
            keys[0] if keys else None,
            _day(first, "--from"),
            _day(last, "--to"),
            tell=lambda done, total, what: progress.update(
                task, completed=done, total=total, description=what
            ),
        )
    stale = f", {sent.stale:,} of them stale" if sent.stale else ""
    versions = ", ".join(map(str, sent.versions))
    return (
        f"Replayed {sent.bars:,} bars, {sent.rows:,} rows{stale}, {sent.first:%Y-%m-%d} to"
        f" {sent.last:%Y-%m-%d}, answered by version {versions} in {sent.seconds:.0f} s."
    )


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise DayError(f"{option} {text!r} is no day. Write it as 2025-01-31.") from None
