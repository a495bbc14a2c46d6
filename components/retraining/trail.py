"""The audit trail: decisions, reviewers' words and outcomes, one JSON file each, in the order in which they
were made.

Several processes may append and read at once. A file is never changed, but for the outcome of a decision that
has none yet.
"""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.contracts import AlphaloopError, atomic_write_text

FORMAT = 1
DECISIONS, WORDS = "decisions", "words"
ID_FORMAT = "%Y%m%dT%H%M%S%fZ"
WORD_KINDS = ("hold", "force", "approve")
KEYS = {
    DECISIONS: {
        "format",
        "id",
        "when",
        "action",
        "by",
        "rules",
        "reason",
        "data",
        "champion",
        "drift_report",
        "outcome",
    },
    WORDS: {"format", "id", "when", "who", "word", "reason"},
}


class TrailError(AlphaloopError):
    """The audit trail can't be read, or an entry does not fit into it."""


@dataclass(frozen=True)
class Trail:
    """Everything said and decided so far, oldest first.

    Identifiers of decisions and words sort by time, also among each other.
    """

    decisions: tuple[dict[str, Any], ...] = ()
    words: tuple[dict[str, Any], ...] = ()

    def open_decision(self) -> dict[str, Any] | None:
        """The retraining that was decided and has no outcome yet."""
        return next(
            (
                one
                for one in reversed(self.decisions)
                if one["action"] == "retrain" and one["outcome"] is None
            ),
            None,
        )


def read_trail(review: Path) -> Trail:
    """The whole trail of a review folder; an empty one where nothing was decided yet.

    Raises
    ------
    TrailError
        If a file is not a whole entry of this format; the message names it.
    """
    return Trail(tuple(_entries(review, DECISIONS)), tuple(_entries(review, WORDS)))


def append_decision(review: Path, make: Callable[[Trail, str], Mapping[str, Any]]) -> dict[str, Any]:
    """Append the decision that `make(trail, id)` returns; nobody else appends in between, so it is made on
    the newest trail.
    """
    with _locked(review):
        trail = read_trail(review)
        name, when = _next(trail)
        return _write(
            review,
            DECISIONS,
            {"format": FORMAT, "id": name, "when": when, **make(trail, name), "outcome": None},
        )


def append_word(review: Path, *, who: str, word: str, reason: str) -> dict[str, Any]:
    """Append a reviewer's word.

    Raises
    ------
    TrailError
        If the word is none of hold, force, approve, or no reason or name is given.
    """
    if word not in WORD_KINDS:
        raise TrailError(f"{word!r} is no word of a review. Choose one of: {', '.join(WORD_KINDS)}.")
    if not reason.strip() or not who.strip():
        raise TrailError(
            f"A {word} needs a name and a reason, since it stays in the audit trail. Give both, for example"
            " --reason 'index rebalancing, wait for Monday'."
        )
    with _locked(review):
        name, when = _next(read_trail(review))
        return _write(
            review,
            WORDS,
            {
                "format": FORMAT,
                "id": name,
                "when": when,
                "who": who.strip(),
                "word": word,
                "reason": reason.strip(),
            },
        )


def close_decision(review: Path, identifier: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Write the outcome of an open decision, and of the decisions to resume it, and return the decision.

    Raises
    ------
    TrailError
        If there is no such decision, or it has another outcome already.
    """
    with _locked(review):
        trail = read_trail(review)
        found = next((one for one in trail.decisions if one["id"] == identifier), None)
        if found is None:
            raise TrailError(
                f"{review / DECISIONS} holds no decision {identifier}. Was the review folder replaced during"
                " the retraining?"
            )
        if found["outcome"] is not None:
            if {**found["outcome"], **outcome} == found["outcome"]:
                return found  # a task that is tried again on a cluster says the same twice
            raise TrailError(
                f"Decision {identifier} has an outcome already ({found['outcome']['status']},"
                f" {found['outcome']['when']}); it is not overwritten."
            )
        closed = {**found, "outcome": {"when": _iso(datetime.now(UTC)), **outcome}}
        for resumed in (
            one for one in trail.decisions if one.get("resumes") == identifier and one["outcome"] is None
        ):
            _write(review, DECISIONS, {**resumed, "outcome": closed["outcome"]})
        return _write(review, DECISIONS, closed)


def _entries(review: Path, kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted((review / kind).glob("*.json")):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            missing = KEYS[kind] - entry.keys()
            fault = (
                f"{sorted(missing)[0]!r} is missing"
                if missing
                else (
                    ""
                    if (entry["format"], entry["id"]) == (FORMAT, path.stem)
                    else f"format {entry['format']}, id {entry['id']}"
                )
            )
        except (OSError, ValueError, AttributeError) as error:
            fault = str(error)
        if fault:
            raise TrailError(
                f"{path} is not an entry of the audit trail ({fault}). Restore it from a copy; if nobody can,"
                " move it out of the folder and say so in a hold's reason."
            )
        yield entry


def _next(trail: Trail) -> tuple[str, str]:
    """Identifier and time of a new entry: the present moment, or just after the newest entry where a clock
    was set back.
    """
    newest = max((one["id"] for one in (*trail.decisions[-1:], *trail.words[-1:])), default="")
    now = datetime.now(UTC)
    if newest and now.strftime(ID_FORMAT) <= newest:
        now = datetime.strptime(newest, ID_FORMAT).replace(tzinfo=UTC) + timedelta(microseconds=1)
    return now.strftime(ID_FORMAT), _iso(now)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(review: Path, kind: str, entry: dict[str, Any]) -> dict[str, Any]:
    atomic_write_text(review / kind / f"{entry['id']}.json", json.dumps(entry, indent=1))
    return entry


@contextmanager
def _locked(review: Path) -> Iterator[None]:
    """Keep other writers out; readers need no lock, since files appear whole."""
    try:
        review.mkdir(parents=True, exist_ok=True)
        handle = (review / ".lock").open("w")
    except OSError as error:
        raise TrailError(
            f"{review} can't be written: {error.strerror}. Set run.folder to a folder that you may write."
        ) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
