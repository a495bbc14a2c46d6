"""What a run leaves behind when it ends: after a failure a page that says where, why and what to do; after a
success none.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.memory.lowered import what_to_lower
from components.page import write_page

FAILURE = "failure.html"
CLOSING = "close"  # the stage that calls us
# Said by kfp.local, which knows. Kubeflow's backend says COMPLETE or CACHED of a whole run, but also RUNNING,
# where its last tasks came from the cache, and FAILED, where a task came through at its second attempt: its
# word counts only where no task has said anything.
SUCCEEDED, BACKEND_SUCCEEDED = "SUCCEEDED", ("COMPLETE", "CACHED")
KILLED = (
    "The process of {stage} was killed: it ended without a word. Most often the machine ran out of memory"
    " (the kernel's log, dmesg, says so)."
)
NO_WORD = (
    "The run ended before {missing}, and no task said why: a pod did not start, or was taken away before it"
    " could speak."
)
AGAIN = "Then start the same pipeline again: finished stages are not repeated."
MEND = f"Do what the stage asks for above. {AGAIN}"
UNEXPECTED = (
    "This was not foreseen: the log of the task holds its trace (kfp.log in the run folder, or, on a cluster,"
    f" the logs of its pod). Mend the cause, or report it with that trace. {AGAIN}"
)
LOOK_AT_PODS = (
    "Look at the run's page in Kubeflow, and at its pods: kubectl get pods -l pipeline/runid={run}, then"
    " kubectl describe pod NAME. An image that can't be pulled, a claim or secret that does not exist, or a"
    f" request that no node can meet stands there. {AGAIN}"
)


@dataclass(frozen=True)
class Said:
    """What a stage said when it failed or warned, and what to do about it."""

    stage: str
    message: str
    remedy: str = ""


def close_run(
    folder: Path,
    *,
    failed: bool,
    message: str,
    events: Path | Sequence[Mapping[str, Any]] | None,
    missing: Sequence[str] = (),
    run: str = "",
) -> Path | None:
    """Write `failure.html` into `folder` if the run failed, remove an old one if it did not.

    Parameters
    ----------
    message : what the orchestrator says of the failure, used where no stage says anything
    events : the run's event lines, or the file that holds them, or None where there are none
    missing : stages that the run should have finished and did not
    run : the run's name on a cluster
    """
    target = folder / FAILURE
    if not failed:
        target.unlink(missing_ok=True)
        return None
    lines = read_events(events) if isinstance(events, Path) else list(events or ())
    failures = failures_of(lines) or [_without_a_word(message, missing, run)]
    done = [
        (event["stage"], f"{event['seconds']:.1f}")
        for event in lines
        if event["event"] == "finished" and event["stage"] != CLOSING
    ]
    warned = [Said(event["stage"], event["message"]) for event in lines if event["event"] == "warned"]
    warnings = list({said.message: said for said in reversed(warned)}.values())[::-1]
    return write_page(target, "report/closing.html", failure=failures[0], warnings=warnings, done=done)


def unreached(
    state: str, events: Sequence[Mapping[str, Any]] | None, goals: Collection[str]
) -> list[str] | None:
    """The stages that a run should have finished and did not; None where it is whole.

    Parameters
    ----------
    state : the orchestrator's word, see SUCCEEDED
    events : of all tasks; None where only the orchestrator's word is known
    goals : stages that end the run; a stage may have added some
    """
    if state == SUCCEEDED:
        return None
    if not events:
        return None if state in BACKEND_SUCCEEDED else list(goals)
    finished = {event["stage"] for event in events if event["event"] == "finished"}
    wanted = [*goals, *(event["reached"] for event in events if event["event"] == "expected")]
    return [goal for goal in dict.fromkeys(wanted) if goal not in finished] or None


def failures_of(events: Sequence[Mapping[str, Any]]) -> list[Said]:
    """What stages said that failed and were not tried again with success, else those that were killed."""
    ended = {event["stage"]: number for number, event in enumerate(events) if event["event"] == "finished"}
    failed = [
        Said(event["stage"], event["message"], MEND if event.get("mendable", True) else UNEXPECTED)
        for number, event in enumerate(events)
        if event["event"] == "failed" and ended.get(event["stage"], -1) < number
    ]
    return failed or killed(events)


def killed(events: Sequence[Mapping[str, Any]]) -> list[Said]:
    """Stages that began and then said nothing more, of the events of a run that has ended: something outside
    put an end to them.
    """
    ended = {event["stage"] for event in events if event["event"] in ("finished", "failed")}
    begun = dict.fromkeys(event["stage"] for event in events if event["event"] == "started")
    return [
        Said(stage, KILLED.format(stage=stage), f"{what_to_lower(stage)} {AGAIN}")
        for stage in begun
        if stage not in {*ended, CLOSING}
    ]


def read_events(events: Path | None) -> list[dict[str, Any]]:
    """The events of a run, oldest first; none where there is no such file, or only a pipe to write to."""
    if events is None or not events.is_file():
        return []
    return [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]


def _without_a_word(message: str, missing: Sequence[str], run: str) -> Said:
    if run:
        return Said(
            "unknown", message or NO_WORD.format(missing=", ".join(missing)), LOOK_AT_PODS.format(run=run)
        )
    return Said("unknown", message or "no reason was given", UNEXPECTED)
