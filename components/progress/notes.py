"""Notes of a run's stages, where tasks share no events file: on a cluster each leaves what it said in the
run's lasting place, in a file of its own, so that the task that closes the run knows how the others ended.
"""

import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from components.contracts.errors import AlphaloopError
from components.lasting.folder import LastingFolder, below, fetched, is_address

# Where the notes of all runs lie, and the name of this run: set in pipelines that are compiled for a cluster.
NOTES_VARIABLE, RUN_VARIABLE = "ALPHALOOP_NOTES", "ALPHALOOP_RUN"
# What a note holds; the rest goes to the log alone. A warning goes with the end of its stage.
KEPT, LATER = ("started", "expected", "failed", "finished"), ("warned",)
# Notes of runs older than this go.
DAYS = 30


def notes_place() -> str | None:
    """The folder of this run's notes, a path or an address; None where none are kept."""
    place, run = os.environ.get(NOTES_VARIABLE), os.environ.get(RUN_VARIABLE)
    return below(place, run) if place and run else None


def keep_note(event: Mapping[str, Any]) -> None:
    """Add an event to the note of this task, and put the note to its place.

    Each attempt at a task leaves a note of its own. Where the place does not answer, that is told in the
    log, and the task goes on.
    """
    place = notes_place()
    if place is None or event["event"] not in (*KEPT, *LATER):
        return
    said = _said()
    said.append(event)
    if event["event"] in LATER:
        return
    name = f"{re.sub(r'[^a-z0-9]+', '-', said[0]['stage'].lower())}.{_attempt()}.jsonl"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "note"
            path.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
            _folder(place).put_file(path, name)
    except (AlphaloopError, OSError) as error:
        print(f"[{event['stage']}] no note was left: {error}", file=sys.stderr, flush=True)


def keep_page(page: Path) -> str:
    """Where a person finds the page of a task that is about to fail: where it is, or beside the task's note,
    for a cluster hands on nothing of a task that failed.
    """
    place = notes_place()
    if place is None:
        return str(page)
    name = f"{page.parent.name}.html"
    try:
        _folder(place).put_file(page, name)
    except (AlphaloopError, OSError) as error:
        print(f"{page} was not kept: {error}", file=sys.stderr, flush=True)
    return below(place, name)


def read_notes(place: str) -> list[dict[str, Any]]:
    """The events of all notes of a run, oldest first.

    Raises
    ------
    LastingError
        If the place does not answer.
    """
    with fetched(place) as folder:
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jsonl"))]
    events = [json.loads(line) for text in texts for line in text.splitlines()]
    return sorted(events, key=lambda event: event["time"])


def forget_old_notes() -> None:
    """Remove the notes of runs that ended long ago."""
    folder, oldest = _folder(os.environ[NOTES_VARIABLE]), datetime.now(UTC) - timedelta(days=DAYS)
    for name, moment in folder.names().items():
        if moment < oldest:
            folder.remove(name)


def _folder(place: str) -> LastingFolder:
    """The folder at a path or an address."""
    return LastingFolder.at(place if is_address(place) else Path(place).absolute().as_uri())


@cache
def _said() -> list[Mapping[str, Any]]:
    """What this process has said so far."""
    return []


@cache
def _attempt() -> str:
    """A name of this process that no other has."""
    return uuid.uuid4().hex[:8]
