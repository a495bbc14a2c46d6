"""What a run leaves behind when it ends: after a failure a page that says where, why and what to do; after a
success none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.page import write_page

FAILURE = "failure.html"
CLOSING = "close"  # the stage that calls us
KILLED = (
    "The process of {stage} was killed: it ended without a word. Most often the machine ran out of memory"
    " (the kernel's log, dmesg, says so). Free memory, or give the run fewer symbols or bars (market.symbols,"
    " market.start), then start the same command again: finished stages are not repeated."
)


@dataclass(frozen=True)
class Said:
    """What a stage said when it failed or warned."""

    stage: str
    message: str


def close_run(folder: Path, *, failed: bool, message: str, events: Path | None) -> Path | None:
    """Write `failure.html` into `folder` if the run failed, remove an old one if it did not.

    Parameters
    ----------
    message : what the orchestrator says of the failure, used where there are no events
    events : the run's event lines, or None on a cluster
    """
    target = folder / FAILURE
    if not failed:
        target.unlink(missing_ok=True)
        return None
    lines = read_events(events)
    failures = _said(lines, "failed") or killed(lines)
    failures = failures or [Said("unknown", message or "no reason was given")]
    done = [
        (event["stage"], f"{event['seconds']:.1f}")
        for event in lines
        if event["event"] == "finished" and event["stage"] != CLOSING
    ]
    warnings = list({said.message: said for said in reversed(_said(lines, "warned"))}.values())[::-1]
    return write_page(target, "report/closing.html", failure=failures[0], warnings=warnings, done=done)


def killed(events: Sequence[Mapping[str, Any]]) -> list[Said]:
    """Stages that began and then said nothing more, of the events of a run that has ended: something outside
    put an end to them.
    """
    ended = {event["stage"] for event in events if event["event"] in ("finished", "failed")}
    begun = dict.fromkeys(event["stage"] for event in events if event["event"] == "started")
    return [Said(stage, KILLED.format(stage=stage)) for stage in begun if stage not in {*ended, CLOSING}]


def read_events(events: Path | None) -> list[dict[str, Any]]:
    """The events of a run, oldest first; none where there is no such file, or only a pipe to write to."""
    if events is None or not events.is_file():
        return []
    return [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]


def _said(lines: list[dict[str, Any]], kind: str) -> list[Said]:
    return [Said(event["stage"], event["message"]) for event in lines if event["event"] == kind]
