"""What `alphaloop review` does: adds a reviewer's word to the audit trail, shows the newest decisions, and
renews the review page.
"""

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from components.contracts import AlphaloopError
from components.contracts.documents.fields import to_second
from components.contracts.documents.retraining import Decision, Word
from components.lasting.file_systems import LastingError
from components.lasting.folder import LastingFolder, below, is_address
from components.progress import warn
from components.retraining.page import PAGE, write_review_page
from components.retraining.reports import write_champions
from components.retraining.review_folder import opened_review
from components.retraining.trail import append_word, read_trail
from pipelines.config import Config
from pipelines.lasting import lasting_here

# What any run or materialisation leaves, of which one shows that an address is that of a run.
SIGNS_OF_A_RUN = ("summary.json", "failure.html", "feature_store/current.json", "review/index.html")
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
    with review_of(config) as review:
        entry = append_word(review, who=who or user_name(), word=word, reason=reason)
        write_review_page(review)
    return (
        f"{entry.who} said {word} at {to_second(entry.when)}. {MEANING[word]}\nReview page: {_page(config)}"
    )


def show_review(config: Config, *, newest: int = 15) -> tuple[Table, str]:
    """The newest decisions and words as a table, and where the review page lies, written anew."""
    with review_of(config) as review:
        trail = read_trail(review)
        _renew_champions(config, review)
        write_review_page(review)
    entries = sorted([*trail.decisions, *trail.words], key=lambda entry: entry.id)[-newest:]
    table = Table(
        title=f"{len(trail.decisions)} decisions, {len(trail.words)} words; the newest {len(entries)}",
        title_justify="left",
    )
    for name in ("when (UTC)", "what", "by", "rules", "why", "outcome"):
        table.add_column(name, overflow="fold")
    for entry in reversed(entries):
        table.add_row(*(_decision_row(entry) if isinstance(entry, Decision) else _word_row(entry)))
    return table, _page(config)


def renew_page(config: Config) -> None:
    """Write the review page anew after a change of champion, where there is one; where it can't be, that is
    told: the champion has changed all the same.
    """
    try:
        with review_of(config) as review:
            if review.is_dir() and any(review.iterdir()):
                _renew_champions(config, review)
                write_review_page(review)
    except LastingError as error:
        warn("review", f"the review page still shows the champion before: {error}")


@contextlib.contextmanager
def review_of(config: Config) -> Iterator[Path]:
    """The folder with the audit trail and the review page of a run, to read and to write.

    Raises
    ------
    ReviewError
        If there is no such run: a hold in the wrong folder would hold nothing.
    """
    kept = lasting_here(config)
    there = LastingFolder.at(kept).names(SIGNS_OF_A_RUN) if is_address(kept) else Path(kept).is_dir()
    if not there:
        raise ReviewError(
            f"There is no run in {kept}. Give the config, and the --set run.folder=... or run.store=...,"
            " of the"
            " run that you mean."
        )
    with opened_review(kept) as review:
        yield review


def _page(config: Config) -> str:
    return below(lasting_here(config), f"review/{PAGE}")


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
        client = open_existing(config.registry, Path(config.run.folder).absolute() / "registry")
        history = champion_history(client, config.run.name)
        write_champions(history, review)
