"""Runs the retraining pipeline on a schedule on this machine: one check after the other, one line each, until
it is stopped.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.markup import escape

from components.contracts import AlphaloopError
from components.contracts.documents.retraining import Decision
from pipelines.config import Config

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BUSY_POLL_S = 5.0
COLOURS = {
    "promoted": "green",
    "kept_champion": "yellow",
    "rejected": "yellow",
    "held": "yellow",
    "waiting_for_approval": "yellow",
}


class WatchError(AlphaloopError):
    """The single check that was asked for failed, or the schedule is none."""


def watch(
    config: Config,
    once: bool = False,
    every: str | None = None,
    *,
    runner: str = "subprocess",
    console: Console | None = None,
) -> None:
    """Check for drift and retrain where that is decided, now and then each `every` (default
    `retraining.every`), in the foreground.

    A check that fails is told and the next one comes as planned; a run that holds the folder is waited for.
    Ends by Ctrl-C, or after one check with `once`.

    Raises
    ------
    WatchError
        If `every` is no length of time; with `once`, if the check failed.
    RetrainingError
        If the configuration can't be retrained, such as a test window that ends on a fixed day.
    """
    from pipelines.graphs.retraining import retraining_config

    console = console or Console(highlight=False, soft_wrap=True)
    seconds = seconds_of(every or config.retraining.every)
    retraining_config(config)
    due = time.monotonic()
    try:
        while True:
            failure = _check(config, console, runner)
            if once:
                if failure:
                    raise WatchError(failure)
                return
            # A check that took longer than the time between two of them is followed by the next planned one,
            # not by all that were missed.
            due += seconds * max(1, -(-(time.monotonic() - due) // seconds))
            _say(
                console,
                "",
                "next check"
                f" {datetime.now(UTC) + timedelta(seconds=due - time.monotonic()):%Y-%m-%d %H:%M:%S}",
                colour="dim",
            )
            time.sleep(max(0.0, due - time.monotonic()))
    except KeyboardInterrupt:
        _say(
            console,
            "stopped",
            "by the keyboard; an unfinished retraining is resumed by the next check",
            colour="dim",
        )
        if once:
            raise


def seconds_of(text: str) -> float:
    """Seconds of a length of time such as 30m, 6h or 1d; WatchError where it is none."""
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text.strip())
    if not found:
        raise WatchError(
            f"{text!r} is no length of time. Write a whole number and a unit: 90s, 30m, 6h or 1d."
        )
    return int(found[1]) * UNITS_S[found[2]]


def _check(config: Config, console: Console, runner: str) -> str | None:
    """One check, told in one line; returns why it failed, or None.

    A source that is fetched is asked for its newest bars first.
    """
    from components.market.config import FETCHED
    from components.market.fetched import fetch
    from pipelines.commands.retrain import run_retraining
    from pipelines.config import data_folder
    from pipelines.runners.terminal import Terminal

    start = time.monotonic()
    try:
        if config.market.source in FETCHED:
            fetch(config.market, data_folder())
        terminal = Terminal(console, lines=False)
        made = _when_free(lambda: run_retraining(config, terminal=terminal, runner=runner), console)
    except AlphaloopError as error:
        _say(console, "failed", str(error), colour="red")
        return str(error)
    result = made.outcome.status if made.outcome else made.action
    _say(
        console,
        result,
        f"{describe(made)}  ({time.monotonic() - start:.0f} s)",
        colour=COLOURS.get(result, "none"),
    )
    return None


def describe(made: Decision) -> str:
    """A decision in one line: what, why and how it ended."""
    outcome = made.outcome
    if outcome is None:
        return made.reason
    version = f"version {outcome.version}, " if outcome.version else ""
    return (
        f"{version}champion {outcome.champion_before} → {outcome.champion_after}: {outcome.reason};"
        f" retrained because of {made.reason}"
    )


def _when_free(run: Callable[[], Decision], console: Console) -> Decision:
    """The run's result, once no other run holds the folder."""
    from pipelines.runners.local_run import FolderInUse

    told = False
    while True:
        try:
            return run()
        except FolderInUse as error:
            if not told:
                _say(console, "waiting", str(error).split(". ")[0], colour="dim")
                told = True
            time.sleep(BUSY_POLL_S)


def _say(console: Console, what: str, text: str, *, colour: str) -> None:
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  [{colour}]{what:<20}[/]  {escape(' '.join(text.split()))}"
    )
