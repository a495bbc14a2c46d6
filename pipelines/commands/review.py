"""What `alphaloop review` does: adds a reviewer's word to the audit trail, shows the newest decisions, and
renews the review page.
"""

import contextlib
import getpass
import os
from pathlib import Path

from rich.table import Table

from components.contracts import AlphaloopError
from components.contracts.documents.fields import to_second
from components.contracts.documents.retraining import Decision, Word
from components.retraining.page import write_review_page
from components.retraining.reports import write_champions
from components.retraining.trail import append_word, read_trail
from pipelines.config import Config

USER_VARIABLE = "ALPHALOOP_USER"
MEANING = {
    "hold": "No retraining starts until a reviewer says approve or force.",
    "force": "The next check retrains, whatever the drift says.",
    "approve": "A hold is lifted, and a retraining that waits for approval goes ahead with the next check.",
}


class ReviewError(AlphaloopError):
    """There is nothing to review."""


def say_word(config: Config, word: str, reason: str, *, who: str | None = None) -> str:
    """Add `hold`, `force` or `approve` to the audit trail; returns what to tell the user.

    Raises
    ------
    ReviewError, TrailError
        If there is no such run; if the word is unknown or has no reason.
    """
    review = review_folder(config)
    entry = append_word(review, who=who or user_name(), word=word, reason=reason)
    page = write_review_page(review)
    return f"{entry.who} said {word} at {to_second(entry.when)}. {MEANING[word]}\nReview page: {page}"


def show_review(config: Config, *, newest: int = 15) -> tuple[Table, Path]:
    """The newest decisions and words as a table, and the review page, written anew."""
    review = review_folder(config)
    trail = read_trail(review)
    _renew_champions(config, review)
    entries = sorted([*trail.decisions, *trail.words], key=lambda entry: entry.id)[-newest:]
    table = Table(
        title=f"{len(trail.decisions)} decisions, {len(trail.words)} words; the newest {len(entries)}",
        title_justify="left",
    )
    for name in ("when (UTC)", "what", "by", "rules", "why", "outcome"):
        table.add_column(name, overflow="fold")
    for entry in reversed(entries):
        table.add_row(*(_decision_row(entry) if isinstance(entry, Decision) else _word_row(entry)))
    return table, write_review_page(review)


def renew_page(config: Config) -> None:
    """Write the review page anew after a change of champion, where there is one."""
    review = review_folder(config)
    if review.is_dir():
        _renew_champions(config, review)
        write_review_page(review)


def review_folder(config: Config) -> Path:
    """Where the audit trail and the review page of a run lie.

    Raises
    ------
    ReviewError
        If there is no such run: a hold in the wrong folder would hold nothing.
    """
    folder = Path(config.run.folder).absolute()
    if not folder.is_dir():
        raise ReviewError(
            f"There is no run in {folder}. Give the config, and the --set run.folder=..., of the run that you"
            " mean."
        )
    return folder / "review"


def user_name() -> str:
    """ALPHALOOP_USER, else the login name."""
    try:
        return os.environ.get(USER_VARIABLE, "").strip() or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _decision_row(made: Decision) -> tuple[str, ...]:
    outcome = made.outcome
    ended = (
        f"{outcome.status}: champion {outcome.champion_before} → {outcome.champion_after}"
        if outcome
        else "open"
        if made.action == "retrain"
        else ""
    )
    by = made.who or made.by
    return _time(made), made.action, by, ", ".join(made.rules), _plain(made.reason), ended


def _word_row(said: Word) -> tuple[str, ...]:
    return _time(said), f"[bold]{said.word}[/]", said.who, "", _plain(said.reason), ""


def _time(entry: Decision | Word) -> str:
    return f"{entry.when:%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _renew_champions(config: Config, review: Path) -> None:
    """Write the champions as the registry has them now; where it does not answer, those of the last check
    stand.
    """
    from components.registry.aliases import champion_history
    from components.registry.client import RegistryError, open_existing

    with contextlib.suppress(RegistryError):
        client = open_existing(config.registry, review.parent / "registry")
        history = champion_history(client, config.run.name)
        write_champions(history, review)
