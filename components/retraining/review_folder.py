"""What the review folder holds: decisions, reviewers' words, drift reports and champions.

Each file is checked by itself: a broken one is named, the others are read.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, TypeAdapter, ValidationError

DECISIONS, WORDS, DRIFT, CHAMPIONS = "decisions", "words", "drift", "champions.json"

Moment = Annotated[
    datetime,
    AfterValidator(lambda moment: moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)),
]


class Span(BaseModel):
    """The data that a decision or a drift report looked at."""

    first: Moment | None = None
    last: Moment | None = None
    rows: int | None = None
    current_sha256: str | None = None


class Champion(BaseModel):
    """The champion at the time of a decision; no version where there was none."""

    version: int | None = None


class Outcome(BaseModel):
    """How the retraining of a decision ended."""

    when: Moment
    status: str
    version: int | None = None
    champion_before: int | None = None
    champion_after: int | None = None
    reason: str = ""


class Decision(BaseModel):
    """One decision of the retraining pipeline."""

    format: Literal[1]
    id: str
    when: Moment
    action: str
    by: str
    who: str | None = None
    rules: list[str] = []
    reason: str
    data: Span | None = None
    champion: Champion | None = None
    drift_report: str | None = None
    outcome: Outcome | None = None


class Word(BaseModel):
    """What a reviewer said, and why."""

    format: Literal[1]
    id: str
    when: Moment
    who: str
    word: str
    reason: str


class Column(BaseModel):
    """One column of a drift report."""

    column: str
    ks: float | None = None
    psi: float | None = None
    drifted: bool = False
    what: str | None = None


class Rule(BaseModel):
    """One trigger rule of a drift report."""

    rule: str
    fired: bool
    reason: str = ""


class Drift(BaseModel):
    """The part of a drift report that the list shows."""

    format: Literal[1, 2]
    verdict: str
    reason: str = ""
    current: Span | None = None
    columns: list[Column] = []
    rules: list[Rule] = []

    def largest_mover(self) -> Column | None:
        """Of the columns that the report calls drifted the one with the largest
        Kolmogorov-Smirnov distance.
        """
        known = [
            column
            for column in self.columns
            if column.drifted and column.ks is not None and math.isfinite(column.ks)
        ]
        return max(known, key=lambda column: column.ks, default=None)


class Reign(BaseModel):
    """One change of champion, as the registry keeps it."""

    version: int
    previous: int | None = None
    when: Moment
    who: str
    why: str = ""


@dataclass(frozen=True)
class Review:
    """Everything readable in the folder, newest first (champions: oldest first), and what could not be read
    as (file, what is wrong).
    """

    decisions: list[Decision]
    words: list[Word]
    drift: dict[str, Drift]
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


def read_review(folder: Path) -> Review:
    """Read the whole review folder; a missing one is an empty one."""
    problems: list[tuple[str, str]] = []
    decisions = [entry for _, entry in _entries(folder, f"{DECISIONS}/*.json", Decision, problems)]
    words = [entry for _, entry in _entries(folder, f"{WORDS}/*.json", Word, problems)]
    drift = {
        path.parent.name: entry for path, entry in _entries(folder, f"{DRIFT}/*/drift.json", Drift, problems)
    }
    champions = (
        _read(folder, folder / CHAMPIONS, list[Reign], problems) if (folder / CHAMPIONS).exists() else None
    )
    return Review(
        decisions=sorted(decisions, key=lambda decision: (decision.when, decision.id), reverse=True),
        words=sorted(words, key=lambda word: (word.when, word.id), reverse=True),
        drift=drift,
        champions=sorted(champions or [], key=lambda reign: reign.when),
        problems=problems,
    )


EntryT = TypeVar("EntryT")


def _entries(
    folder: Path, pattern: str, kind: type[EntryT], problems: list[tuple[str, str]]
) -> Iterator[tuple[Path, EntryT]]:
    """Every readable file of a kind; names that start with a dot are files that are being written."""
    for path in sorted(folder.glob(pattern)):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            entry = _read(folder, path, kind, problems)
            if entry is not None:
                yield path, entry


def _read(folder: Path, path: Path, kind: Any, problems: list[tuple[str, str]]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"
    except OSError as error:
        found = error.strerror or str(error)
    except (ValueError, RecursionError, OverflowError) as error:
        found = f"not JSON: {error}"
    problems.append((path.relative_to(folder).as_posix(), found))
    return None
