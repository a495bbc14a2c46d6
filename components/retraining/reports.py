"""Puts a check's drift report into the review folder, with the list of champions, and clears away old
pictures.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from components.contracts import atomic_path, atomic_write_text
from components.contracts.documents.champion import Reign
from components.contracts.documents.fields import to_second
from components.contracts.documents.retraining import Decision
from components.page import render

DRIFT, CHAMPIONS = "drift", "champions.json"
PAGE, PICTURES = "index.html", "evidently.html"
# The drift report's page keeps a place for the decision between these two.
OPENING, CLOSING = "<!--decision-->", "<!--/decision-->"


def publish_report(drift: Path, review: Path, identifier: str) -> str | None:
    """Copy the drift stage's folder to `drift/<identifier>/`; returns its page's path relative to the review
    folder, None where nothing was drawn.
    """
    with atomic_path(review / DRIFT / identifier) as temporary:
        shutil.copytree(drift, temporary)
    return f"{DRIFT}/{identifier}/{PAGE}" if (drift / PAGE).exists() else None


def tell_decision(page: Path, decision: Decision) -> None:
    """Write a decision, and its outcome where it has one, into the place that the drift report
    keeps for it.
    """
    if not page.exists():
        return
    before, opening, rest = page.read_text(encoding="utf-8").partition(OPENING)
    told, closing, after = rest.partition(CLOSING)
    text = render("retraining/decision.html", decision=decision, second=to_second)
    if closing and told != text:
        atomic_write_text(page, f"{before}{opening}{text}{closing}{after}")


def write_champions(history: Sequence[Reign], review: Path) -> None:
    """Write who was champion when, oldest first, as the registry tells it."""
    atomic_write_text(
        review / CHAMPIONS, json.dumps([reign.model_dump(mode="json") for reign in history], indent=1)
    )


def clear_pictures(review: Path, keep: int) -> None:
    """Remove Evidently's pages but for the newest `keep`; summaries and numbers stay."""
    for old in sorted((review / DRIFT).glob(f"*/{PICTURES}"))[:-keep]:
        old.unlink(missing_ok=True)
