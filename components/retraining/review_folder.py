"""What the review folder holds: decisions, reviewers' words, drift reports and champions.

Each file is checked by itself: a broken one is named, the others are read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from components.contracts.documents.champion import Reign
from components.contracts.documents.drift import DriftReport
from components.contracts.documents.retraining import Decision, Word
from components.lasting.folder import below, opened
from components.retraining.entries import BrokenEntry, read_entry
from components.retraining.reports import PAGE, PICTURES

DECISIONS, WORDS, DRIFT, CHAMPIONS = "decisions", "words", "drift", "champions.json"
REIGNS = TypeAdapter(tuple[Reign, ...])
EntryT = TypeVar("EntryT")


@dataclass(frozen=True)
class Review:
    """Everything readable in the folder, newest first (champions: oldest first), and what could not be read
    as (file, what is wrong).
    """

    decisions: list[Decision]
    words: list[Word]
    drift: dict[str, DriftReport]
    champions: list[Reign]
    problems: list[tuple[str, str]]

    def hold(self) -> Word | None:
        """The hold in force: the newest word, if that is `hold`; a later force or approve lifts it."""
        return self.words[0] if self.words and self.words[0].word == "hold" else None

    def open_decision(self) -> Decision | None:
        """A retraining without an outcome, else what waits for approval and was not overtaken by a later
        check or retraining.
        """
        unfinished = next(
            (one for one in self.decisions if one.action == "retrain" and one.outcome is None), None
        )
        telling = next(
            (one for one in self.decisions if one.action in ("waiting_for_approval", "none", "retrain")), None
        )
        return unfinished or (telling if telling and telling.action == "waiting_for_approval" else None)


@contextmanager
def opened_review(folder: str) -> Iterator[Path]:
    """The review folder below the folder or address of what lasts, to read and to write.

    Evidently's pages, megabytes each, are there by name only where it lies at an address.
    """
    wanted = lambda name: not name.endswith(f"/{PICTURES}")  # noqa: E731
    with opened(below(folder, "review"), wanted, last=[PAGE]) as review:
        yield review


def read_review(folder: Path) -> Review:
    """Read the whole review folder; a missing one is an empty one."""
    problems: list[tuple[str, str]] = []
    decisions = _entries(folder, f"{DECISIONS}/*.json", Decision.model_validate_json, problems)
    words = _entries(folder, f"{WORDS}/*.json", Word.model_validate_json, problems)
    reports = _entries(folder, f"{DRIFT}/*/drift.json", DriftReport.model_validate_json, problems)
    reigns = _entries(folder, CHAMPIONS, lambda text: REIGNS.validate_json(text, strict=True), problems)
    return Review(
        decisions=sorted((one for _, one in decisions), key=lambda one: (one.when, one.id), reverse=True),
        words=sorted((one for _, one in words), key=lambda one: (one.when, one.id), reverse=True),
        drift={path.parent.name: report for path, report in reports},
        champions=sorted((reign for _, all_of in reigns for reign in all_of), key=lambda reign: reign.when),
        problems=problems,
    )


def _entries(
    folder: Path, pattern: str, validate: Callable[[bytes], EntryT], problems: list[tuple[str, str]]
) -> Iterator[tuple[Path, EntryT]]:
    """Every readable file of a kind; names that start with a dot are files that are being written."""
    for path in sorted(folder.glob(pattern)):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        try:
            yield path, read_entry(path, validate)
        except BrokenEntry as error:
            problems.append((inside.as_posix(), str(error)))
