"""Puts a check's drift report into the review folder, with the list of champions, and clears away old
pictures.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.contracts import atomic_path, atomic_write_text
from components.page import escape

DRIFT, CHAMPIONS = "drift", "champions.json"
PAGE, PICTURES = "index.html", "evidently.html"


def publish_report(drift: Path, review: Path, identifier: str) -> str | None:
    """Copy the drift stage's folder to `drift/<identifier>/`; returns its page's path relative to the review
    folder, None where nothing was drawn.
    """
    with atomic_path(review / DRIFT / identifier) as temporary:
        shutil.copytree(drift, temporary)
    return f"{DRIFT}/{identifier}/{PAGE}" if (drift / PAGE).exists() else None


def tell_decision(page: Path, decision: Mapping[str, Any]) -> None:
    """Write a decision, and its outcome where it has one, into the place that the drift report
    keeps for it.
    """
    if not page.exists():
        return
    who = decision["who"] or f"rule ({', '.join(decision['rules']) or 'none fired'})"
    lines = [
        f"<p><b>{escape(decision['action'].replace('_', ' '))}</b> by {escape(who)},"
        f" {escape(decision['when'])}: {escape(decision['reason'])}</p>"
    ]
    outcome = decision["outcome"]
    if outcome:
        lines.append(
            f'<p class="soft">{escape(outcome["when"])}: {escape(outcome["status"].replace("_", " "))}.'
            f" {escape(outcome['reason'])}</p>"
        )
    text = "".join(lines)
    before = page.read_text(encoding="utf-8")
    after = re.sub(
        "<!--decision-->.*?<!--/decision-->",
        lambda _: f"<!--decision-->{text}<!--/decision-->",
        before,
        count=1,
        flags=re.DOTALL,
    )
    if after != before:
        atomic_write_text(page, after)


def write_champions(history: Sequence[dict[str, Any]], review: Path) -> None:
    """Write who was champion when, oldest first, as the registry tells it."""
    atomic_write_text(review / CHAMPIONS, json.dumps(list(history), indent=1))


def clear_pictures(review: Path, keep: int) -> None:
    """Remove Evidently's pages but for the newest `keep`; summaries and numbers stay."""
    for old in sorted((review / DRIFT).glob(f"*/{PICTURES}"))[:-keep]:
        old.unlink(missing_ok=True)
