"""What a run leaves behind when it ends: after a failure a page that says where, why and what to do; after a
success none.
"""

import json
from pathlib import Path

from components.contracts import atomic_write_text
from components.page import card, escape, page, section, table

FAILURE = "failure.html"


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
    lines = (
        [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
        if events and events.exists()
        else []
    )
    failures = [event for event in lines if event["event"] == "failed"]
    first = failures[0] if failures else {"stage": "unknown", "message": message or "no reason was given"}
    done = [
        [escape(e["stage"]), f"{e['seconds']:.1f}"]
        for e in lines
        if e["event"] == "finished" and e["stage"] != "close"
    ]
    warnings = "".join(
        f'<p class="warn">{escape(e["stage"])}: {escape(e["message"])}</p>'
        for e in lines
        if e["event"] == "warned"
    )
    head = (
        f'<h1>The run stopped<span class="badge bad">{escape(first["stage"])}</span></h1><p'
        ' class="soft">Finished stages are kept: after mending, the next run goes on from here.</p>'
    )
    parts = [
        (
            "why",
            "Why",
            section(
                "why",
                "Why",
                "The stage's own words.",
                card(f"<pre>{escape(first['message'])}</pre>{warnings}"),
            ),
        ),
        (
            "before",
            "Before",
            section("before", "Before", "Stages that finished.", card(table(["stage", "seconds"], done))),
        ),
    ]
    atomic_write_text(target, page("The run stopped", head, parts, plots=False))
    return target
