"""What retraining keeps and hands over: decisions, their outcomes, and reviewers' words."""

from typing import Literal

from components.contracts.documents import Document, Part
from components.contracts.documents.fields import Moment, Second

__all__ = ["Decision", "Incumbent", "LookedAt", "Outcome", "Word"]


class LookedAt(Part):
    """The data of a check: what was served, and the market."""

    rows: int | None
    bars: int | None
    first: Moment | None
    last: Moment | None
    source: str | None
    current_sha256: str
    panel_sha256: str
    source_sha256: str  # empty where the market's source can't be seen
    newest_bar: Moment


class Incumbent(Part):
    """The champion at the time of a decision; null where there was none."""

    version: int | None
    bundle_sha256: str | None


class Outcome(Part):
    """How the retraining of a decision ended: promoted, kept_champion or rejected."""

    when: Second
    status: str
    version: int | None
    champion_before: int | None
    champion_after: int | None
    reason: str


class Decision(Document):
    """What was decided on one check, by which rule or person, and what came of it."""

    format: Literal[1] = 1
    id: str
    when: Second
    # retrain, resume, none, held, cooling_down, waiting_for_approval, not_enough_data; advised where a
    # retraining is called for, by a check that trains nothing
    action: str
    by: str  # rule or reviewer
    who: str | None  # the reviewer
    reason: str
    rules: tuple[str, ...]  # those that fired
    data: LookedAt
    champion: Incumbent
    resumes: str | None = None  # the decision that is resumed; only where `action` is resume
    drift_report: str | None  # its page, relative to the review folder
    outcome: Outcome | None

    @property
    def retrains(self) -> bool:
        """Whether a retraining is begun or taken up again."""
        return self.action in ("retrain", "resume")


class Word(Document):
    """What a reviewer said, and why."""

    format: Literal[1] = 1
    id: str
    when: Second
    who: str
    word: str  # hold, force, approve
    reason: str
