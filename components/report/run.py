"""What the doors of the report call: a run's report, the stages' own pages, and the end of a run."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.contracts import read_gathered
from components.contracts.documents.summary import RunSummary
from components.credentials import require_no_credential
from components.lasting.folder import below, opened
from components.memory.need import MIB, Need
from components.progress import EVENTS_VARIABLE, report, stage
from components.progress.notes import forget_old_notes, notes_place, read_notes
from components.report.build import REPORT, SUMMARY, build_report, keep_pages
from components.report.closing import FAILURE, close_run, read_events, unreached
from components.report.result import EVIDENCE, Artifacts

# Told by the factors; simulated, 34,794 and 291,217 rows: 283 and 415 MiB.
NEED = Need("report", base=262 * MIB, row=560, cell=0)


def run_write_report(artifacts: Artifacts, page: str, *, config: str, folder: str) -> RunSummary:
    """Write the run's report and summary into `folder`, a path or an address, and the report to `page` too.

    `config` is JSON of the whole configuration.
    """
    with stage("report"):
        require_no_credential(json.loads(config), "The report")
        NEED.require(artifacts.learned.factors)
        with opened(folder, [], last=[SUMMARY]) as kept:
            summary = build_report(artifacts, json.loads(config), kept)
            shutil.copyfile(kept / REPORT, page)
        report("report", f"model {'approved' if summary.approved else 'rejected'}: {summary.reason}")
    return summary


def run_keep_evidence(pages: str, *, folder: str) -> None:
    """Copy the stages' own pages, and mined formulas, into `folder`, a path or an address; `pages` holds them
    gathered.
    """
    with stage("evidence"), opened(below(folder, EVIDENCE), []) as kept:
        keep_pages(read_gathered(pages), kept)


def run_close_run(folder: str, *, goals: Sequence[str], state: str, message: str | None) -> None:
    """Leave a page behind if the run did not reach its `goals`, the stages that end it; state and message are
    the orchestrator's.

    On a cluster the stages' notes tell how they ended; on this machine the orchestrator knows, and the events
    file tells why.
    """
    place = notes_place()
    if place is None:
        path = os.environ.get(EVENTS_VARIABLE)
        events = read_events(Path(path)) if path else []
        missing = unreached(state, None, goals)
    else:
        events = read_notes(place)
        missing = unreached(state, events, goals)
        forget_old_notes()
    run = place.rpartition("/")[2] if place else ""
    with opened(folder, [FAILURE]) as kept:
        close_run(
            kept,
            failed=missing is not None,
            message=message or "",
            events=events,
            missing=missing or (),
            run=run,
        )
