"""The audit trail: decisions, reviewers' words and outcomes, one JSON file each, in the order in which they
were made.

Several processes may append and read at once. A file is never changed, but for the outcome of a decision that
has none yet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from components.contracts import AlphaloopError
from components.contracts.documents.fields import to_second
from components.contracts.documents.retraining import Decision, Outcome, Word
from components.processes.locks import take_lock
from components.retraining.entries import BrokenEntry, read_entry

EntryT = TypeVar("EntryT", Decision, Word)
DECISIONS, WORDS = "decisions", "words"
ID_FORMAT = "%Y%m%dT%H%M%S%fZ"
WORD_KINDS = ("hold", "force", "approve")


class TrailError(AlphaloopError):
    """The audit trail can't be read, or an entry does not fit into it."""


@dataclass(frozen=True)
class Trail:
    """Everything said and decided so far, oldest first.

    Identifiers of decisions and words sort by time, also among each other.
    """

    decisions: tuple[Decision, ...] = ()
    words: tuple[Word, ...] = ()

    def open_decision(self) -> Decision | None:
        """The retraining that was decided and has no outcome yet."""
        return next(
            (one for one in reversed(self.decisions) if one.action == "retrain" and one.outcome is None),
            None,
        )


@dataclass(frozen=True)
class Place:
    """Where a new entry stands in the trail: its identifier, which sorts after all others, and its time."""

    id: str
    when: datetime


def read_trail(review: Path) -> Trail:
    """The whole trail of a review folder; an empty one where nothing was decided yet.

    Raises
    ------
    TrailError
        If a file is not a whole entry of this format; the message names it.
    """
    decisions = _entries(review / DECISIONS, Decision.model_validate_json)
    return Trail(tuple(decisions), tuple(_entries(review / WORDS, Word.model_validate_json)))


def append_decision(review: Path, make: Callable[[Trail, Place], Decision]) -> Decision:
    """Append the decision that `make` returns; nobody else appends in between, so it is made on the newest
    trail.
    """
    with _locked(review):
        trail = read_trail(review)
        return _write(review, make(trail, _next(trail)))


def append_word(review: Path, *, who: str, word: str, reason: str) -> Word:
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
        place = _next(read_trail(review))
        said = Word(id=place.id, when=place.when, who=_text(who), word=word, reason=_text(reason))
        return _write(review, said)


def close_decision(review: Path, identifier: str, outcome: Outcome) -> Decision:
    """Write the outcome of an open decision, and of the decisions to resume it, and return the decision.

    Raises
    ------
    TrailError
        If there is no such decision, or it has another outcome already.
    """
    with _locked(review):
        trail = read_trail(review)
        found = next((one for one in trail.decisions if one.id == identifier), None)
        if found is None:
            raise TrailError(
                f"{review / DECISIONS} holds no decision {identifier}. Was the review folder replaced during"
                " the retraining?"
            )
        if found.outcome is not None:
            if found.outcome == outcome.model_copy(update={"when": found.outcome.when}):
                return found  # a task that is tried again on a cluster says the same twice
            raise TrailError(
                f"Decision {identifier} has an outcome already ({found.outcome.status},"
                f" {to_second(found.outcome.when)}); it is not overwritten."
            )
        for one in trail.decisions:
            if one.resumes == identifier and one.outcome is None:
                _write(review, one.model_copy(update={"outcome": outcome}))
        return _write(review, found.model_copy(update={"outcome": outcome}))


def _entries(folder: Path, validate: Callable[[bytes], EntryT]) -> Iterator[EntryT]:
    for path in sorted(folder.glob("*.json")):
        try:
            entry = read_entry(path, validate)
            if entry.id != path.stem:
                raise BrokenEntry(f"its id is {entry.id}")
        except BrokenEntry as error:
            raise TrailError(
                f"{path} is not an entry of the audit trail ({error}). Restore it from a copy; if nobody can,"
                " move it out of the folder and say so in a hold's reason."
            ) from error
        yield entry


def _next(trail: Trail) -> Place:
    """The present moment, or just after the newest entry where a clock was set back."""
    newest = max((one.id for one in (*trail.decisions[-1:], *trail.words[-1:])), default="")
    now = datetime.now(UTC)
    if newest and now.strftime(ID_FORMAT) <= newest:
        now = datetime.strptime(newest, ID_FORMAT).replace(tzinfo=UTC) + timedelta(microseconds=1)
    return Place(now.strftime(ID_FORMAT), now.replace(microsecond=0))


def _text(typed: str) -> str:
    """What somebody typed, without blanks around it and without halves of characters."""
    return typed.strip().encode("utf-8", "replace").decode("utf-8")


def _write(review: Path, entry: EntryT) -> EntryT:
    folder = review / (DECISIONS if isinstance(entry, Decision) else WORDS)
    entry.write(folder / f"{entry.id}.json")
    return entry


@contextmanager
def _locked(review: Path) -> Iterator[None]:
    """Keep other writers out; readers need no lock, since files appear whole."""
    try:
        review.mkdir(parents=True, exist_ok=True)
        lock = take_lock(review / ".lock", wait=True)
    except OSError as error:
        raise TrailError(
            f"{review} can't be written: {error.strerror}. Set run.folder to a folder that you may write."
        ) from error
    with lock:
        yield
